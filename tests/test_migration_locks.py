"""Migrations beside an app that runs: nobody waits long for them, and they get through."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any
from urllib.parse import urlsplit

import asyncmy
import asyncpg
import pytest

from fastapi_pluggable_auth import migrations
from fastapi_pluggable_auth.migrations import _locks
from fastapi_pluggable_auth.migrations._locks import TablesInUseError
from fastapi_pluggable_auth.migrations._tables import TableTakenError

from .spare_database import SpareDatabase
from .test_migrations import FIRST, OLD, fill
from .test_workers import ROOT

on_servers = pytest.mark.parametrize("spare", ["postgres", "mysql"], indirect=True)
on_mysql = pytest.mark.parametrize("spare", ["mysql"], indirect=True)

Run = Callable[[str], Awaitable[Any]]
CHAIN = sorted(path.stem for path in Path(migrations.__path__[0]).glob("0*.py"))


@asynccontextmanager
async def connection(spare: SpareDatabase) -> AsyncIterator[Run]:
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
async def old(spare: SpareDatabase, monkeypatch: pytest.MonkeyPatch) -> SpareDatabase:
    """The database of an app of 0.1."""
    monkeypatch.setattr(_locks, "LOCK_SECONDS", 1)
    monkeypatch.setattr(_locks, "PAUSE_SECONDS", 0.2)
    await spare.create(OLD[0])
    await fill(spare, OLD[0])
    await spare.migrate(FIRST, fake=True)
    return spare


@on_servers
async def test_a_long_reader_stops_no_request_for_long_and_the_migration_comes_after_it(
    old: SpareDatabase,
) -> None:
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
    old: SpareDatabase, monkeypatch: pytest.MonkeyPatch
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
async def test_a_step_that_the_database_ends_for_a_deadlock_is_taken_again(old: SpareDatabase) -> None:
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
from tests.spare_database import SpareDatabase
asyncio.run(SpareDatabase(sys.argv[1], sys.argv[2]).migrate())
"""
AT_ONCE = """
import asyncio, sys
import aiosqlite, asyncmy, asyncpg
import fastapi_pluggable_auth.models, fastapi_pluggable_auth.migrations._tables
from tests.spare_database import SpareDatabase
print("ready", flush=True)
sys.stdin.readline()
asyncio.run(SpareDatabase(sys.argv[1], sys.argv[2]).migrate())
"""


def migrate_at_once(spare: SpareDatabase, count: int) -> list[tuple[int, str]]:
    """As many processes, from the same moment on; gives how each ended, and what it said."""
    command = [sys.executable, "-c", AT_ONCE, spare.dialect, spare.url]
    processes = [
        Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) for _ in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=120)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


@pytest.mark.full
@pytest.mark.parametrize("upgrade", [False, True], ids=["an empty database", "one of 0.1"])
def test_processes_that_migrate_at_once_all_end_well(spare: SpareDatabase, *, upgrade: bool) -> None:
    asyncio.run(spare.create("fastapi_pluggable_auth.models"))
    whole = asyncio.run(spare.schema(lengths=False))
    for _ in range(3):
        asyncio.run(spare.create(OLD[0] if upgrade else None))
        if upgrade:
            asyncio.run(fill(spare, OLD[0]))
            asyncio.run(spare.migrate(FIRST, fake=True))
        for status, error in migrate_at_once(spare, 3):
            assert status == 0, error
        assert asyncio.run(spare.schema(lengths=False)) == whole
        recorded = asyncio.run(spare.query("SELECT name FROM tortoise_migrations ORDER BY name"))
        assert [row["name"] for row in recorded] == CHAIN


async def test_a_table_of_the_host_of_the_same_name_is_not_taken_for_ours(spare: SpareDatabase) -> None:
    await spare.create()
    user = spare.quoted("user")
    await spare.query(f"CREATE TABLE {user} (id INTEGER PRIMARY KEY, email VARCHAR(255))")
    with pytest.raises(TableTakenError, match="a table user already, without created_at, "):
        await spare.migrate()
    await spare.query(f"SELECT id, email FROM {user}")
    assert "auth_session" not in await spare.tables()
