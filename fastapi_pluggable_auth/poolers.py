"""Finds a pooler in front of PostgreSQL that mixes up prepared statements.

A driver prepares a statement under a name and runs it later by that name. A pooler that gives a connection of
the server to one client after the other lets a client run what another one has prepared under the same name:
a query of other rows, or a change.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

from tortoise import Model
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import get_connections

from .database import new_client, root_of
from .failures import POOLER_ADVICE, Failure, failure_of

ROUNDS: Final = 10
"""psycopg prepares a statement when it runs for the sixth time."""

PREPARED: Final = "SELECT '{first}{second}' AS mark"
FOUND: Final = (
    "SELECT name FROM pg_prepared_statements WHERE name ~ '^(__asyncpg_|_pg3_)' "
    "AND position('{first}' || '{second}' in statement) > 0"
)
"""The names are those of asyncpg and psycopg: a pooler that keeps prepared statements apart renames them."""

PROBLEM: Final = f"A pooler mixes up prepared statements: requests fail, or get other rows. {POOLER_ADVICE}"


async def pooler_problem(model: type[Model]) -> str | None:
    """What to do where a pooler in front of the model's database mixes up prepared statements; None where
    there is none. Raises what the database does."""
    name = str(model._meta.default_connection)
    client = root_of(get_connections().get(name))
    if client.capabilities.dialect != "postgres" or await _is_direct(client):
        return None
    one, other = new_client(name, most=1), new_client(name, most=1)
    try:
        return PROBLEM if await _mixes_up(one, other) else None
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
    parameters, whoever runs them."""
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
