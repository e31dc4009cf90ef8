"""Signing in by mail: with a code where it was asked for, or by a link and a button elsewhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import pyotp
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import EmailSignIn
from fastapi_pluggable_auth.models import Mail, Pending, Session, User

from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox, claims_of, on_each_database
from .test_social_address import code_in, hidden
from .test_twofa import totp

__all__ = ["totp"]

DIALECTS = ("sqlite",)
KIM = "kim@example.com"
BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    allowed = EmailSignIn(allowed=lambda user: user.display_name != "By password only")
    include_auth(app, settings=settings, clock=clock, pages=True, features=[allowed])
    return app


@pytest.fixture
async def browser(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    base = "http://localhost:8000"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=BROWSER) as browser:
        yield browser


async def ask(client: httpx.AsyncClient, email: str = EMAIL) -> str:
    answer = await client.post("/auth/email-sign-in", json={"email": email})
    assert answer.status_code == 202, answer.text
    challenge: str = answer.json()["challenge"]
    return challenge


async def enter(client: httpx.AsyncClient, challenge: str, code: str) -> httpx.Response:
    return await client.post("/auth/email-sign-in/code", json={"challenge": challenge, "code": code})


def link_in(mailbox: Mailbox, to: str = EMAIL) -> str:
    newest = [mail for mail in mailbox.messages if mail["To"] == to][-1]
    body = newest.get_body(("plain",))
    assert body is not None
    found = re.search(r"http://localhost:8000(/auth/email-sign-in/\S+)", body.get_content())
    assert found
    return found[1]


@on_each_database
async def test_a_code_signs_in_once_of_many_at_once(account: Account, mailbox: Mailbox) -> None:
    challenge = await ask(account.client)
    code = code_in(mailbox, EMAIL)
    before = await Session.all().count()
    answers = await asyncio.gather(*(enter(account.client, challenge, code) for _ in range(5)))
    (right,) = [answer for answer in answers if answer.status_code == 200]
    assert claims_of(right.json()["access_token"])["amr"] == ["mail"]
    assert await Session.all().count() == before + 1


async def test_of_a_thousand_guesses_five_are_looked_at(account: Account, mailbox: Mailbox) -> None:
    challenge = await ask(account.client)
    right = code_in(mailbox, EMAIL)
    guesses = [f"{number:06}" for number in range(100) if f"{number:06}" != right]
    answers = await asyncio.gather(*(enter(account.client, challenge, guess) for guess in guesses))
    assert {answer.status_code for answer in answers} == {400}
    assert (await Pending.get(kind="email_sign_in")).attempts == 5
    assert (await enter(account.client, challenge, right)).status_code == 400


async def test_nothing_tells_whether_there_is_an_account(account: Account, mailbox: Mailbox) -> None:
    known = await account.client.post("/auth/email-sign-in", json={"email": EMAIL})
    mailbox.clear()
    unknown = await account.client.post("/auth/email-sign-in", json={"email": KIM})
    assert (known.status_code, known.json().keys()) == (unknown.status_code, unknown.json().keys())
    assert len(known.json()["challenge"]) == len(unknown.json()["challenge"])
    assert mailbox.messages == []
    refused = await enter(account.client, unknown.json()["challenge"], "123456")
    assert refused.json()["code"] == "mailed_code_refused"


async def test_a_second_factor_is_still_asked_for_and_shown_with_the_same_code(
    totp: pyotp.TOTP, account: Account, clock: Clock, mailbox: Mailbox
) -> None:
    challenge = await ask(account.client)
    code, before = code_in(mailbox, EMAIL), await Session.all().count()
    answer = await enter(account.client, challenge, code)
    assert (answer.status_code, answer.json()["code"]) == (401, "two_factor_required")
    both = {"challenge": challenge, "code": code}
    wrong = await account.client.post("/auth/email-sign-in/code", json={**both, "second_code": "000000"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_credentials")
    assert await Session.all().count() == before
    clock.advance(seconds=30)
    both["second_code"] = totp.at(clock())
    right = await account.client.post("/auth/email-sign-in/code", json=both)
    assert right.status_code == 200, right.text
    assert {"mail", "otp"} <= {*claims_of(right.json()["access_token"])["amr"]}
    assert (await account.client.post("/auth/email-sign-in/code", json=both)).status_code == 400


async def test_a_link_takes_the_second_factor_with_it(
    totp: pyotp.TOTP, account: Account, clock: Clock, mailbox: Mailbox
) -> None:
    await ask(account.client)
    link = link_in(mailbox)
    answer = await account.client.post(link)
    assert (answer.status_code, answer.json()["code"]) == (401, "two_factor_required")
    clock.advance(seconds=30)
    right = await account.client.post(link, json={"code": totp.at(clock())})
    assert right.status_code == 200, right.text
    assert (await account.client.post(link, json={"code": totp.at(clock())})).status_code == 400


async def test_codes_guessed_with_a_mail_and_with_a_password_are_counted_together(
    totp: pyotp.TOTP, account: Account, mailbox: Mailbox
) -> None:
    await ask(account.client)
    link = link_in(mailbox)
    mailbox.clear()
    login = {"email": EMAIL, "password": PASSWORD, "code": "000000"}
    for _ in range(2):
        assert (await account.client.post("/auth/login", json=login)).status_code == 401
    for _ in range(2):
        assert (await account.client.post(link, json={"code": "000000"})).status_code == 401
    assert mailbox.messages == []
    assert (await account.client.post(link, json={"code": "000000"})).status_code == 401
    assert len(mailbox.messages) == 1  # the fifth is reported


async def test_passwords_that_others_guess_are_not_in_the_way_of_a_mail(
    totp: pyotp.TOTP, account: Account, clock: Clock, mailbox: Mailbox, app: FastAPI
) -> None:
    app.state.pluggable_auth.settings.throttle_daily_limit = 3
    wrong = {"email": EMAIL, "password": "a wrong password"}
    for _ in range(4):
        locked = await account.client.post("/auth/login", json=wrong)
    assert locked.json()["code"] == "password_locked", locked.text
    await ask(account.client)
    answer = await account.client.post(link_in(mailbox), json={"code": totp.at(clock())})
    assert answer.status_code == 200, answer.text


async def test_a_program_that_asks_for_the_head_of_a_link_changes_nothing(
    account: Account, mailbox: Mailbox
) -> None:
    await ask(account.client)
    link = link_in(mailbox)
    assert [(await account.client.head(link)).status_code for _ in range(2)] == [200, 200]
    assert (await account.client.post(link)).status_code == 200
    assert (await account.client.head(link)).status_code == 404


async def test_the_button_says_why_it_signs_nobody_in(
    account: Account, browser: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await ask(account.client)
    link = link_in(mailbox)
    await User.all().update(display_name="By password only")
    page = await browser.get(link)
    answer = await browser.post(f"{link}/form", data=hidden(page, f"{link}/form"))
    assert answer.status_code == 400
    assert "does not work any more" in answer.text


async def test_a_user_who_may_not_gets_no_session(account: Account, mailbox: Mailbox) -> None:
    await User.all().update(display_name="By password only")
    challenge = await ask(account.client)
    answer = await enter(account.client, challenge, code_in(mailbox, EMAIL))
    assert answer.json()["code"] == "mailed_code_expired"


async def test_the_password_of_a_stranger_does_not_survive(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    challenge = await ask(client)
    assert (await enter(client, challenge, code_in(mailbox, EMAIL))).status_code == 200
    login = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert (login.status_code, login.json()["code"]) == (401, "invalid_credentials")
    assert (await User.get()).is_verified


async def test_a_scanner_that_opens_the_link_spends_nothing(
    account: Account, browser: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    challenge = await ask(account.client)
    link = link_in(mailbox)
    assert len(f"http://localhost:8000{link}") < 200
    before = await Session.all().count()
    for _ in range(2):
        page = await browser.get(link)
        assert code_in(mailbox, EMAIL) in page.text
        assert (await account.client.get(link)).json() == {"detail": "The link is valid."}
    assert await Session.all().count() == before
    assert (await enter(account.client, challenge, code_in(mailbox, EMAIL))).status_code == 200
    assert (await account.client.get(link)).status_code == 400
    assert "too old" in (await browser.get(link)).text


async def test_the_button_of_the_link_signs_in_there(
    account: Account, browser: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await ask(account.client)
    link = link_in(mailbox)
    page = await browser.get(link)
    answer = await browser.post(f"{link}/form", data=hidden(page, f"{link}/form"))
    assert answer.status_code == 303, answer.text
    assert (await browser.get("/auth/me")).json()["email"] == EMAIL
    assert (await account.client.post(link)).status_code == 400


async def test_the_pages_sign_in(account: Account, browser: httpx.AsyncClient, mailbox: Mailbox) -> None:
    assert "/account/sign-in/mail" in (await browser.get("/account/sign-in")).text
    form = "/account/sign-in/mail"
    page = await browser.get(form, params={"next": "/notes"})
    page = await browser.post(form, data={**hidden(page, form), "email": EMAIL})
    fields = hidden(page, f"{form}/code")
    wrong = await browser.post(f"{form}/code", data={**fields, "code": "000000"})
    assert wrong.status_code == 400
    answer = await browser.post(f"{form}/code", data={**fields, "code": code_in(mailbox, EMAIL)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/notes"), answer.text


async def test_a_late_mail_is_not_sent(
    account: Account, app: FastAPI, clock: Clock, mailbox: Mailbox
) -> None:
    auth = app.state.pluggable_auth
    mailbox.clear()
    auth.settings.deliver_mail = False
    await ask(account.client)
    clock.advance(minutes=11)
    await auth.dispatcher.deliver([mail.id for mail in await Mail.filter(kind="email_sign_in")])
    assert mailbox.messages == []


async def test_somebody_new_gets_an_account_where_the_app_says_so(
    settings: AuthSettings, clock: Clock, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, features=[EmailSignIn(signup=True)])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as other:
        challenge = await ask(other, KIM)
        answer = await enter(other, challenge, code_in(mailbox, KIM))
        assert answer.status_code == 200, answer.text
        user = await User.get()
        assert (user.email, user.is_verified) == (KIM, True)
    await app.state.pluggable_auth.close()


async def test_nobody_new_is_mailed_where_signing_up_is_closed(
    settings: AuthSettings, clock: Clock, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    app = FastAPI()
    closed = settings.model_copy(update={"signup": "closed"})
    include_auth(app, settings=closed, clock=clock, features=[EmailSignIn(signup=True)])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as other:
        await ask(other, KIM)
    assert (await User.all().count(), mailbox.messages) == (0, [])
    await app.state.pluggable_auth.close()
