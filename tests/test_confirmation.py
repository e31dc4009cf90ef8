"""Confirming by a mailed code: for users who have neither a password nor a second factor."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pyotp
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth, open_session
from fastapi_pluggable_auth.flows.session_tokens import TokenSet
from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, PASSWORD, SQLITE_UNLESS_FULL, Account, Clock, Mailbox, on_each_database
from .form_browser import BROWSER, FormBrowser
from .test_social_address import code_in
from .test_twofa import totp

__all__ = ["totp"]

DIALECTS = SQLITE_UNLESS_FULL


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, pages=True)
    return app


@pytest.fixture
async def guest(account: Account, auth: Auth, clock: Clock) -> Account:
    """Who has signed in an hour ago without a password, such as at a provider."""
    await User.all().update(hashed_password="!")
    opened = await open_session(auth, await User.get(), factors="acme")
    assert isinstance(opened, TokenSet)
    account.access_token, account.refresh_token = opened.access_token, opened.refresh_token
    clock.advance(hours=1)
    account.access_token = (await account.refresh()).json()["access_token"]
    return account


async def ask(account: Account) -> httpx.Response:
    return await account.client.post("/auth/reauthenticate/mail", headers=account.headers)


async def enter(account: Account, challenge: str, code: str) -> httpx.Response:
    body = {"challenge": challenge, "code": code}
    return await account.client.post("/auth/reauthenticate/mail/code", json=body, headers=account.headers)


def told(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def set_password(account: Account) -> httpx.Response:
    body = {"new_password": "another horse battery"}
    return await account.client.post("/account/set-password", json=body, headers=account.headers)


@on_each_database
async def test_the_code_makes_the_login_recent_once(guest: Account, mailbox: Mailbox) -> None:
    assert told(await set_password(guest)) == (403, "reauthentication_required")
    asked = await ask(guest)
    assert asked.status_code == 202, asked.text
    challenge, code = asked.json()["challenge"], code_in(mailbox, EMAIL)
    answers = await asyncio.gather(*(enter(guest, challenge, code) for _ in range(4)))
    assert [answer.status_code for answer in answers].count(200) == 1
    assert {told(answer)[1] for answer in answers if answer.status_code != 200} <= {
        "mailed_code_expired",
        "reauthentication_failed",
    }
    assert (await set_password(guest)).status_code == 204


async def test_a_code_is_good_in_the_session_that_asked_for_it(
    guest: Account, mailbox: Mailbox, auth: Auth
) -> None:
    challenge, code = (await ask(guest)).json()["challenge"], code_in(mailbox, EMAIL)
    other = await open_session(auth, await User.get(), factors="acme")
    assert isinstance(other, TokenSet)
    mine, guest.access_token = guest.access_token, other.access_token
    assert told(await enter(guest, challenge, code)) == (400, "mailed_code_expired")
    guest.access_token = mine
    assert (await enter(guest, challenge, code)).status_code == 200


async def test_five_wrong_codes_and_ten_minutes_end_it(
    guest: Account, mailbox: Mailbox, clock: Clock
) -> None:
    challenge, code = (await ask(guest)).json()["challenge"], code_in(mailbox, EMAIL)
    wrong = "000000" if code != "000000" else "000001"
    codes = [(await enter(guest, challenge, wrong)).json()["code"] for _ in range(5)]
    assert codes == [*["mailed_code_refused"] * 4, "mailed_code_expired"]
    assert told(await enter(guest, challenge, code)) == (400, "mailed_code_expired")
    challenge, code = (await ask(guest)).json()["challenge"], code_in(mailbox, EMAIL)
    clock.advance(minutes=10, seconds=1)
    assert told(await enter(guest, challenge, code)) == (400, "mailed_code_expired")


async def test_codes_that_others_guess_for_the_address_are_in_nobodys_way(
    guest: Account, mailbox: Mailbox
) -> None:
    """Nobody without a session delays one who has it: there is no link that would help here."""
    forgotten = {"email": EMAIL, "mailed_code": True}
    for _ in range(7):
        asked = (await guest.client.post("/auth/forgot-password", json=forgotten)).json()
        body = {"challenge": asked["challenge"], "code": "000000", "new_password": "another horse battery"}
        for _ in range(5):
            answer = await guest.client.post("/auth/reset-password/code", json=body)
    assert told(answer) == (429, "throttled")
    challenge = (await ask(guest)).json()["challenge"]
    assert (await enter(guest, challenge, code_in(mailbox, EMAIL))).status_code == 200


async def test_twenty_wrong_codes_end_the_session(
    guest: Account, settings: AuthSettings, mailbox: Mailbox
) -> None:
    """ASVS 6.3.1: as with any other guess in a session."""
    settings.mail_limit = 10
    for _ in range(4):
        assert (await guest.me()).status_code == 200
        challenge, code = (await ask(guest)).json()["challenge"], code_in(mailbox, EMAIL)
        wrong = "000000" if code != "000000" else "000001"
        for _ in range(5):
            assert (await enter(guest, challenge, wrong)).status_code == 400
    assert (await guest.me()).status_code == 401


@pytest.mark.parametrize("lacking", ["a password", "an address of its own", "another address"])
async def test_who_can_confirm_otherwise_or_has_no_address_gets_no_code(
    lacking: str, guest: Account, mailbox: Mailbox
) -> None:
    challenge, code = (await ask(guest)).json()["challenge"], code_in(mailbox, EMAIL)
    changed: dict[str, Any] = {
        "a password": {"hashed_password": "$2b$04$" + "x" * 53},
        "an address of its own": {"is_verified": False},
        "another address": {"email": "kim@example.com"},
    }[lacking]
    await User.all().update(**changed)
    if lacking != "another address":
        assert told(await ask(guest)) == (409, "confirm_otherwise")
        assert told(await enter(guest, challenge, code)) == (409, "confirm_otherwise")
    else:
        assert told(await enter(guest, challenge, code)) == (403, "reauthentication_failed")


async def test_two_factor_is_shown_by_its_code(totp: pyotp.TOTP, account: Account, clock: Clock) -> None:
    await User.all().update(hashed_password="!")
    assert told(await ask(account)) == (409, "confirm_otherwise")
    code = {"code": totp.at(clock())}
    shown = await account.client.post("/auth/reauthenticate", json=code, headers=account.headers)
    assert shown.status_code == 200


async def test_the_page_mails_it_and_leads_back(
    guest: Account, mailbox: Mailbox, app: FastAPI, clock: Clock
) -> None:
    transport, base = httpx.ASGITransport(app), "http://localhost:8000"
    await User.all().update(hashed_password=await app.state.pluggable_auth.hasher.hash(PASSWORD))
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=BROWSER) as client:
        browser = FormBrowser(client)
        await browser.open("/account/sign-in")
        await browser.submit("sign-in", email=EMAIL, password=PASSWORD)
        await User.all().update(hashed_password="!")
        clock.advance(minutes=16)
        page = await browser.open("/account/confirm-password?next=/account/security")
        assert EMAIL in page.text
        page = await browser.submit("confirm-password/mail")
        code = code_in(mailbox, EMAIL)
        wrong = "000000" if code != "000000" else "000001"
        page = await browser.submit("mail/code", code=wrong)
        assert page.status == 400
        assert re.search(r'role="alert"[^>]*>[^<]*wrong', page.text)
        page = await browser.submit("mail/code", code=code)
        assert page.path == "/account/security"
        page = await browser.open("/account/delete")
        assert page.path == "/account/delete"
