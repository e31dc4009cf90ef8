"""Recovery codes, and two-factor secrets that are encrypted at rest."""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import httpx
import pyotp
import pytest
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, ErrorCode
from fastapi_pluggable_auth.models import RecoveryCode, Session, User
from fastapi_pluggable_auth.security import encryption
from fastapi_pluggable_auth.security.encryption import SecretBox, UnreadableSecretError, is_sealed, readable

from .conftest import EMAIL, Account, Clock, Database, Mailbox, on_one_database
from .test_notices import enable_two_factor

KEY = "an encryption key of 32 characters or more"
OTHER_KEY = "another encryption key of 32 characters or more"


async def renew(account: Account) -> httpx.Response:
    return await account.client.post("/auth/2fa/recovery-codes", headers=account.headers)


async def left(account: Account) -> int:
    answer = await account.client.get("/auth/2fa/recovery-codes", headers=account.headers)
    remaining: int = answer.json()["remaining"]
    return remaining


@pytest.fixture
async def codes(account: Account) -> list[str]:
    """The recovery codes of a user with two-factor."""
    assert (await enable_two_factor(account)).status_code == 200
    answer = await renew(account)
    assert answer.status_code == 200
    codes: list[str] = answer.json()["codes"]
    return codes


async def test_recovery_codes_are_ten_long_and_unreadable_at_rest(
    codes: list[str], account: Account, tortoise: TortoiseContext, database: Database
) -> None:
    """A-73: at least 64 bits, shown once, digests at rest."""
    assert len(set(codes)) == 10
    assert all(re.fullmatch("[a-z2-7]{4}(-[a-z2-7]{4}){5}", code) for code in codes)
    assert await left(account) == 10
    connection = tortoise.connections.get(database.dialect)
    dump = str(await connection.execute_query_dict("SELECT * FROM auth_recovery_code")).lower()
    assert not any(code in dump or code.replace("-", "") in dump for code in codes)


async def test_a_recovery_code_signs_in_once_and_leaves_two_factor_on(
    codes: list[str], account: Account, mailbox: Mailbox
) -> None:
    """A-73."""
    mailbox.clear()
    assert (await account.login(codes[0].replace("-", " ").upper())).status_code == 200
    assert "left: 9." in str(mailbox.messages[0].get_body(("plain",)))
    assert codes[0] not in str(mailbox.messages[0])
    assert await left(account) == 9
    again = await account.login(codes[0])
    assert (again.status_code, again.json()["code"]) == (401, "invalid_credentials")
    assert (await account.login()).json()["code"] == "two_factor_required"
    assert len(mailbox.messages) == 1


async def test_a_recovery_code_confirms_a_login_that_is_too_old(
    codes: list[str], account: Account, clock: Clock
) -> None:
    """Someone whose device is lost can still switch two-factor off (A-74), with password and code."""
    await account.login(codes[0])
    clock.advance(minutes=16)
    account.access_token = (await account.refresh()).json()["access_token"]
    disable = {"url": "/account/2fa/disable", "headers": account.headers}
    assert (await account.client.post(**disable)).status_code == 403  # type: ignore[arg-type]
    body = {"password": account.password, "code": codes[1]}
    url = "/auth/reauthenticate"
    assert (await account.client.post(url, json=body, headers=account.headers)).status_code == 200
    assert (await account.client.post(url, json=body, headers=account.headers)).status_code == 403
    assert (await account.client.post(**disable)).status_code == 204  # type: ignore[arg-type]
    assert await RecoveryCode.all().count() == 0


async def test_one_recovery_code_used_by_ten_at_once_signs_one_in(codes: list[str], account: Account) -> None:
    """R-15."""
    before = await Session.all().count()
    others = [Account(account.client, account.mailbox, EMAIL, account.password) for _ in range(10)]
    answers = await asyncio.gather(*(other.login(codes[0]) for other in others))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 9}
    assert await Session.all().count() == before + 1


async def test_renewed_codes_replace_all_earlier_ones_also_in_a_race(
    codes: list[str], account: Account, mailbox: Mailbox
) -> None:
    """R-15: after regenerating no old code works."""
    mailbox.clear()
    renewals = asyncio.gather(*(renew(account) for _ in range(5)))
    await asyncio.gather(account.login(codes[0]), account.login(codes[1]))
    answers = await renewals
    assert {answer.status_code for answer in answers} == {200}
    assert await RecoveryCode.all().count() == 10
    assert [(await account.login(code)).status_code for code in codes] == [401] * 10
    subjects = Counter(message["Subject"] for message in mailbox.messages)
    assert subjects["New recovery codes for MyApp"] == 5
    working = [answer.json()["codes"] for answer in answers]
    signed_in = [(await account.login(codes[0])).status_code for codes in working]
    assert Counter(signed_in) == {200: 1, 401: 4}


async def test_making_codes_needs_two_factor_and_a_recent_login(account: Account, clock: Clock) -> None:
    refused = await renew(account)
    assert (refused.status_code, refused.json()["code"]) == (409, "two_factor_not_active")
    await enable_two_factor(account)
    assert (await renew(account)).status_code == 200
    clock.advance(minutes=16)
    account.access_token = (await account.refresh()).json()["access_token"]
    refused = await renew(account)
    assert (refused.status_code, refused.json()["code"]) == (403, "reauthentication_required")
    assert await left(account) == 10


async def test_codes_end_with_two_factor_and_with_the_account(codes: list[str], account: Account) -> None:
    await account.client.post("/account/2fa/disable", headers=account.headers)
    assert await RecoveryCode.all().count() == 0
    assert await left(account) == 0
    await enable_two_factor(account)
    assert (await account.login(codes[0])).status_code == 401
    await renew(account)
    assert (await account.client.delete("/account", headers=account.headers)).status_code == 204
    assert await RecoveryCode.all().count() == 0


@on_one_database
@pytest.mark.parametrize(
    "code", ["12345", "1234567", "１２３４５６", 123456, 1.5, ["123456"], "a" * 23, "1" * 24]
)
async def test_a_code_has_six_digits_or_the_form_of_a_recovery_code(code: object, account: Account) -> None:
    """A-72."""
    body = {"email": EMAIL, "password": account.password, "code": code}
    assert (await account.client.post("/auth/login", json=body)).status_code == 422


async def test_a_recovery_code_of_another_user_is_wrong(codes: list[str], register: object) -> None:
    other: Account = await register("eve@example.com")  # type: ignore[operator]
    await other.client.post("/auth/2fa/enable", headers=other.headers)
    secret = (await User.get(email=other.email)).totp_secret or ""
    body = {"code": pyotp.TOTP(secret).now()}
    await other.client.post("/auth/2fa/verify", json=body, headers=other.headers)
    assert (await other.login(codes[0])).status_code == 401
    assert await RecoveryCode.all().count() == 10


# --- secrets at rest -------------------------------------------------------------------------------------


async def stored(tortoise: TortoiseContext, database: Database) -> str:
    """The column as the database has it."""
    quote = "`" if database.dialect == "mysql" else '"'
    query = f"SELECT totp_secret FROM {quote}user{quote}"
    (row,) = await tortoise.connections.get(database.dialect).execute_query_dict(query)
    text: str = row["totp_secret"]
    return text


async def test_secrets_are_sealed_in_the_database_and_readable_in_python(
    account: Account, settings: AuthSettings, tortoise: TortoiseContext, database: Database
) -> None:
    """A-67."""
    settings.totp_encryption_key = KEY
    assert (await enable_two_factor(account)).status_code == 200
    secret = (await User.get()).totp_secret or ""
    assert re.fullmatch("[A-Z2-7]{32}", secret)
    at_rest = await stored(tortoise, database)
    assert is_sealed(at_rest)
    assert secret not in at_rest
    assert (await account.login(pyotp.TOTP(secret).now())).status_code == 200


@on_one_database
async def test_a_new_key_still_opens_what_earlier_keys_sealed(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    """R-34, and secrets from before there was a key."""
    await enable_two_factor(account)
    secret = (await User.get()).totp_secret or ""
    settings.totp_encryption_key = KEY
    assert (await account.login(pyotp.TOTP(secret).at(clock()))).status_code == 200
    await account.client.post("/account/2fa/disable", headers=account.headers)
    await enable_two_factor(account)
    secret = (await User.get()).totp_secret or ""
    settings.totp_previous_keys, settings.totp_encryption_key = [KEY], OTHER_KEY
    clock.advance(seconds=30)
    assert (await account.login(pyotp.TOTP(secret).at(clock()))).status_code == 200


@on_one_database
async def test_a_wrong_key_refuses_logins_and_never_skips_two_factor(
    account: Account,
    auth: Auth,
    settings: AuthSettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R-34: in a process that has only the wrong key."""
    settings.totp_encryption_key = KEY
    await enable_two_factor(account)
    code = pyotp.TOTP((await User.get()).totp_secret or "").now()
    monkeypatch.setattr(encryption, "_keys_of_process", {})
    settings.totp_encryption_key = OTHER_KEY
    auth.totp_box = SecretBox(settings)
    for right_or_wrong in (code, "000000"):
        refused = await account.login(right_or_wrong)
        assert (refused.status_code, refused.json()["code"]) == (503, "two_factor_unavailable")
    assert (await account.login()).json()["code"] == "two_factor_required"
    assert "no configured key" in caplog.text
    assert (await account.me()).status_code == 200
    assert (await User.get()).two_factor_active


@on_one_database
@pytest.mark.parametrize("secret", ["JBSWY3DPEHPK3PXP", "not base 32!", "aes256gcm.broken"])
async def test_a_secret_that_is_none_refuses_codes_and_fails_nothing_else(
    secret: str, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """As an import from elsewhere may leave it."""
    await User.all().update(totp_secret=secret, totp_confirmed=True)
    refused = await account.login("123456")
    assert (refused.status_code, refused.json()["code"]) == (503, "two_factor_unavailable")
    assert (await account.login()).json()["code"] == "two_factor_required"
    assert (await account.me()).status_code == 200


def test_a_secret_that_was_changed_at_rest_does_not_open(settings: AuthSettings) -> None:
    settings.totp_encryption_key = KEY
    box = SecretBox(settings)
    sealed = box.seal("JBSWY3DPEHPK3PXP", 1)
    assert sealed != box.seal("JBSWY3DPEHPK3PXP", 1)
    assert box.open(sealed, 1).secret == readable(sealed, 1) == "JBSWY3DPEHPK3PXP"
    assert box.seal(sealed, 1) == sealed
    changed = sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:]
    with pytest.raises(UnreadableSecretError):
        box.open(changed, 1)
    assert readable(changed, 1) == changed


def test_the_key_is_not_in_the_settings_text(settings: AuthSettings) -> None:
    settings.totp_encryption_key = KEY
    assert KEY not in repr(settings)
    assert ErrorCode.TWO_FACTOR_UNAVAILABLE.status == 503
