"""Migrations: a new app, an app of 0.1, an app whose tables `generate_schemas` made; on each database."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pyotp
import pytest
from fastapi import FastAPI
from jose import jwt
from tortoise.context import TortoiseContext
from tortoise.migrations.api import sqlmigrate
from tortoise.migrations.autodetector import MigrationAutodetector

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.migrations import _rows
from fastapi_pluggable_auth.migrations._rows import AddressConflictError
from fastapi_pluggable_auth.models import RefreshToken, User, token_digest
from fastapi_pluggable_auth.security.hashing import hash_password

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, Account, Mailbox, on_one_spare
from .spare_database import MIGRATIONS, SpareDatabase

FIRST = "models.0001_initial"
OLD = ("tests.tables_0_1", "tests.tables_0_1_loose")
SECRET_2FA = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
HASH = hash_password(PASSWORD)


def old_token(user_id: uuid.UUID, **claims: object) -> str:
    """A refresh token as 0.1 signed it: without issuer and audience."""
    expires = datetime.now(UTC) + timedelta(days=3)
    return jwt.encode(
        {"sub": str(user_id), "scope": "refresh", "jti": uuid.uuid4().hex, "exp": expires, **claims}, SECRET
    )


async def fill(spare: SpareDatabase, models: str, count: int = 3) -> dict[str, str]:
    """Users of 0.1 with a refresh token each, and a note; gives the tokens by address."""
    tokens = {}
    async with spare.opened(models) as context:
        (app,) = context.apps.apps.values()  # type: ignore[union-attr]
        for number in range(count):
            email = EMAIL if number == 0 else f"{number}@example.com"
            user = await app["User"].create(
                email=email,
                hashed_password=HASH,
                is_verified=True,
                display_name=f"Number {number}",
                totp_secret=SECRET_2FA if number == 1 else None,
            )
            tokens[email] = token = old_token(user.id)
            kept = {"jti": uuid.uuid4().hex, "expires_at": datetime.now(UTC) + timedelta(days=3)}
            await app["RefreshToken"].create(user=user, token=token, **kept)
            dead = {**kept, "jti": uuid.uuid4().hex, "revoked": True}
            await app["RefreshToken"].create(user=user, token=old_token(user.id), **dead)
            await app["Note"].create(owner=user)
    return tokens


@asynccontextmanager
async def served(spare: SpareDatabase, settings: AuthSettings) -> AsyncIterator[httpx.AsyncClient]:
    """Today's app on it."""
    app = FastAPI()
    auth = include_auth(app, settings=settings)
    transport = httpx.ASGITransport(app)
    async with spare.opened(), httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client
        await auth.close()


async def test_a_new_app_gets_the_tables_that_generate_schemas_makes(spare: SpareDatabase) -> None:
    await spare.create("fastapi_pluggable_auth.models")
    generated = await spare.schema()
    await spare.create()
    await spare.migrate()
    assert await spare.schema() == generated
    assert generated.keys() == set(databases.TABLES)
    await spare.migrate()  # nothing is left to do


@pytest.mark.parametrize("old", [OLD[0], pytest.param(OLD[1], marks=pytest.mark.full)])
async def test_an_app_of_0_1_is_upgraded_in_place_and_nobody_is_logged_out(
    old: str, spare: SpareDatabase, settings: AuthSettings, mailbox: Mailbox
) -> None:
    await spare.create("fastapi_pluggable_auth.models")
    generated = await spare.schema(lengths=False)
    await spare.create(old)
    tokens = await fill(spare, old)
    users = await spare.query(f"SELECT * FROM {spare.quoted('user')} ORDER BY email")

    await spare.migrate(FIRST, fake=True)
    await spare.migrate()

    assert await spare.schema(lengths=False) == generated
    kept = await spare.query(f"SELECT * FROM {spare.quoted('user')} ORDER BY email")
    assert [{name: row[name] for name in users[0]} for row in kept] == users
    assert len(await spare.query("SELECT * FROM note")) == 3
    for row in await spare.query("SELECT * FROM refreshtoken"):
        assert token_digest(row["token"]) == row["token"]
        uuid.UUID(str(row["id"]))
    async with served(spare, settings) as client:
        for email, token in tokens.items():
            code = {"code": pyotp.TOTP(SECRET_2FA).now()} if email == "1@example.com" else {}
            body = {"email": email, "password": PASSWORD}
            if code:
                refused = await client.post("/auth/login", json=body)
                assert refused.json()["code"] == "two_factor_required"
            login = await client.post("/auth/login", json=body | code)
            assert login.status_code == 200, login.text
            pair = (await client.post("/auth/refresh", json={"token": token})).json()
            me = await client.get("/auth/me", headers={"Authorization": f"Bearer {pair['access_token']}"})
            assert me.json()["email"] == email
            assert (await client.post("/auth/refresh", json={"token": token})).status_code == 401
            next_pair = await client.post("/auth/refresh", json={"token": pair["refresh_token"]})
            assert next_pair.status_code == 200
        assert await RefreshToken.filter(revoked=True, rotated_at=None).count() == 3
        account = {"email": "new@example.com", "password": "x" * 100}
        assert (await client.post("/auth/signup", json=account)).status_code == 201


async def test_a_refresh_token_of_0_1_counts_by_its_row_and_by_what_it_names(account: Account) -> None:
    """A-57."""
    user = await User.get()

    async def status(token: str, *, store: bool = True) -> int:
        if store:
            await RefreshToken.create_for(user.id, token, timedelta(days=3))
        return (await account.refresh(token)).status_code

    assert await status(old_token(user.id)) == 200
    assert await status(old_token(user.id), store=False) == 401
    assert await status(old_token(user.id, scope="access")) == 401
    assert await status(old_token(user.id, iss="https://other.example.com")) == 401
    assert await status(old_token(user.id, aud="https://other.example.com")) == 401
    past = datetime.now(UTC) - timedelta(seconds=1)
    assert await status(old_token(user.id, exp=past)) == 200  # the row knows better
    forged = old_token(user.id).rpartition(".")[0] + "." + old_token(uuid.uuid4()).rpartition(".")[2]
    assert await status(forged) == 401
    access = {"Authorization": f"Bearer {old_token(user.id, scope='access')}"}
    assert (await account.client.get("/auth/me", headers=access)).status_code == 401


async def test_the_upgrade_goes_on_where_it_was_broken_off(
    spare: SpareDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-51."""
    monkeypatch.setattr(_rows, "BATCH", 2)
    await spare.create(OLD[0])
    tokens = await fill(spare, OLD[0])
    await spare.query(
        f"UPDATE refreshtoken SET token = '{token_digest(tokens[EMAIL])}' WHERE token = '{tokens[EMAIL]}'"
    )
    await spare.migrate(FIRST, fake=True)
    await spare.migrate()
    whole = await spare.schema()
    rows = await spare.query("SELECT token FROM refreshtoken ORDER BY token")
    assert {row["token"] for row in rows} >= {token_digest(token) for token in tokens.values()}
    assert len(rows) == 6
    for broken_off in (
        "DROP TABLE auth_mail",
        f"ALTER TABLE {spare.quoted('user')} DROP COLUMN last_login_at",
        "ALTER TABLE refreshtoken DROP COLUMN replaced_by",
        "DELETE FROM tortoise_migrations WHERE name <> '0001_initial'",
    ):
        await spare.query(broken_off)
    await spare.migrate()
    assert await spare.schema() == whole
    assert await spare.query("SELECT token FROM refreshtoken ORDER BY token") == rows


@on_one_spare
async def test_no_token_reaches_a_log(spare: SpareDatabase, caplog: pytest.LogCaptureFixture) -> None:
    await spare.create(OLD[0])
    tokens = await fill(spare, OLD[0])
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    await spare.migrate(FIRST, fake=True)
    await spare.migrate()
    assert token_digest(tokens[EMAIL]) in caplog.text
    for token in tokens.values():
        assert token not in caplog.text
        assert token.rsplit(".", 1)[1] not in caplog.text


async def test_addresses_become_lower_case_unless_two_accounts_would_be_one(spare: SpareDatabase) -> None:
    await spare.create(OLD[0])
    await fill(spare, OLD[0])
    user, capitals = spare.quoted("user"), "Ada@Example.COM"
    await spare.query(f"UPDATE {user} SET email = '{capitals}' WHERE email = '{EMAIL}'")
    await spare.migrate(FIRST, fake=True)
    if spare.dialect != "mysql":  # whose 0.1 took such addresses for one
        await spare.query(f"UPDATE {user} SET email = '{EMAIL}' WHERE email = '1@example.com'")
        before = await spare.query(f"SELECT * FROM {user}"), await spare.query("SELECT * FROM refreshtoken")
        with pytest.raises(AddressConflictError, match="1 addresses") as refusal:
            await spare.migrate()
        ids = await spare.query(f"SELECT id FROM {user} WHERE lower(email) = '{EMAIL}'")
        assert len(ids) == 2
        assert all(str(row["id"]) in str(refusal.value) for row in ids)
        assert EMAIL not in str(refusal.value).lower()
        after = await spare.query(f"SELECT * FROM {user}"), await spare.query("SELECT * FROM refreshtoken")
        assert after == before
        await spare.query(f"UPDATE {user} SET email = '1@example.com' WHERE email = '{EMAIL}'")
    await spare.migrate()
    assert {row["email"] for row in await spare.query(f"SELECT email FROM {user}")} == {
        EMAIL,
        "1@example.com",
        "2@example.com",
    }


@on_one_spare
async def test_the_way_back_to_0_1_is_refused_and_changes_nothing(spare: SpareDatabase) -> None:
    await spare.create(OLD[0])
    await fill(spare, OLD[0])
    await spare.migrate(FIRST, fake=True)
    await spare.migrate()
    before = await spare.schema(), await spare.query("SELECT * FROM refreshtoken")
    with pytest.raises(ValueError, match=r"restore a backup.* is not reversible"):
        await spare.migrate(FIRST, direction="backward")
    assert (await spare.schema(), await spare.query("SELECT * FROM refreshtoken")) == before


@pytest.mark.parametrize("fake_first", [True, pytest.param(False, marks=pytest.mark.full)])
def test_two_that_migrate_at_once_break_nothing(
    fake_first: bool, spare: SpareDatabase, tmp_path: Path
) -> None:
    """R-51."""
    asyncio.run(spare.create("fastapi_pluggable_auth.models"))
    generated = asyncio.run(spare.schema(lengths=False))
    asyncio.run(spare.create(OLD[0] if fake_first else None))
    if fake_first:
        asyncio.run(fill(spare, OLD[0]))
        asyncio.run(spare.migrate(FIRST, fake=True))
    config = databases.config(spare.url, spare.dialect, migrations=MIGRATIONS)
    (tmp_path / "settings.py").write_text(f"TORTOISE_ORM = {config!r}")
    command = [sys.executable, "-m", "tortoise", "-c", "settings.TORTOISE_ORM", "migrate"]
    runs = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    said = [run.communicate(timeout=60)[0].decode() for run in runs]
    assert all(run.returncode == 0 for run in runs), said
    asyncio.run(spare.migrate())
    assert asyncio.run(spare.schema(lengths=False)) == generated
    assert len(asyncio.run(spare.query("SELECT * FROM refreshtoken"))) == (6 if fake_first else 0)


async def test_no_model_changes_without_a_migration() -> None:
    config = databases.config("sqlite://:memory:", "sqlite", migrations=MIGRATIONS)
    async with TortoiseContext() as context:
        await context.init(config)
        assert context.apps is not None
        writers = await MigrationAutodetector(context.apps, config["apps"]).changes()
    assert [writer.as_string() for writer in writers] == []


@on_one_spare
@pytest.mark.parametrize(
    "step",
    [
        "0001_initial",
        "0002_refresh_token_digests",
        "0003_sessions_mails_two_factor",
        "0004_authorization",
        "0005_audit",
        "0006_generations_and_devices",
        "0007_passkeys",
        "0008_identities",
        "0009_provider_tokens_and_trust",
        "0010_search_indexes",
        "0011_mail_states",
        "0012_oauth_server",
        "0013_devices_and_client_tokens",
    ],
)
async def test_the_sql_of_each_step_can_be_read(step: str, spare: SpareDatabase) -> None:
    config = databases.config(spare.url, spare.dialect, migrations=MIGRATIONS)
    async with TortoiseContext():
        sql = "\n".join(await sqlmigrate(config=config, app_label="models", migration_name=step))
    changes = ("CREATE TABLE", "ADD COLUMN", "CREATE INDEX", "ADD INDEX")
    assert any(change in sql for change in changes) or step == "0002_refresh_token_digests"


async def test_tables_that_generate_schemas_made_are_taken_over(spare: SpareDatabase) -> None:
    await spare.create("fastapi_pluggable_auth.models")
    before = await spare.schema()
    await spare.migrate(fake=True)
    await spare.migrate()
    assert await spare.schema() == before
