"""Two-factor secrets at rest: sealed for their user, old ones once more, and all at once by a command."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any

import pyotp
import pytest
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.features.two_factor.sealing import seal_secrets
from fastapi_pluggable_auth.models import User, stored_totp_secret
from fastapi_pluggable_auth.security import encryption
from fastapi_pluggable_auth.security.encryption import SecretBox, StoredSecret

from .conftest import EMAIL, SQLITE_UNLESS_FULL, Account, Clock, Database, on_each_database

DIALECTS = SQLITE_UNLESS_FULL

KEY, OTHER_KEY = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
SEED = pyotp.random_base32()


def unbound(secret: str, key: str) -> StoredSecret:
    """As an earlier version has sealed it."""
    box = SecretBox(AuthSettings(_env_file=None, totp_encryption_key=key))
    key_id = box._key_id(key)
    nonce = secrets.token_bytes(12)
    data = nonce + encryption._keys_of_process[key_id].encrypt(nonce, secret.encode(), key_id.encode())
    return StoredSecret(f"aes256gcm.{key_id}.{encryption.base64.urlsafe_b64encode(data).decode()}")


async def at_rest(email: str = EMAIL) -> str:
    return str(stored_totp_secret(await User.get(email=email)))


async def put(stored: str, email: str = EMAIL) -> None:
    active = {"totp_secret": StoredSecret(stored), "totp_confirmed": True, "totp_last_step": None}
    await User.filter(email=email).update(**active)


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    settings.totp_encryption_key = KEY
    return settings


@pytest.mark.parametrize("kind", ["plain", "bound to none", "of an earlier key"])
async def test_an_old_secret_is_read_once_more_and_sealed_anew_for_its_user(
    kind: str, account: Account, auth: Auth, settings: AuthSettings, clock: Clock
) -> None:
    """A-67, R-34, ASVS V13.3.1."""
    user = await User.get()
    settings.totp_previous_keys = [OTHER_KEY]
    earlier = SecretBox(AuthSettings(_env_file=None, totp_encryption_key=OTHER_KEY))
    old = {
        "plain": SEED,
        "bound to none": unbound(SEED, KEY),
        "of an earlier key": earlier.seal(SEED, user.id),
    }
    await put(old[kind])
    assert (await User.get()).totp_secret == SEED
    assert (await account.login("000000")).status_code == 401
    assert await at_rest() == old[kind]
    assert (await account.login(pyotp.TOTP(SEED).at(clock()))).status_code == 200
    sealed = await at_rest()
    assert re.match(r"aes256gcm\.[0-9a-f]{8}\.user\.", sealed)
    assert SEED not in sealed
    assert (await User.get()).totp_secret == SEED
    settings.totp_previous_keys = []
    clock.advance(seconds=60)
    assert (await account.login(pyotp.TOTP(SEED).at(clock()))).status_code == 200
    assert await at_rest() == sealed


async def test_a_sealed_secret_is_good_for_its_user_only(
    account: Account, register: Any, auth: Auth, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A-67: whoever writes to the table cannot give the own second factor to somebody else."""
    await register("eve@example.com")
    eve = await User.get(email="eve@example.com")
    moved = auth.totp_box.seal(SEED, eve.id)
    await put(moved)
    refused = await account.login(pyotp.TOTP(SEED).at(clock()))
    assert (refused.status_code, refused.json()["code"]) == (503, "two_factor_unavailable")
    assert (await account.login()).json()["code"] == "two_factor_required"
    assert "that of another user" in caplog.text
    user = await User.get(email=EMAIL)
    assert (user.totp_secret, user.two_factor_active) == (moved, True)


async def test_a_row_that_the_host_saves_keeps_its_secret(account: Account, auth: Auth, clock: Clock) -> None:
    await put(auth.totp_box.seal(SEED, (await User.get()).id))
    sealed = await at_rest()
    user = await User.get()
    user.display_name = "Ada"
    await user.save()
    assert await at_rest() == sealed
    assert (await account.login(pyotp.TOTP(SEED).at(clock()))).status_code == 200


@on_each_database
async def test_all_secrets_are_sealed_while_the_app_runs(
    account: Account, auth: Auth, clock: Clock, register: Any
) -> None:
    await put(SEED)
    for number in range(7):
        seed = {
            "totp_secret": StoredSecret(unbound(SEED, KEY) if number % 2 else SEED),
            "totp_confirmed": True,
        }
        user = await User.create(email=f"u{number}@example.com", hashed_password="!")
        await User.filter(id=user.id).update(**seed)

    async def seal() -> int:
        return sum([done.sealed async for done in seal_secrets(auth, batch=3)])

    login, *counts = await asyncio.gather(account.login(pyotp.TOTP(SEED).at(clock())), seal(), seal())
    assert login.status_code == 200
    assert 7 <= sum(counts) <= 8
    assert await seal() == 0
    for user in await User.filter(totp_secret__not_isnull=True):
        assert ".user." in str(stored_totp_secret(user))
        assert user.totp_secret == SEED


async def test_an_account_without_a_second_factor_is_passed_over(account: Account, auth: Auth) -> None:
    await put(SEED)
    for number in range(2):
        await User.create(email=f"u{number}@example.com", hashed_password="!")
    done = [each.sealed async for each in seal_secrets(auth, batch=1)]
    assert done == [1]


def test_the_command_seals_and_says_what_it_cannot_open(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    from . import databases

    async def fill(*stored: str) -> None:
        async with TortoiseContext() as context:
            await context.init(databases.config(database.url, database.dialect))
            await databases.empty(context, database.dialect)
            for number, text in enumerate(stored):
                user = await User.create(email=f"u{number}@example.com", hashed_password="!")
                await User.filter(id=user.id).update(totp_secret=StoredSecret(text), totp_confirmed=True)
            await User.create(email="none@example.com", hashed_password="!")

    asyncio.run(fill(SEED, unbound(SEED, OTHER_KEY), unbound(SEED, KEY)))
    command = ["keys", "seal", "--database-url", database.url]
    monkeypatch.delenv("AUTH_TOTP_ENCRYPTION_KEY", raising=False)
    assert main(command) == 1
    assert "Set AUTH_TOTP_ENCRYPTION_KEY" in capsys.readouterr().err
    monkeypatch.setenv("AUTH_TOTP_ENCRYPTION_KEY", KEY)
    assert main(command) == 1
    said = capsys.readouterr()
    assert said.out == "2 sealed, 0 were up to date, 1 unreadable\n"
    assert "No configured key opens the secret of user" in said.err
    monkeypatch.setenv("AUTH_TOTP_PREVIOUS_KEYS", OTHER_KEY)
    assert main(command) == 0
    assert capsys.readouterr().out == "1 sealed, 2 were up to date, 0 unreadable\n"
    monkeypatch.delenv("AUTH_TOTP_PREVIOUS_KEYS")
    assert main(command) == 0
    assert capsys.readouterr().out == "0 sealed, 3 were up to date, 0 unreadable\n"
    assert not {KEY, OTHER_KEY, SEED} & {*said.out.split(), *said.err.split()}
