"""Two-factor authentication."""

from __future__ import annotations

import asyncio
import base64
import io
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pyotp
import pytest
from PIL import Image

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.security.totp import (
    generate_totp_secret,
    secret_qr_base64,
    totp_uri,
    verify_code,
)

from .conftest import EMAIL, PASSWORD, SQLITE_UNLESS_FULL, Account, Clock, on_each_database, on_one_database
from .test_notices import enable_two_factor

DIALECTS = SQLITE_UNLESS_FULL

STEP = timedelta(seconds=30)


async def post(account: Account, path: str, **body: object) -> httpx.Response:
    return await account.client.post(path, headers=account.headers, json=body or None)


async def enrol(account: Account) -> pyotp.TOTP:
    """Starts enrolling; gives what the authenticator app then knows."""
    answer = await post(account, "/auth/2fa/enable")
    assert answer.status_code == 200, answer.text
    return pyotp.parse_uri(answer.json()["otpauth_uri"])  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
async def totp(account: Account, clock: Clock) -> pyotp.TOTP:
    """An account with active two-factor, some minutes after enrolling."""
    totp = await enrol(account)
    assert (await post(account, "/auth/2fa/verify", code=totp.at(clock()))).status_code == 200
    clock.advance(minutes=2)
    return totp


async def code_of(answer: httpx.Response) -> str:
    code: str = answer.json()["code"]
    return code


@on_one_database
async def test_enrolling_shows_an_address_and_its_qr_code(account: Account) -> None:
    """A-66."""
    answer = (await post(account, "/auth/2fa/enable")).json()
    assert set(answer) == {"otpauth_uri", "qr_base64"}
    totp = pyotp.parse_uri(answer["otpauth_uri"])  # type: ignore[attr-defined]
    assert (totp.name, totp.issuer, len(totp.secret)) == (EMAIL, "MyApp", 32)
    assert totp.secret == (await User.get()).totp_secret
    picture = Image.open(io.BytesIO(base64.b64decode(answer["qr_base64"])))
    assert (picture.format, picture.width >= 200) == ("PNG", True)


async def test_nothing_is_enforced_before_the_first_right_code(account: Account) -> None:
    await enrol(account)
    other = Account(account.client, account.mailbox, EMAIL, PASSWORD)
    assert (await other.login()).status_code == 200
    assert await code_of(await post(account, "/auth/2fa/verify", code="000000")) == "invalid_code"
    assert (await other.login()).status_code == 200


async def test_the_first_right_code_activates_and_works_once_more_at_login(
    account: Account, clock: Clock
) -> None:
    """The enrolment code does not spend its step."""
    totp = await enrol(account)
    code = totp.at(clock())
    assert (await post(account, "/auth/2fa/verify", code=code)).status_code == 200
    assert await code_of(await account.login()) == "two_factor_required"
    assert (await account.login(code)).status_code == 200
    assert await code_of(await account.login(code)) == "invalid_credentials"


async def test_only_the_session_that_began_confirms_a_pending_secret(account: Account, clock: Clock) -> None:
    """A-68: elsewhere nobody can tell whose it is: a login takes the code for none."""
    totp = await enrol(account)
    other = Account(account.client, account.mailbox, EMAIL, PASSWORD)
    for code in ("000000", totp.at(clock())):
        assert (await other.login(code)).status_code == 200
        assert await code_of(await post(other, "/auth/2fa/verify", code=code)) == "two_factor_not_started"
        answer = await post(other, "/auth/reauthenticate", password=PASSWORD, code=code)
        assert answer.status_code == 200
    assert not (await User.get()).two_factor_active
    assert (await post(account, "/auth/2fa/verify", code=totp.at(clock()))).status_code == 200
    assert await code_of(await other.login()) == "two_factor_required"


async def test_a_pending_secret_is_confirmed_within_ten_minutes_or_not_at_all(
    account: Account, clock: Clock
) -> None:
    late = await enrol(account)
    clock.advance(minutes=10, seconds=1)
    answer = await post(account, "/auth/2fa/verify", code=late.at(clock()))
    assert await code_of(answer) == "two_factor_not_started"
    in_time = await enrol(account)
    assert in_time.secret != late.secret
    clock.advance(minutes=4)
    assert (await post(account, "/auth/2fa/verify", code=in_time.at(clock()))).status_code == 200


async def test_enabling_again_replaces_a_pending_secret_and_refuses_beside_an_active_one(
    account: Account, clock: Clock
) -> None:
    first, second = await enrol(account), await enrol(account)
    answer = await post(account, "/auth/2fa/verify", code=first.at(clock()))
    assert await code_of(answer) == "invalid_code"
    assert (await post(account, "/auth/2fa/verify", code=second.at(clock()))).status_code == 200
    answer = await post(account, "/auth/2fa/enable")
    assert (answer.status_code, await code_of(answer)) == (409, "two_factor_enabled")


async def test_a_code_without_two_factor_is_ignored(account: Account) -> None:
    assert (await account.login("123456")).status_code == 200


async def test_the_need_for_a_code_is_told_only_after_the_right_password(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    """A-64."""
    answer = await account.login()
    assert (answer.status_code, await code_of(answer)) == (401, "two_factor_required")
    assert "access_token" not in answer.text
    for password, code in (
        ("wrong password", None),
        ("wrong password", totp.at(clock())),
        (PASSWORD, "000000"),
    ):
        body = {"email": EMAIL, "password": password, "code": code}
        assert await code_of(await account.client.post("/auth/login", json=body)) == "invalid_credentials"
    assert (await account.login(totp.at(clock()))).status_code == 200


async def test_a_code_works_once_on_all_routes(totp: pyotp.TOTP, account: Account, clock: Clock) -> None:
    """A-69."""
    code = totp.at(clock())
    assert (await account.login(code)).status_code == 200
    assert await code_of(await account.login(code)) == "invalid_credentials"
    assert await code_of(await post(account, "/auth/2fa/verify", code=code)) == "invalid_code"
    answer = await post(account, "/auth/reauthenticate", password=PASSWORD, code=code)
    assert await code_of(answer) == "reauthentication_failed"
    clock.advance(seconds=30)
    code = totp.at(clock())
    assert (await post(account, "/auth/reauthenticate", password=PASSWORD, code=code)).status_code == 200
    assert await code_of(await account.login(code)) == "invalid_credentials"


@on_each_database
async def test_one_code_in_many_logins_at_once_has_one_winner(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    """R-14."""
    for _ in range(5):
        clock.advance(minutes=2)
        code = totp.at(clock())
        body = {"email": EMAIL, "password": PASSWORD, "code": code}
        answers = await asyncio.gather(*(account.client.post("/auth/login", json=body) for _ in range(10)))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 9}


@on_one_database
@pytest.mark.parametrize(
    ("steps", "status"), [(-3, 401), (-2, 401), (-1, 200), (0, 200), (1, 200), (2, 401), (3, 401)]
)
async def test_a_code_is_right_one_step_either_side(
    steps: int, status: int, totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    """A-70."""
    clock.advance(seconds=30 - clock().timestamp() % 30 + 5)
    code = totp.at(clock() + steps * STEP)
    body = {"email": EMAIL, "password": PASSWORD, "code": code}
    answer = await account.client.post(
        "/auth/login", json=body, headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"}
    )
    assert answer.status_code == status


async def test_an_older_code_is_dead_once_a_newer_one_was_used(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    """R-36: also when the clock steps back."""
    older, newer = totp.at(clock()), totp.at(clock() + STEP)
    assert (await account.login(newer)).status_code == 200
    assert (await account.login(older)).status_code == 401
    clock.advance(hours=-1)
    assert (await account.login(totp.at(clock()))).status_code == 401


@on_one_database
@pytest.mark.parametrize(
    "code",
    [
        123456,
        123456.0,
        ["123456"],
        "12345",
        "1234567",
        "\uff11\uff12\uff13\uff14\uff15\uff16",
        "12 456",
        "-12345",
        "123-456",
        "\u0661\u0662\u0663\u0664\u0665\u0666",
    ],
)
async def test_a_code_is_six_ascii_digits(code: object, account: Account) -> None:
    """A-72."""
    await enrol(account)
    login = {"email": EMAIL, "password": PASSWORD, "code": code}
    assert (await account.client.post("/auth/login", json=login)).status_code == 422
    assert (await post(account, "/auth/2fa/verify", code=code)).status_code == 422


@on_one_database
async def test_an_empty_code_is_no_code(account: Account) -> None:
    body = {"email": EMAIL, "password": PASSWORD, "code": ""}
    assert (await account.client.post("/auth/login", json=body)).status_code == 200


async def test_an_active_secret_is_never_replaced(totp: pyotp.TOTP, account: Account, clock: Clock) -> None:
    """A-68."""
    answer = await post(account, "/auth/2fa/enable")
    assert (answer.status_code, await code_of(answer)) == (409, "two_factor_enabled")
    assert (await account.login(totp.at(clock()))).status_code == 200


async def test_a_second_enrolment_replaces_the_pending_one(account: Account, clock: Clock) -> None:
    """R-18: of two tabs, the one that was shown last is the one that counts."""
    first, second = await enrol(account), await enrol(account)
    assert first.secret != second.secret
    assert await code_of(await post(account, "/auth/2fa/verify", code=first.at(clock()))) == "invalid_code"
    assert (await post(account, "/auth/2fa/verify", code=second.at(clock()))).status_code == 200
    assert (await account.login(second.at(clock()))).status_code == 200


async def test_a_code_before_enrolling_is_refused(account: Account) -> None:
    answer = await post(account, "/auth/2fa/verify", code="123456")
    assert (answer.status_code, await code_of(answer)) == (400, "two_factor_not_started")


async def test_switching_off_needs_a_recent_login_and_forgets_the_secret(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    """A-74."""
    await account.login(totp.at(clock()))
    clock.advance(minutes=14)
    refreshed = (await account.refresh()).json()
    account.access_token, account.refresh_token = refreshed["access_token"], refreshed["refresh_token"]
    clock.advance(minutes=2)
    answer = await post(account, "/account/2fa/disable")
    assert (answer.status_code, await code_of(answer)) == (403, "reauthentication_required")
    assert (
        await code_of(await post(account, "/auth/reauthenticate", password=PASSWORD)) == "two_factor_required"
    )
    confirmed = await post(account, "/auth/reauthenticate", password=PASSWORD, code=totp.at(clock()))
    assert confirmed.status_code == 200
    assert (await post(account, "/account/2fa/disable")).status_code == 204
    assert (await User.get()).totp_secret is None
    assert (await account.login()).status_code == 200


@on_one_database
@pytest.mark.parametrize("issuer", ["A & B: 100% Caf\u00e9", "x?y=z#/"])
async def test_hard_labels_survive_the_address(
    issuer: str, settings: AuthSettings, register: Callable[..., Any]
) -> None:
    """A-66."""
    settings.totp_issuer = issuer
    account = await register("a+b%c&d@example.com")
    answer = await post(account, "/auth/2fa/enable")
    address = urlsplit(answer.json()["otpauth_uri"])
    assert (address.scheme, address.netloc) == ("otpauth", "totp")
    labels = address.path.removeprefix("/").split(":")  # one of theirs would be escaped
    assert [unquote(label) for label in labels] == [issuer, "a+b%c&d@example.com"]
    assert parse_qs(address.query)["issuer"] == [issuer]
    assert address.fragment == ""


def test_the_helpers_make_and_check_codes() -> None:
    secrets = {generate_totp_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {32}
    secret = secrets.pop()
    assert verify_code(secret, pyotp.TOTP(secret).now())
    assert not verify_code(secret, "x")
    assert totp_uri(secret, EMAIL).startswith("otpauth://totp/")
    assert base64.b64decode(secret_qr_base64(totp_uri(secret, EMAIL))).startswith(b"\x89PNG")


@on_one_database
@pytest.mark.parametrize("by", ["setting", "predicate"])
async def test_where_two_factor_is_a_must_nothing_else_works_before_it(
    by: str, account: Account, auth: Auth, settings: AuthSettings
) -> None:
    """A-22."""
    if by == "setting":
        settings.require_two_factor = True
    else:
        auth._require_two_factor = lambda user: user.email == EMAIL
    await account.login()
    for method, path in (("GET", "/auth/me"), ("GET", "/account"), ("DELETE", "/account")):
        refused = await account.client.request(method, path, headers=account.headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "two_factor_enrolment_required")
    assert (await enable_two_factor(account)).status_code == 200
    assert (await account.me()).status_code == 200
    assert (await account.client.post("/auth/logout", headers=account.headers)).status_code == 200


async def test_enrolling_needs_a_recent_login(account: Account, clock: Clock) -> None:
    """A-68."""
    clock.advance(minutes=16)
    account.access_token = (await account.refresh()).json()["access_token"]
    refused = await account.client.post("/auth/2fa/enable", headers=account.headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "reauthentication_required")
    assert (await User.get()).totp_secret is None
