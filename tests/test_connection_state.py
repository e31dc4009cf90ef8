"""The library leaves nothing in a connection, so that an app may have asyncpg's pool not reset them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.context import TortoiseContext
from tortoise.transactions import in_transaction

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import AuditLog, PersonalTokens
from fastapi_pluggable_auth.flows.purge import purge

from . import databases
from .conftest import Account, Clock, Database

pytest.importorskip("asyncpg", "0.30", reason="asyncpg 0.29 always resets")

DIALECTS = ("postgres",)
# asyncpg sets `jit` and sets it back, which leaves the source.
LEFT = """
    SELECT 'setting ' || name FROM pg_settings WHERE source = 'session' AND setting <> reset_val
    UNION ALL SELECT 'lock' FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
    UNION ALL SELECT 'channel ' || channel FROM pg_listening_channels() AS channel
    UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE name <> ''
    UNION ALL SELECT 'temporary tables' WHERE pg_my_temp_schema() <> 0
"""


class Pool:
    """What is left in connections when they are given back, instead of a reset."""

    def __init__(self) -> None:
        self.left: list[str] = []
        self.given_back = 0

    async def look(self, connection: asyncpg.Connection[Any]) -> None:
        self.given_back += 1
        self.left += [row[0] for row in await connection.fetch(LEFT)]


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
async def tortoise(database: Database, pool: Pool) -> AsyncIterator[TortoiseContext]:
    connection = expand_db_url(database.url)
    connection["credentials"]["reset"] = pool.look
    async with TortoiseContext() as context:
        configured = databases.config(database.url, database.dialect)
        await context.init({**configured, "connections": {database.dialect: connection}})
        await databases.empty(context, database.dialect)
        yield context


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    features = [PersonalTokens(scopes={"notes:read": "Read notes"}), AuditLog()]
    include_auth(app, settings=settings, clock=clock, features=features)
    return app


async def test_a_connection_is_given_back_as_it_was_taken(
    account: Account, auth: Auth, client: httpx.AsyncClient, database: Database, pool: Pool
) -> None:
    """After a signup, logins, look-ups at once, personal tokens, rotations; beside a transaction of the host,
    on the library's own connections; after a purge, and a logout."""
    body = {"name": "backup", "scopes": ["notes:read"]}
    made = await client.post("/account/tokens", json=body, headers=account.headers)
    assert made.status_code == 201, made.text
    answers = await asyncio.gather(*(account.me() for _ in range(20)))
    answers += [await account.refresh(), await account.me()]
    assert {answer.status_code for answer in answers} == {200}
    async with in_transaction(database.dialect):
        wrong = {"email": account.email, "password": "not the right one"}
        assert (await client.post("/auth/login", json=wrong)).status_code == 401
        assert (await account.me()).status_code == 200
    await purge(auth)
    assert (await client.post("/auth/logout", headers=account.headers)).status_code == 200
    assert (await account.me()).status_code == 401
    assert pool.given_back > 20
    assert pool.left == []


async def test_what_an_app_leaves_in_a_connection_would_be_found(
    account: Account, tortoise: TortoiseContext, database: Database, pool: Pool
) -> None:
    connection = tortoise.connections.get(database.dialect)
    await connection.execute_script("SET work_mem = '5MB'; SELECT pg_advisory_lock(1); LISTEN changes")
    await connection.execute_script("SELECT pg_advisory_unlock_all(); UNLISTEN *; RESET ALL")
    assert pool.left == ["setting work_mem", "lock", "channel changes"]
