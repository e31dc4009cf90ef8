"""Finds a pooler in front of PostgreSQL that mixes up prepared statements.

A driver prepares a statement under a name and runs it later by that name. A pooler that gives a connection of
the server to one client after the other lets a client run what another one has prepared under the same name:
a query of other rows, or a change.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar
from uuid import uuid4

from tortoise import Model
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connections

from .database import ended_within, new_client
from .failures import Failure, PoolerError, failure_of

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOOKING_SECONDS: Final = 5.0
"""How long the start, and the first requests, wait for the answer."""
PAUSE_SECONDS: Final = 1.0
"""Before the next look, after a database that did not answer."""
LONG_PAUSE_SECONDS: Final = 60.0
"""The same after one that took too long: a pooler may have no second connection to give."""

ROUNDS: Final = 10
"""psycopg prepares a statement when it runs for the sixth time."""

PREPARED: Final = "SELECT '{first}{second}' AS mark"
FOUND: Final = (
    "SELECT name FROM pg_prepared_statements WHERE name ~ '^(__asyncpg_|_pg3_)' "
    "AND position('{first}' || '{second}' in statement) > 0"
)
"""The names are those of asyncpg and psycopg: a pooler that keeps prepared statements apart renames them."""


class PoolerWatch:
    """Keeps an app from working behind a pooler that mixes up prepared statements. It looks when the database
    answers for the first time: at the start, or else at the next request."""

    def __init__(self, model: type[Model]) -> None:
        self.settled = False
        """Whether there is none."""
        self._model = model
        self._found = False
        self._looking: asyncio.Task[None] | None = None
        self._next = self._given_up = 0.0

    async def before(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs work that needs the database. Raises `PoolerError`, and what the work does."""
        try:
            await self.look()
        except BaseException:
            work.close()
            raise
        return await work

    async def look(self) -> None:
        """Raises `PoolerError`. Where nobody can tell yet, it is looked again later."""
        if not (self._found or self.settled) and time.monotonic() >= self._next:
            loop = asyncio.get_running_loop()
            looking = self._looking
            if looking is None or looking.done() or looking.get_loop() is not loop:
                looking = self._looking = loop.create_task(self._look(), name="pooler")
                self._given_up = time.monotonic() + LOOKING_SECONDS
            # Those who wait for less may be all there are: none would find out that it takes too long.
            if not await ended_within(looking, self._given_up - time.monotonic()):
                self._later("no answer in time", LONG_PAUSE_SECONDS)
        if self._found:
            raise PoolerError

    async def _look(self) -> None:
        try:
            self._found = await mixes_up_statements(self._model)
            self.settled = not self._found
        except Exception as error:
            self._later(str(error) or type(error).__name__, PAUSE_SECONDS)

    def _later(self, reason: str, pause: float) -> None:
        level = logging.DEBUG if self._next else logging.WARNING  # once: requests say what they meet
        logger.log(level, "A pooler could not be looked for, and is at a later request: %s", reason)
        self._next = time.monotonic() + pause


async def mixes_up_statements(model: type[Model]) -> bool:
    """Whether a pooler in front of the model's database mixes up prepared statements. Raises what the
    database does."""
    name = str(model._meta.default_connection)
    client = get_connections().get(name)
    if client.capabilities.dialect != "postgres" or await _is_direct(client):
        return False
    one, other = new_client(name, most=1), new_client(name, most=1)
    try:
        return await _mixes_up(one, other)
    finally:
        await one.close()
        await other.close()


async def _is_direct(client: BaseDBAsyncClient) -> bool:
    """Whether a connection ends at the server, which says at its start what process serves it. A pooler makes
    a number up."""
    connection: Any
    async with client.acquire_connection() as connection:
        if not hasattr(connection, "get_server_pid"):  # psycopg
            return False
        same = (
            f"SELECT FROM generate_series(1, 1) WHERE pg_backend_pid() = {int(connection.get_server_pid())}"
        )
        return bool(await connection.execute(same) == "SELECT 1")  # a simple query: nothing is prepared


async def _mixes_up(one: BaseDBAsyncClient, other: BaseDBAsyncClient) -> bool:
    """Whether what one client prepares meets the other, or is lost. The statements change nothing and have no
    parameters, in either client."""
    parts = {"first": uuid4().hex, "second": uuid4().hex}
    mark = parts["first"] + parts["second"]
    try:
        for _ in range(ROUNDS):
            rows = await one.execute_query_dict(PREPARED.format(**parts))
            if rows != [{"mark": mark}] or await other.execute_query_dict(FOUND.format(**parts)):
                return True
    except Exception as error:
        if failure_of(error) is not Failure.MIXED_UP:
            raise
        return True
    return False
