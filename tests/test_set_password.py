"""Accounts without a password: what they do instead, and how they get one."""

from __future__ import annotations

import httpx
import pyotp
import pytest

from fastapi_pluggable_auth import Auth, Challenge, Refused, open_session
from fastapi_pluggable_auth.features.administration.users import create_user
from fastapi_pluggable_auth.flows.login import answer_challenge
from fastapi_pluggable_auth.hooks import BeforePasswordChange, PasswordChanged
from fastapi_pluggable_auth.models import Session, User

from .conftest import PASSWORD, SQLITE_UNLESS_FULL, Account, Clock, Mailbox, on_one_database
from .test_twofa import code_of, enrol, post

DIALECTS = SQLITE_UNLESS_FULL

EVE = "eve@example.com"


@pytest.fixture
async def eve(client: httpx.AsyncClient, mailbox: Mailbox, auth: Auth) -> Account:
    """Signed in by the app, without a password."""
    await create_user(auth, EVE, verified=True)
    account = Account(client, mailbox, EVE, PASSWORD)
    await sign_in(account, auth)
    return account


async def sign_in(account: Account, auth: Auth) -> None:
    tokens = await open_session(auth, await User.get(email=EVE), factors="sso")
    assert not isinstance(tokens, Challenge)
    account.access_token, account.refresh_token = tokens.access_token, tokens.refresh_token


async def late(account: Account, clock: Clock) -> None:
    """The session goes on, and its login is not recent any more."""
    for _ in range(2):
        clock.advance(minutes=14)
        tokens = (await account.refresh()).json()
        account.access_token, account.refresh_token = tokens["access_token"], tokens["refresh_token"]


async def show_again(account: Account, body: dict[str, str]) -> httpx.Response:
    return await account.client.post("/auth/reauthenticate", json=body, headers=account.headers)


async def set_password(account: Account, password: str = PASSWORD) -> httpx.Response:
    return await post(account, "/account/set-password", new_password=password)


async def test_the_first_password_is_set_without_an_old_one_and_signs_in(eve: Account, auth: Auth) -> None:
    assert (await eve.login()).status_code == 401
    assert (await set_password(eve)).status_code == 204
    assert (await eve.login()).status_code == 200
    assert [mail["To"] for mail in eve.mailbox.messages] == [EVE]


async def test_every_session_ends_with_it(eve: Account, auth: Auth) -> None:
    """As with any change of the password."""
    assert (await set_password(eve)).status_code == 204
    assert (await eve.me()).status_code == 401
    assert await Session.filter(revoked_at=None).count() == 0


async def test_it_needs_a_recent_login(eve: Account, clock: Clock) -> None:
    await late(eve, clock)
    answer = await set_password(eve)
    assert (answer.status_code, await code_of(answer)) == (403, "reauthentication_required")


async def test_it_is_no_way_around_the_old_password(account: Account) -> None:
    answer = await set_password(account, "a new horse battery")
    assert (answer.status_code, await code_of(answer)) == (409, "password_exists")
    assert (await account.login()).status_code == 200


async def test_of_two_first_passwords_at_once_one_is_set(eve: Account, auth: Auth) -> None:
    """The second one looks at an account that is no more."""

    @auth.on(BeforePasswordChange)
    async def other(event: BeforePasswordChange) -> None:
        await User.filter(email=EVE).update(hashed_password=await auth.hasher.hash("the other horse battery"))

    answer = await set_password(eve)
    assert (answer.status_code, await code_of(answer)) == (409, "password_exists")


@on_one_database
@pytest.mark.parametrize(
    ("password", "code"),
    [("password1", "password_too_common"), ("short", "validation_error"), (EVE, "password_too_personal")],
)
async def test_the_rules_for_passwords_hold(eve: Account, password: str, code: str) -> None:
    answer = await set_password(eve, password)
    assert (answer.status_code, await code_of(answer)) == (422, code)


@on_one_database
async def test_hooks_are_asked_and_told(eve: Account, auth: Auth) -> None:
    told: list[PasswordChanged] = []
    auth.on(PasswordChanged)(told.append)
    assert (await set_password(eve)).status_code == 204
    assert [event.by_reset for event in told] == [False]

    await User.all().update(hashed_password="!none")
    await sign_in(eve, auth)

    @auth.on(BeforePasswordChange)
    def refuse(event: BeforePasswordChange) -> None:
        raise Refused("Not here.", code="not_here")

    assert await code_of(await set_password(eve)) == "not_here"


@on_one_database
async def test_there_is_no_password_to_change(eve: Account) -> None:
    body = {"old_password": "", "new_password": PASSWORD}
    answer = await post(eve, "/account/change-password", **body)
    assert (answer.status_code, await code_of(answer)) == (409, "password_not_set")


# A recent login, without a password


@on_one_database
async def test_without_any_other_way_it_is_said_what_helps(eve: Account, clock: Clock) -> None:
    await late(eve, clock)
    for body in ({}, {"password": ""}, {"password": PASSWORD}, {"code": "000000"}):
        answer = await show_again(eve, body)
        assert (answer.status_code, await code_of(answer)) == (409, "password_not_set")
    assert await code_of(await set_password(eve)) == "reauthentication_required"


@on_one_database
async def test_a_link_that_is_mailed_helps(eve: Account, clock: Clock) -> None:
    await late(eve, clock)
    await eve.client.post("/auth/forgot-password", json={"email": EVE})
    link = f"/auth/reset-password/{eve.mailbox.token(EVE)}"
    assert (await eve.client.post(link, json={"new_password": PASSWORD})).status_code == 200
    assert (await eve.login()).status_code == 200


async def test_the_second_factor_makes_the_login_recent(eve: Account, auth: Auth, clock: Clock) -> None:
    totp: pyotp.TOTP = await enrol(eve)
    assert (await post(eve, "/auth/2fa/verify", code=totp.at(clock()))).status_code == 200
    await late(eve, clock)
    answer = await show_again(eve, {})
    assert (answer.status_code, await code_of(answer)) == (401, "two_factor_required")
    answer = await post(eve, "/auth/reauthenticate", code="000000")
    assert (answer.status_code, await code_of(answer)) == (403, "reauthentication_failed")
    assert (await post(eve, "/auth/reauthenticate", code=totp.at(clock()))).status_code == 200
    assert (await set_password(eve)).status_code == 204


@on_one_database
async def test_the_app_s_way_in_asks_for_the_second_factor_as_the_password_does(
    eve: Account, auth: Auth, clock: Clock
) -> None:
    totp: pyotp.TOTP = await enrol(eve)
    assert (await post(eve, "/auth/2fa/verify", code=totp.at(clock()))).status_code == 200
    begun = await open_session(auth, await User.get(email=EVE), factors="sso")
    assert isinstance(begun, Challenge)
    clock.advance(seconds=31)
    tokens = await answer_challenge(auth, begun.token, totp.at(clock()))
    assert (await eve.me(tokens.access_token)).status_code == 200


@on_one_database
async def test_a_password_that_is_left_out_is_not_valid(account: Account) -> None:
    answer = await show_again(account, {})
    assert (answer.status_code, await code_of(answer)) == (422, "validation_error")
    assert answer.json()["detail"][0]["loc"] == ["body", "password"]
