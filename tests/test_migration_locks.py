"""Migrations beside an app that runs: nobody waits long for them, and they get through."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncmy
import asyncpg
import pytest

from fastapi_pluggable_auth.migrations import _locks
from fastapi_pluggable_auth.migrations._locks import TablesInUseError

from .spare import Spare
from .test_migrations import FIRST, OLD, fill
from .test_workers import ROOT

on_servers = pytest.mark.parametrize("spare", ["postgres", "mysql"], indirect=True)
on_mysql = pytest.mark.parametrize("spare", ["mysql"], indirect=True)

Run = Callable[[str], Awaitable[Any]]


@asynccontextmanager
async def connection(spare: Spare) -> AsyncIterator[Run]:
    """A connection of somebody else."""
    if spare.dialect == "postgres":
        postgres = await asyncpg.connect(spare.url)
        yield postgres.execute
        postgres.terminate()
        return
    at = urlsplit(spare.url)
    where = {"host": at.hostname, "port": at.port, "user": at.username, "password": at.password or ""}
    mysql = await asyncmy.connect(**where, db=at.path[1:], autocommit=True)

    async def run(statement: str) -> None:
        async with mysql.cursor() as cursor:
            await cursor.execute(statement)

    yield run
    mysql.close()


@pytest.fixture
async def old(spare: Spare, monkeypatch: pytest.MonkeyPatch) -> Spare:
    """The database of an app of 0.1."""
    monkeypatch.setattr(_locks, "LOCK_SECONDS", 1)
    monkeypatch.setattr(_locks, "PAUSE_SECONDS", 0.2)
    await spare.create(OLD[0])
    await fill(spare, OLD[0])
    await spare.migrate(FIRST, fake=True)
    return spare


@on_servers
async def test_a_long_reader_stops_no_request_for_long_and_the_migration_comes_after_it(old: Spare) -> None:
    user = old.quoted("user")
    slowest, stop = 0.0, asyncio.Event()

    async def request() -> None:
        nonlocal slowest
        async with connection(old) as run:
            while not stop.is_set():
                begun = time.monotonic()
                await run(f"SELECT 1 FROM {user}")
                slowest = max(slowest, time.monotonic() - begun)
                await asyncio.sleep(0.01)

    async with connection(old) as read:
        await read("BEGIN")
        await read(f"SELECT 1 FROM {user}")
        requests = asyncio.create_task(request())
        migration = asyncio.create_task(old.migrate())
        await asyncio.sleep(4)
        assert not migration.done()
        waited = slowest
        await read("COMMIT")
    await migration
    stop.set()
    await requests
    assert 0.3 < waited < 3  # as long as one statement waits, and not as the reader takes
    assert "auth_device" in await old.tables()


@pytest.mark.full
@on_servers
async def test_a_reader_that_never_ends_fails_the_migration_and_the_next_one_goes_on(
    old: Spare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_locks, "TRIES", 2)
    async with connection(old) as read:
        await read("BEGIN")
        await read(f"SELECT 1 FROM {old.quoted('user')}")
        with pytest.raises(TablesInUseError, match="migrate again"):
            await old.migrate()
    await old.migrate()
    assert "auth_device" in await old.tables()


@on_mysql
async def test_a_step_that_the_database_ends_for_a_deadlock_is_taken_again(old: Spare) -> None:
    async with connection(old) as run:
        await run("CREATE TABLE ended (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=0")
        await run(
            "CREATE TRIGGER deadlock BEFORE UPDATE ON refreshtoken FOR EACH ROW BEGIN"
            " IF (SELECT COUNT(*) FROM ended) < 3 THEN INSERT INTO ended () VALUES ();"
            " SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found'; END IF; END"
        )
        await old.migrate()
        await run("DROP TRIGGER deadlock")
    assert len(await old.query("SELECT * FROM ended")) == 3
    assert all(len(row["token"]) == 64 for row in await old.query("SELECT token FROM refreshtoken"))


MIGRATE = """
import asyncio, sys
from tests.spare import Spare
asyncio.run(Spare(sys.argv[1], sys.argv[2]).migrate())
"""


@pytest.mark.full
@on_servers
async def test_processes_that_migrate_at_once_leave_whole_tables(old: Spare) -> None:
    """The record of what was applied is Tortoise's: of several processes, those may fail that come second."""
    command = [sys.executable, "-c", MIGRATE, old.dialect, old.url]
    both = [await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=-1) for _ in range(2)]
    errors = [(await process.communicate())[1].decode() for process in both]
    for process, error in zip(both, errors, strict=True):
        assert process.returncode == 0 or "record_applied" in error, error
    await old.migrate()
    schema = await old.schema()
    await old.create()
    await old.create("fastapi_pluggable_auth.models")
    assert schema.keys() == (await old.schema()).keys()
