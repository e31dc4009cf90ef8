"""Rows of before: their moments become UTC in one form, and no row of any table is lost on the way."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pkgutil import iter_modules

import pytest
from tortoise.context import TortoiseContext
from tortoise.migrations.api import migrate

from fastapi_pluggable_auth import migrations
from fastapi_pluggable_auth.migrations import _rows
from fastapi_pluggable_auth.migrations._indexes import IndexColumns, IndexParts
from fastapi_pluggable_auth.migrations._locks import LockTables
from fastapi_pluggable_auth.migrations._moments import MomentError
from fastapi_pluggable_auth.migrations._steps import DataStep
from fastapi_pluggable_auth.migrations._tables import AddColumn, CreateTable, ReferredToError
from fastapi_pluggable_auth.models import User

from . import databases
from .conftest import on_one_spare
from .spare_database import MIGRATIONS, SpareDatabase
from .test_migrations import FIRST, OLD, fill

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
BEFORE = "models.0005_audit"
FORMS = {
    "2026-01-31 12:00:00": NOON,
    "2026-01-31 12:00:00.25": NOON + timedelta(milliseconds=250),
    "2026-01-31 12:00:00+00:00": NOON,
    "2026-01-31 20:00:00.000001+08:00": NOON + timedelta(microseconds=1),
    "2026-01-31 04:00:00-08:00": NOON,
    "2026-01-31T12:00:00Z": NOON,
    "2026-01-31 12:00:00.000000+00:00": NOON,
}
"""What SQLite may have of moments in UTC."""

NEWER = (
    *("auth_device", "auth_pending", "auth_passkey", "auth_identity"),
    *("auth_oauth_client", "auth_oauth_grant", "auth_oauth_token"),
    *("auth_oauth_device", "auth_oauth_client_token"),
)
"""Tables that were not there then."""


async def add_users(spare: SpareDatabase, moments: Iterable[str]) -> None:
    """A user for each moment, stored as it is."""
    for number, moment in enumerate(moments):
        await spare.query(
            f"INSERT INTO {spare.quoted('user')} (id, email, hashed_password, is_active, is_verified,"
            f" created_at, last_login_at) VALUES ('{uuid.UUID(int=number)}', '{number}@example.com', '-',"
            f" true, true, '{moment}', '{moment}')"
        )


async def stored(spare: SpareDatabase) -> list[str]:
    """The moments of the users, as the database spells them."""
    cast = "CHAR" if spare.dialect == "mysql" else "VARCHAR"
    rows = await spare.query(
        f"SELECT CAST(created_at AS {cast}) AS one, CAST(last_login_at AS {cast}) AS other"
        f" FROM {spare.quoted('user')} ORDER BY id"
    )
    assert [row["one"] for row in rows] == [row["other"] for row in rows]
    return [row["one"] for row in rows]


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
async def test_the_upgrade_brings_every_form_that_sqlite_has_into_one(
    spare: SpareDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_rows, "BATCH", 2)
    await spare.create()
    await spare.migrate(BEFORE)
    await add_users(spare, FORMS)
    await spare.migrate()
    assert await stored(spare) == [moment.isoformat(" ", "microseconds") for moment in FORMS.values()]
    async with spare.opened():
        assert [user.created_at for user in await User.all().order_by("id")] == list(FORMS.values())
        assert await User.filter(created_at=NOON).count() == 5


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
async def test_rows_in_an_old_form_are_read_right_before_the_upgrade(spare: SpareDatabase) -> None:
    await spare.create("fastapi_pluggable_auth.models")
    async with spare.opened() as context:
        user = await User.create(email="ada@example.com", hashed_password="-")
        for text, moment in FORMS.items():
            await context.connections.get("sqlite").execute_query('UPDATE "user" SET created_at = ?', [text])
            assert (await User.get()).created_at == moment
            assert await User.all().values_list("created_at", flat=True) == [moment]
            await user.refresh_from_db(["created_at"])
            assert user.created_at == moment


async def without_zone(spare: SpareDatabase) -> None:
    """The tables of before, on PostgreSQL with columns that keep no zone."""
    await spare.create()
    await spare.migrate(BEFORE)
    if spare.dialect == "postgres":
        for column in ("created_at", "last_login_at"):
            await spare.query(f'ALTER TABLE "user" ALTER COLUMN {column} TYPE TIMESTAMP')


async def test_moments_without_an_offset_are_those_of_the_zone_that_is_named(
    spare: SpareDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTH_UPGRADE_ZONE", "Europe/Berlin")
    await without_zone(spare)
    await add_users(spare, ["2026-01-31 13:00:00", "2026-07-31 14:00:00"])
    await spare.migrate()
    assert [text[:19] for text in await stored(spare)] == ["2026-01-31 12:00:00", "2026-07-31 12:00:00"]
    async with spare.opened():
        assert await User.filter(created_at=NOON, last_login_at=NOON).count() == 1


@pytest.mark.parametrize("spare", databases.SERVERS, indirect=True)
async def test_moments_that_do_not_tell_their_zone_are_converted_once(
    spare: SpareDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of two that migrate at once, and where the first was broken off before it was recorded."""
    monkeypatch.setenv("AUTH_UPGRADE_ZONE", "Asia/Shanghai")
    await without_zone(spare)
    await add_users(spare, ["2026-01-31 20:00:00"])
    await spare.migrate()
    await spare.query("DELETE FROM tortoise_migrations WHERE name >= '0006'")
    await spare.migrate()
    assert [text[:19] for text in await stored(spare)] == ["2026-01-31 12:00:00"]


@pytest.mark.parametrize(
    ("spare", "named"),
    [("sqlite", ""), ("postgres", ""), ("mysql", "UTC"), pytest.param("mysql", "", marks=pytest.mark.full)],
    indirect=["spare"],
)
async def test_an_upgrade_in_another_zone_that_names_none_takes_rows_for_utc_and_warns(
    spare: SpareDatabase, named: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AUTH_UPGRADE_ZONE", named)
    await without_zone(spare)
    await add_users(spare, ["2026-01-31 12:00:00"])
    config = databases.config(spare.url, spare.dialect, migrations=MIGRATIONS)
    async with TortoiseContext():
        await migrate(config={**config, "timezone": "Asia/Shanghai"})
    assert [text[:19] for text in await stored(spare)] == ["2026-01-31 12:00:00"]
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    said = [record.getMessage() for record in warned if "UPGRADE_ZONE=Asia/Shanghai" in record.getMessage()]
    # SQLite's texts of another zone say their offset.
    assert len(said) == (spare.dialect != "sqlite" and not named)


@pytest.mark.parametrize("wrong", ["'yesterday'", "x'00'"])
@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
async def test_what_is_no_moment_is_named_and_nothing_is_changed(spare: SpareDatabase, wrong: str) -> None:
    await spare.create()
    await spare.migrate(BEFORE)
    await add_users(spare, ["2026-01-31 12:00:00", "2026-01-31 13:00:00"])
    await spare.query(f"UPDATE user SET created_at = {wrong} WHERE email = '1@example.com'")
    with pytest.raises(MomentError, match=r"user\.created_at of 0{8}-0.*1 is not a moment: .*'\. Change it"):
        await spare.migrate()
    (first, second) = await spare.query("SELECT created_at, quote(created_at) AS text FROM user ORDER BY id")
    assert (first["created_at"], second["text"].lower()) == ("2026-01-31 12:00:00", wrong)
    assert "auth_device" not in await spare.tables()


ROWS = {
    "auth_session": "id, authenticated_at, expires_at, user_agent, address, created_at, user_id",
    "refreshtoken": "id, token, jti, expires_at, revoked, created_at, user_id, session_id",
    "auth_mail": "id, kind, recipient, context, state, attempts, give_up_at, last_error, created_at, user_id",
    "auth_recovery_code": "id, digest, created_at, user_id",
    "auth_personal_token": "id, name, digest, created_at, user_id",
    "auth_audit_event": "id, time, user_id, kind, outcome, factors, address, user_agent",
    "auth_throttle": "id, count, started_at, blocked_until, version",
}
"""What a row of each table needs."""


async def add_rows(spare: SpareDatabase, user_id: object) -> None:
    """A row in every table beside the users."""
    special = {"user_id": str(user_id), "session_id": str(user_id), "context": "{}"}
    for table, columns in ROWS.items():
        values = []
        for column in columns.split(", "):
            moment = column in ("time", "give_up_at", "blocked_until") or column.endswith("_at")
            number = column in ("attempts", "count", "version", "revoked")
            value = str(user_id) if column == "id" else special.get(column, "x")
            value = "2026-01-31 12:00:00" if moment else value
            zero = "false" if column == "revoked" else "0"
            values.append(zero if number else f"'{value}'")
        names = ", ".join(spare.quoted(column) for column in columns.split(", "))
        await spare.query(f"INSERT INTO {spare.quoted(table)} ({names}) VALUES ({', '.join(values)})")


async def counts(spare: SpareDatabase) -> dict[str, int]:
    """The rows of each table."""
    tables = [*databases.TABLES, "note"]
    found = {}
    for table in sorted(await spare.tables() & set(tables)):
        (row,) = await spare.query(f"SELECT count(*) AS rows_ FROM {spare.quoted(table)}")
        found[table] = row["rows_"]
    return found


@pytest.mark.parametrize("models", [OLD[0], pytest.param(OLD[1], marks=pytest.mark.full)])
@on_one_spare
async def test_no_row_of_any_table_is_lost_on_the_way_forward_or_back(
    spare: SpareDatabase, models: str
) -> None:
    """On SQLite a table is rebuilt to alter a column, which empties those that refer to it."""
    await spare.create(models)
    await fill(spare, models)
    await spare.migrate(FIRST, fake=True)
    await spare.migrate(BEFORE)
    (user, *_) = await spare.query(f"SELECT id FROM {spare.quoted('user')}")
    await add_rows(spare, user["id"])
    before = await counts(spare)
    assert before == {**dict.fromkeys(ROWS, 1), "user": 3, "refreshtoken": 7, "note": 3}
    await spare.migrate()
    made = dict.fromkeys(NEWER, 0)
    assert await counts(spare) == before | made
    for step in ("0005_audit", "0004_authorization", "0002_refresh_token_digests", "0001_initial"):
        with pytest.raises(ValueError, match="is not reversible"):
            await spare.migrate(f"models.{step}", direction="backward")
        assert await counts(spare) == before | made


def test_no_migration_alters_or_drops_a_column() -> None:
    names = [module.name for module in iter_modules(migrations.__path__) if module.name[0].isdigit()]
    steps = [
        step
        for name in names
        for step in import_module(f"{migrations.__name__}.{name}").Migration(name, "models").operations
    ]
    assert len(names) >= 6
    kinds = {type(step) for step in steps if not isinstance(step, DataStep)}
    assert kinds == {CreateTable, AddColumn, IndexColumns, IndexParts, LockTables}


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
async def test_a_table_of_the_host_that_refers_to_numbered_tokens_keeps_its_rows(
    spare: SpareDatabase,
) -> None:
    await spare.create(OLD[1])
    await fill(spare, OLD[1])
    await spare.query(
        "CREATE TABLE device (id INTEGER PRIMARY KEY, token_id INTEGER NOT NULL"
        " REFERENCES RefreshToken (id) ON DELETE CASCADE)"
    )
    await spare.query("INSERT INTO device SELECT id, id FROM refreshtoken")
    await spare.migrate(FIRST, fake=True)
    with pytest.raises(ReferredToError, match="device refers to refreshtoken"):
        await spare.migrate()
    (row,) = await spare.query("SELECT count(*) AS rows_ FROM device")
    assert row["rows_"] == 6
