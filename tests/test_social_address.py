"""Social login without an address that the provider vouches for: a code by mail shows whose it is."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.features.social_login.states import s256
from fastapi_pluggable_auth.features.social_login.testing import IdentityProvider
from fastapi_pluggable_auth.models import Identity, Pending, Session, User

from .conftest import EMAIL, SECRET, Account, Clock, Mailbox, on_each_database
from .test_social_login import KIM, app, browser, come_back, provider
from .test_twofa import totp

__all__ = ["app", "browser", "provider", "totp"]

DIALECTS = ("sqlite",)


def code_in(mailbox: Mailbox, to: str) -> str:
    newest = [mail for mail in mailbox.messages if mail["To"] == to][-1]
    body = newest.get_body(("plain",))
    assert body is not None
    found = re.search(r"^([0-9]{6})\s*$", body.get_content(), re.MULTILINE)
    assert found, body.get_content()
    return found[1]


def hidden(page: httpx.Response, action: str) -> dict[str, str]:
    form = re.split(rf'action="{action}(?:\?[^"]*)?"', page.text)[1].split("</form>")[0]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


async def shown_address(
    browser: httpx.AsyncClient, mailbox: Mailbox, email: str, code: str | None = None
) -> httpx.Response:
    """Through both pages."""
    page = await come_back(browser, next="/notes")
    assert "Your e-mail address" in page.text
    address = "/account/sign-in/social/address"
    page = await browser.post(address, data={**hidden(page, address), "email": email})
    assert page.status_code == 200, page.text
    fields = hidden(page, "/account/sign-in/social/code")
    return await browser.post(
        "/account/sign-in/social/code", data={**fields, "code": code or code_in(mailbox, email)}
    )


@on_each_database
@pytest.mark.parametrize("said", [None, KIM])
async def test_somebody_new_shows_an_address_and_gets_an_account(
    said: str | None, browser: httpx.AsyncClient, mailbox: Mailbox, provider: IdentityProvider
) -> None:
    provider.user(said, email_verified=False, sub="kim")
    answer = await shown_address(browser, mailbox, KIM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/notes"), answer.text
    user = await User.get()
    assert (user.email, user.is_verified) == (KIM, True)
    assert (await Session.get()).factors == "acme mail"
    assert (await Identity.get()).vouched


@on_each_database
async def test_the_owner_of_an_account_connects_it_by_the_code(
    browser: httpx.AsyncClient, account: Account, mailbox: Mailbox, provider: IdentityProvider
) -> None:
    provider.user(EMAIL, email_verified=False)
    wrong = await shown_address(browser, mailbox, EMAIL, code="000000")
    assert wrong.status_code == 400
    assert await Identity.all().count() == 0
    answer = await shown_address(browser, mailbox, EMAIL)
    assert answer.status_code == 303
    assert (await Identity.get().select_related("user")).user.email == EMAIL


async def test_five_codes_are_looked_at(
    browser: httpx.AsyncClient, mailbox: Mailbox, provider: IdentityProvider
) -> None:
    provider.user(None, sub="kim")
    page = await come_back(browser)
    address, code = "/account/sign-in/social/address", "/account/sign-in/social/code"
    page = await browser.post(address, data={**hidden(page, address), "email": KIM})
    right = code_in(mailbox, KIM)
    wrong = "000000" if right != "000000" else "000001"
    fields = hidden(page, code)
    for _ in range(5):
        assert (await browser.post(code, data={**fields, "code": wrong})).status_code == 400
    assert (await browser.post(code, data={**fields, "code": right})).status_code == 400
    assert await User.all().count() == 0


async def test_a_row_that_waits_shows_no_code_no_address_and_nobody(
    browser: httpx.AsyncClient, mailbox: Mailbox, provider: IdentityProvider
) -> None:
    """ASVS 11.3.2; of each kind, also the code of a front end and the challenge of a second factor."""
    provider.user("kim@elsewhere.example.com", sub="subject-of-kim", name="Kim Lee", email_verified=False)
    page = await come_back(browser)
    address = "/account/sign-in/social/address"
    await browser.post(address, data={**hidden(page, address), "email": KIM})
    provider.user("lee@example.com", sub="subject-of-lee", name="Lee Kim")
    await come_back(browser, code_challenge=s256("v" * 43))
    rows = [row for row in await Pending.all() if row.spent_at is None]
    assert {row.kind for row in rows} == {"social_address", "social_code_mail", "social_code"}
    for row in rows:
        shown = str(dict(vars(row)))
        for said in (code_in(mailbox, KIM), KIM, "elsewhere", "subject", "Kim", "Lee", "acme", "localhost"):
            assert said not in shown


@pytest.mark.parametrize("change", ["another row", "another key", "not sealed"])
async def test_what_was_sealed_for_another_row_or_by_a_key_that_is_gone_is_begun_again(
    change: str,
    browser: httpx.AsyncClient,
    mailbox: Mailbox,
    provider: IdentityProvider,
    settings: AuthSettings,
) -> None:
    """Who can write into the database puts no identity in the place of another one."""
    address, pages = "/account/sign-in/social/address", []
    for sub in ("kim", "lee"):
        provider.user(None, sub=sub)
        pages.append(await come_back(browser))
    kim, lee = await Pending.filter(spent_at=None)
    if change == "another row":
        await Pending.filter(id=kim.id).update(data=lee.data)
        await Pending.filter(id=lee.id).update(data=kim.data)
    elif change == "not sealed":
        await Pending.all().update(data='{"provider": "acme"}')
    else:
        settings.jwt_previous_keys, settings.jwt_secret = [settings.jwt_secret], "n" * 3 + SECRET
        again = await browser.get("/account/sign-in")
        fields = {**hidden(pages[0], address), **hidden(again, "/account/sign-in"), "email": KIM}
        assert (await browser.post(address, data=fields)).status_code == 200  # an earlier key opens it
        settings.jwt_previous_keys = []
    again = await browser.get("/account/sign-in")
    for page in pages:
        fields = {**hidden(page, address), **hidden(again, "/account/sign-in"), "email": KIM}
        answer = await browser.post(address, data=fields)
        assert answer.headers["location"].startswith("/account/sign-in?notice=sign_in_again"), answer.text


async def test_a_front_end_asks_for_the_address(
    browser: httpx.AsyncClient,
    client: httpx.AsyncClient,
    app: Any,
    mailbox: Mailbox,
    provider: IdentityProvider,
) -> None:
    provider.user(None, sub="kim")
    auth = app.state.pluggable_auth
    auth.features.settings[0].social_return_url = "https://app.example.com/in"
    back = await come_back(browser, code_challenge=s256("v" * 43))
    token = parse_qs(urlsplit(back.headers["location"]).query)["social_address"][0]
    body = {"social_address": token, "email": KIM}
    sent = await client.post("/auth/social/address", json=body)
    assert sent.status_code == 202, sent.text
    answer = {"challenge": sent.json()["challenge"], "code": code_in(mailbox, KIM)}
    without = await client.post("/auth/social/address/code", json=answer)
    assert (without.status_code, without.json()["code"]) == (400, "social_expired")
    right = await client.post("/auth/social/address/code", json={**answer, "code_verifier": "v" * 43})
    assert right.status_code == 200, right.text
    again = await client.post("/auth/social/address/code", json={**answer, "code_verifier": "v" * 43})
    assert again.status_code in (400, 401)


async def test_a_second_factor_is_asked_for_and_the_code_is_not_spent_without_it(
    totp: pyotp.TOTP,
    browser: httpx.AsyncClient,
    client: httpx.AsyncClient,
    app: Any,
    clock: Clock,
    mailbox: Mailbox,
    provider: IdentityProvider,
) -> None:
    provider.user(None, sub="ada")
    app.state.pluggable_auth.features.settings[0].social_return_url = "https://app.example.com/in"
    back = await come_back(browser, code_challenge=s256("v" * 43))
    token = parse_qs(urlsplit(back.headers["location"]).query)["social_address"][0]
    sent = await client.post("/auth/social/address", json={"social_address": token, "email": EMAIL})
    body = {"challenge": sent.json()["challenge"], "code": code_in(mailbox, EMAIL), "code_verifier": "v" * 43}
    first = await client.post("/auth/social/address/code", json=body)
    assert (first.status_code, first.json()["code"]) == (401, "two_factor_required")
    wrong = await client.post("/auth/social/address/code", json={**body, "second_code": "000000"})
    assert wrong.status_code == 401
    code = totp.at(clock())
    right = await client.post("/auth/social/address/code", json={**body, "second_code": code})
    assert right.status_code == 200, right.text
    assert (await Session.all().order_by("-created_at").first()).factors == "acme mail otp"  # type: ignore[union-attr]
