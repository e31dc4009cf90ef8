"""Second factors after a mail or a provider, in JSON and on the pages: any of them, on devices that may be
trusted; and what a sign-in connects only once it is complete."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, SecurityEvent, include_auth
from fastapi_pluggable_auth.features import EmailSignIn, Oidc, Passkeys, SocialLogin
from fastapi_pluggable_auth.features.passkeys.testing import SoftwareAuthenticator
from fastapi_pluggable_auth.features.social_login.models import digest_of
from fastapi_pluggable_auth.features.social_login.names import IdentityLinked
from fastapi_pluggable_auth.features.social_login.states import s256
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.models import Identity, Session, User

from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox, claims_of, on_each_database
from .form_browser import BROWSER, FormBrowser, Page
from .test_email_sign_in import ask, link_in
from .test_passkeys import Keys
from .test_social_address import code_in
from .test_social_login import at_provider, provider
from .test_twofa import totp

__all__ = ["provider", "totp"]

DIALECTS = ("sqlite",)
BASE = "http://localhost:8000"
VERIFIER = "v" * 43


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    settings.trusted_device_ttl = timedelta(days=14)
    return settings


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, provider: IdentityProvider) -> FastAPI:
    provider.clock = lambda: clock().timestamp()
    provider.user(EMAIL, sub="ada")
    app = FastAPI()
    keys = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    acme = Oidc("acme", issuer=provider.issuer, store_tokens=True, trusted_for_two_factor=True, **keys)
    features = [Passkeys(), EmailSignIn(), SocialLogin(acme)]
    auth = include_auth(app, settings=settings, clock=clock, pages=True, features=features)
    auth.features.settings[1].social_return_url = "https://app.example.com/in"  # type: ignore[attr-defined]
    return app


@pytest.fixture
async def browser(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[FormBrowser]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as browser:
        yield FormBrowser(browser)


@pytest.fixture
def keys(account: Account) -> Keys:
    return Keys(account, SoftwareAuthenticator(BASE))


class Elsewhere:
    """A client that signs in without a password: each way gives what it sends, which is good until a sign-in
    is complete."""

    def __init__(self, client: httpx.AsyncClient, browser: FormBrowser, provider: IdentityProvider) -> None:
        self.client, self.browser, self.provider = client, browser, provider

    async def code(self, mailbox: Mailbox) -> tuple[str, dict[str, Any]]:
        challenge = await ask(self.client)
        return "/auth/email-sign-in/code", {"challenge": challenge, "code": code_in(mailbox, EMAIL)}

    async def link(self, mailbox: Mailbox) -> tuple[str, dict[str, Any]]:
        await ask(self.client)
        return link_in(mailbox), {}

    async def id_token(self, mailbox: Mailbox) -> tuple[str, dict[str, Any]]:
        nonce = (await self.client.post("/auth/social/acme/nonce")).json()["nonce"]
        return "/auth/social/acme/token", {"id_token": self.provider.id_token(nonce), "nonce": nonce}

    async def exchange(self, mailbox: Mailbox) -> tuple[str, dict[str, Any]]:
        said = parse_qs(urlsplit(await self._back()).query)
        body = {"social_code": said["social_code"][0], "code_verifier": VERIFIER}
        return "/auth/social/exchange", body

    async def address(self, mailbox: Mailbox) -> tuple[str, dict[str, Any]]:
        self.provider.user(None, sub="ada")
        said = parse_qs(urlsplit(await self._back()).query)
        body = {"social_address": said["social_address"][0], "email": EMAIL}
        challenge = (await self.client.post("/auth/social/address", json=body)).json()["challenge"]
        code = {"challenge": challenge, "code": code_in(mailbox, EMAIL), "code_verifier": VERIFIER}
        return "/auth/social/address/code", code

    async def _back(self) -> str:
        begun = await self.browser.client.get(
            "/auth/social/acme/start", params={"code_challenge": s256(VERIFIER)}
        )
        back = await self.browser.client.get(await at_provider(begun.headers["location"]))
        return str(back.headers["location"])


WAYS: dict[str, Callable[[Elsewhere, Mailbox], Awaitable[tuple[str, dict[str, Any]]]]] = {
    "mailed code": Elsewhere.code,
    "mailed link": Elsewhere.link,
    "token of a provider": Elsewhere.id_token,
    "code of a callback": Elsewhere.exchange,
    "address": Elsewhere.address,
}
AT_A_PROVIDER = ("token of a provider", "code of a callback", "address")


@pytest.fixture
def elsewhere(client: httpx.AsyncClient, browser: FormBrowser, provider: IdentityProvider) -> Elsewhere:
    return Elsewhere(client, browser, provider)


def code_field(path: str) -> str:
    """What the body calls the code of an authenticator app."""
    return "second_code" if path.endswith("/code") else "code"


@pytest.mark.parametrize("way", WAYS)
async def test_a_passkey_answers_after_any_first_factor_and_the_device_may_be_trusted(
    way: str, elsewhere: Elsewhere, keys: Keys, mailbox: Mailbox
) -> None:
    """What a browser needs for it comes with the refusal: to who has shown the first factor, and nobody
    else."""
    assert (await keys.add(second_factor=True)).status_code == 201
    path, body = await WAYS[way](elsewhere, mailbox)
    before = await Session.all().count()
    needed = (await keys.client.post(path, json=body)).json()
    assert needed["code"] == "two_factor_required"
    (known,) = needed["options"]["passkey"]["allowCredentials"]
    assert known["id"] == keys.authenticator.get(needed["options"]["passkey"])["id"]
    assert await Session.all().count() == before
    second = {"passkey": keys.authenticator.get(needed["options"]["passkey"])}
    answer = await keys.client.post(path, json={**body, **second, "device": None, "trust_device": True})
    assert answer.status_code == 200, answer.text
    assert claims_of(answer.json()["access_token"])["amr"][-1] == "passkey"
    again = await keys.client.post(path, json={**body, **second})
    assert again.status_code in (400, 401), "what it was begun with is spent"
    if way == "address":  # for which nobody who is known is asked
        return
    path, body = await WAYS[way](elsewhere, mailbox)
    answer = await keys.client.post(path, json={**body, "device": answer.json()["device"]})
    assert claims_of(answer.json()["access_token"])["amr"][-1] == "device"


async def test_without_a_passkey_there_are_no_options(totp: pyotp.TOTP, account: Account) -> None:
    answer = await account.login()
    assert (answer.status_code, answer.json().keys()) == (401, {"detail", "code"})


async def test_a_wrong_code_of_a_mail_gets_no_options(keys: Keys, mailbox: Mailbox) -> None:
    """No list of credentials by address (section 14.6.3)."""
    assert (await keys.add(second_factor=True)).status_code == 201
    challenge = await ask(keys.client)
    wrong = "000000" if code_in(mailbox, EMAIL) != "000000" else "000001"
    body = {"challenge": challenge, "code": wrong}
    answer = await keys.client.post("/auth/email-sign-in/code", json=body)
    assert (answer.status_code, answer.json().keys()) == (400, {"detail", "code"})
    login = {"email": EMAIL, "password": "wrong horse battery"}
    answer = await keys.client.post("/auth/login", json=login)
    assert (answer.status_code, answer.json().keys()) == (401, {"detail", "code"})


async def test_a_login_is_confirmed_again_with_the_options_of_the_refusal(keys: Keys) -> None:
    assert (await keys.add(second_factor=True)).status_code == 201
    body = {"password": PASSWORD}
    needed = (await keys.ask("POST", "/auth/reauthenticate", body)).json()
    shown = {**body, "passkey": keys.authenticator.get(needed["options"]["passkey"])}
    assert (await keys.ask("POST", "/auth/reauthenticate", shown)).status_code == 200
    again = await keys.ask("POST", "/auth/reauthenticate", shown)
    assert (again.status_code, again.json()["code"]) == (400, "passkey_expired")


@pytest.mark.parametrize("how", ["passkey", "provider"])
async def test_after_a_trusted_device_a_login_is_recent_once_what_needs_no_second_factor_was_shown(
    how: str,
    totp: pyotp.TOTP,
    keys: Keys,
    elsewhere: Elsewhere,
    clock: Clock,
    mailbox: Mailbox,
    provider: IdentityProvider,
) -> None:
    assert (await keys.add()).status_code == 201
    path, body = await elsewhere.id_token(mailbox)
    shown = {**body, "code": totp.at(clock()), "device": None, "trust_device": True}
    device = (await keys.client.post(path, json=shown)).json()["device"]
    path, body = await elsewhere.id_token(mailbox)
    spared = (await keys.client.post(path, json={**body, "device": device})).json()["access_token"]
    assert claims_of(spared)["amr"] == ["acme", "device"]
    keys.account.access_token = spared
    assert (await keys.ask("POST", "/account/passkeys/options", {})).json()["code"] == (
        "reauthentication_required"
    )
    if how == "passkey":
        options = await keys.options("/auth/passkey/reauthenticate/options")
        credential = {"credential": keys.authenticator.get(options)}
        again = await keys.ask("POST", "/auth/passkey/reauthenticate", credential)
    else:
        provider.extra = {"amr": ["mfa"]}
        begun = await keys.ask("POST", "/account/identities/acme/reauthenticate", {})
        assert begun.status_code == 200, begun.text
        again = await keys.client.get(await at_provider(begun.json()["url"]))
    assert again.status_code in (200, 303), again.text
    assert (await keys.ask("POST", "/account/passkeys/options", {})).status_code == 200


async def test_the_same_answer_of_a_key_that_counts_is_no_copy_of_it(keys: Keys, mailbox: Mailbox) -> None:
    """A request that a client sends twice; else its owner would get a mail of a twin (section 6.1.1)."""
    assert (await keys.add()).status_code == 201
    (stored,) = keys.authenticator.credentials.values()
    stored.counter = 7
    options = await keys.options("/auth/passkey/options")
    body = {"credential": keys.authenticator.get(options)}
    assert (await keys.client.post("/auth/passkey/login", json=body)).status_code == 200
    mailbox.clear()
    again = await keys.client.post("/auth/passkey/login", json=body)
    assert (again.status_code, again.json()["code"]) == (400, "passkey_expired")
    assert mailbox.messages == []


# On the pages


async def to_the_code_page(browser: FormBrowser) -> Page:
    for cookie in [*browser.client.cookies.jar]:
        if "device" not in cookie.name:
            browser.client.cookies.delete(cookie.name)
    await browser.open("/account/sign-in")
    return await browser.submit("password", email=EMAIL, password=PASSWORD)


async def shown_on_page(browser: FormBrowser, keys: Keys, **more: str) -> Page:
    """Does what the script does."""
    form = browser.page.form("sign-in/code")
    path = "/account/sign-in/code/passkey/options"
    headers = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
    options = (await browser.client.post(path, data=form.hidden, headers=headers)).json()
    return await browser.submit("sign-in/code", answer=json.dumps(keys.authenticator.get(options)), **more)


async def test_the_box_beside_a_passkey_makes_the_browser_trusted(
    keys: Keys, browser: FormBrowser, clock: Clock
) -> None:
    assert (await keys.add(second_factor=True)).status_code == 201
    page = await to_the_code_page(browser)
    assert page.one("input", name="trust")["type"] == "checkbox"
    assert "trust" in page.form("sign-in/code").fields
    await shown_on_page(browser, keys)
    assert "/sign-in" in (await to_the_code_page(browser)).path, "the box was not ticked"
    await shown_on_page(browser, keys, trust="yes")
    assert "/sign-in" not in (await to_the_code_page(browser)).path
    clock.advance(days=15)
    assert "/sign-in" in (await to_the_code_page(browser)).path


async def test_where_there_are_codes_as_well_one_box_is_for_both(
    totp: pyotp.TOTP, account: Account, browser: FormBrowser, clock: Clock
) -> None:
    """The script takes along what is filled in above, but for the codes."""
    clock.advance(minutes=1)
    assert (await account.login(totp.at(clock()))).status_code == 200
    assert (await Keys(account, SoftwareAuthenticator(BASE)).add()).status_code == 201
    page = await to_the_code_page(browser)
    assert len([each for tag, each in page.tags if tag == "input" and each.get("name") == "trust"]) == 1
    assert page.one("form", **{"data-passkey": "get"})["data-all-but"] == "code recovery_code"


# What a sign-in connects


async def by_page(browser: FormBrowser) -> Page:
    begun = await browser.client.get("/auth/social/acme/start")
    browser.page = Page(await browser.client.get(await at_provider(begun.headers["location"])))
    return browser.page


@on_each_database
async def test_an_identity_that_is_new_is_connected_with_the_second_factor_and_not_before(
    totp: pyotp.TOTP, account: Account, auth: Auth, browser: FormBrowser, clock: Clock, mailbox: Mailbox
) -> None:
    """Else who has the mailbox would have an identity on an account whose second factor they cannot show."""
    linked: list[IdentityLinked[User]] = []
    auth.on(IdentityLinked)(linked.append)
    events: list[SecurityEvent] = []
    auth.on(SecurityEvent)(events.append)
    mailbox.clear()
    clock.advance(minutes=1)
    page = await by_page(browser)
    await browser.submit("sign-in/code", code="000000")
    assert (await Identity.all().count(), mailbox.messages, linked) == (0, [], [])
    assert "identity_linked" not in {event.kind for event in events}
    page = await browser.submit("sign-in/code", code=totp.at(clock()))
    assert page.status == 200, page.text
    identity = await Identity.get()
    assert (identity.user_id, identity.vouched, identity.held_since) == ((await User.get()).id, True, None)
    assert [event.identity_id for event in linked] == [identity.id]
    assert [event.kind for event in events].count("identity_linked") == 1
    assert [message["To"] for message in mailbox.messages] == [EMAIL]
    assert await auth.provider_token(await User.get(), "acme")
    assert (await Session.all().order_by("-created_at").first()).factors == "acme otp"  # type: ignore[union-attr]


@pytest.mark.parametrize("way", AT_A_PROVIDER)
async def test_so_it_is_in_json_with_the_tokens_that_the_provider_gave(
    way: str,
    totp: pyotp.TOTP,
    elsewhere: Elsewhere,
    account: Account,
    auth: Auth,
    clock: Clock,
    mailbox: Mailbox,
) -> None:
    clock.advance(minutes=1)
    path, body = await WAYS[way](elsewhere, mailbox)
    for given in ({}, {code_field(path): "000000"}):
        assert (await account.client.post(path, json={**body, **given})).status_code == 401
    assert await Identity.all().count() == 0
    right = {**body, code_field(path): totp.at(clock())}
    answer = await account.client.post(path, json=right)
    assert answer.status_code == 200, answer.text
    assert (await Identity.get()).user_id == (await User.get()).id
    if way != "token of a provider":  # which comes without one that is for the provider
        assert await auth.provider_token(await User.get(), "acme")


@pytest.mark.parametrize("way", [*AT_A_PROVIDER, "page"])
async def test_the_second_factor_of_a_stranger_at_a_trusted_provider_is_not_that_of_the_owner(
    way: str,
    totp: pyotp.TOTP,
    elsewhere: Elsewhere,
    account: Account,
    clock: Clock,
    mailbox: Mailbox,
    provider: IdentityProvider,
) -> None:
    """Who has the owner's mailbox gets an account there with the address, and a second factor of their own.
    From the first sign-in that the owner has completed on, it is the owner's."""
    clock.advance(minutes=1)
    provider.extra = {"amr": ["pwd", "mfa"]}
    if way == "page":
        await by_page(elsewhere.browser)
        assert elsewhere.browser.page.form("sign-in/code")
        assert await Identity.all().count() == 0
        await elsewhere.browser.submit("sign-in/code", code=totp.at(clock()))
    else:
        path, body = await WAYS[way](elsewhere, mailbox)
        refused = await account.client.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (401, "two_factor_required")
        assert await Identity.all().count() == 0
        right = {**body, code_field(path): totp.at(clock())}
        assert (await account.client.post(path, json=right)).status_code == 200
    assert await Identity.all().count() == 1
    path, body = await elsewhere.id_token(mailbox)
    assert (await account.client.post(path, json=body)).status_code == 200


@on_each_database
async def test_of_many_first_sign_ins_at_once_one_connects_the_identity_and_all_are_signed_in(
    elsewhere: Elsewhere, account: Account, mailbox: Mailbox
) -> None:
    mailbox.clear()
    ready = [await elsewhere.id_token(mailbox) for _ in range(6)]
    answers = await asyncio.gather(*(account.client.post(path, json=body) for path, body in ready))
    assert [answer.status_code for answer in answers] == [200] * 6, [answer.text for answer in answers]
    assert await Identity.all().count() == 1
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize("change", ["address", "identity of another", "held"])
async def test_what_has_changed_since_the_first_factor_connects_nothing(
    change: str,
    totp: pyotp.TOTP,
    account: Account,
    auth: Auth,
    browser: FormBrowser,
    clock: Clock,
    provider: IdentityProvider,
) -> None:
    clock.advance(minutes=1)
    await by_page(browser)
    before = await Session.all().count()
    user = await User.get()
    if change == "address":
        await User.all().update(email="other@example.com")
    else:
        owner = user if change == "held" else await User.create(email="eve@example.com", hashed_password="x")
        digest = digest_of(provider.issuer, "ada")
        held = clock() if change == "held" else None
        there = {"provider": "acme", "issuer": provider.issuer, "subject": "ada", "digest": digest}
        await Identity.create(user_id=owner.id, held_since=held, **there)
    identities = await Identity.all().count()
    page = await browser.submit("sign-in/code", code=totp.at(clock()))
    assert page.status == 400, page.text
    assert await Session.all().count() == before
    assert await Identity.all().count() == identities


async def test_who_has_shown_an_address_has_the_tokens_kept_at_once_until_they_end(
    elsewhere: Elsewhere, auth: Auth, clock: Clock, mailbox: Mailbox, provider: IdentityProvider
) -> None:
    """Counted from when the provider gave them, not from the code of the mail."""
    path, body = await elsewhere.address(mailbox)
    clock.advance(minutes=9)
    assert (await elsewhere.client.post(path, json=body)).status_code == 200
    user, renewed = await User.get(), provider.token
    asked: list[dict[str, str]] = []

    def token(sent: dict[str, str]) -> dict[str, Any]:
        asked.append(sent)
        return renewed(sent)

    provider.token = token  # type: ignore[method-assign]
    assert await auth.provider_token(user, "acme")
    clock.advance(minutes=49)
    assert await auth.provider_token(user, "acme")
    assert asked == []
    clock.advance(minutes=2)
    assert await auth.provider_token(user, "acme")
    assert [sent["grant_type"] for sent in asked] == ["refresh_token"]
