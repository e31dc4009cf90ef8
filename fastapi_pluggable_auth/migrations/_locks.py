"""Waiting for tables that others use, without making all others wait.

A change of a table waits for the transactions that have read it, and everyone else waits behind the change.
So the wait is short, and is repeated after a pause in which the others get through."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from tortoise.exceptions import OperationalError
from tortoise.migrations.operations import TortoiseOperation
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_generator.state import State
from tortoise.transactions import in_transaction

from ..database import new_client
from ..failures import PASSING, Failure, failure_of
from ._inspection import columns_of

LOCK_SECONDS: Final = 2
TRIES: Final = 20
PAUSE_SECONDS: Final = 1.0

WRITE_NOTHING: Final = "UPDATE tortoise_migrations SET name = name WHERE 0"
"""Takes the right to write, in the table that is there before the first migration."""

DONE_BY_ANOTHER: Final = frozenset({1050, 1060, 1061, 1826})
"""MariaDB and MySQL: the table, column, index or foreign key is there: another process migrates, too."""
DUPLICATE_KEY: Final = "errno: 121 "
"""What MariaDB says of a foreign key that another process adds with the same table at this moment (1005)."""


class TablesInUseError(Exception):
    """Other transactions kept using the tables."""


class LockTables(TortoiseOperation):
    """PostgreSQL: takes all tables of the package at once, or none, before the first one is changed. What is
    taken one after the other is kept while the next one is waited for. It may be those of some `models`, in
    another `mode`. SQLite: takes the right to write, which a transaction that has read before does not get.
    Of several processes that migrate, one goes on and the others wait for it."""

    reversible = True
    reduces_to_sql = False

    def __init__(self, *models: str, mode: str = "ACCESS EXCLUSIVE") -> None:
        self.models, self.mode = models, mode

    def describe(self) -> str:
        """What `tortoise sqlmigrate` shows."""
        return "Lock the tables (PostgreSQL, SQLite)"

    def state_forward(self, app_label: str, state: State) -> None:
        """Changes nothing."""

    async def database_forward(
        self, app_label: str, old_state: State, new_state: State, state_editor: BaseSchemaEditor | None = None
    ) -> None:
        """Raises `TablesInUseError`."""
        if state_editor is None or state_editor.collect_sql:
            return
        client, quote = state_editor.client, state_editor.quote
        if state_editor.DIALECT == "sqlite":
            await until_free(lambda: client.execute_query(WRITE_NOTHING))
        if state_editor.DIALECT != "postgres":
            return

        async def go_first() -> None:
            async with in_transaction(client.connection_name):  # a savepoint
                await client.execute_script(
                    "SELECT pg_advisory_xact_lock(hashtext('fastapi_pluggable_auth'))"
                )

        await _where_known(go_first())
        models = [
            new_state.apps.get_model(f"{label}.{name}")
            for label, name in new_state.models
            if label == app_label and (not self.models or name in self.models)
        ]
        names = sorted({model._meta.db_table for model in models})
        tables = ", ".join([quote(name) for name in names if await columns_of(client, name)])
        if not tables:
            return

        lock_all = f"LOCK TABLE {tables} IN {self.mode} MODE"

        async def lock() -> None:
            async with in_transaction(client.connection_name):  # a savepoint: it gives back what it has taken
                await client.execute_script(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; {lock_all}")

        await _where_known(until_free(lock))

    async def database_backward(
        self, app_label: str, old_state: State, new_state: State, state_editor: BaseSchemaEditor | None = None
    ) -> None:
        """Changes nothing."""


async def taken(editor: BaseSchemaEditor, step: Callable[[], Awaitable[None]]) -> None:
    """Takes a step, on MariaDB and MySQL with a connection on which no statement waits long, and again where
    others were in the way: they commit each statement, so that a step looks anew what is left to do. Raises
    `TablesInUseError`."""
    if editor.collect_sql or editor.DIALECT != "mysql":
        await step()
        return
    root = editor.client
    editor.client = client = new_client(root.connection_name, most=1)
    try:
        for waits in ("lock_wait_timeout", "innodb_lock_wait_timeout"):
            await client.execute_script(f"SET SESSION {waits} = {LOCK_SECONDS}")
        await until_free(step)
    finally:
        editor.client = root
        await client.close()


async def until_free(work: Callable[[], Awaitable[object]]) -> None:
    """Does the work, again where others were in the way. Raises `TablesInUseError`."""
    for tries_left in reversed(range(TRIES)):
        try:
            await work()
            return
        except Exception as error:
            if failure_of(error) not in PASSING and not _is_done_by_another(error):
                raise
            if not tries_left:
                raise TablesInUseError(
                    f"Other transactions have used the tables for {TRIES} tries: end those that are idle or"
                    " long (pg_stat_activity, SHOW PROCESSLIST), and migrate again. It goes on where it was."
                ) from error
        await asyncio.sleep(PAUSE_SECONDS)


async def _where_known(locking: Coroutine[Any, Any, object]) -> None:
    """Other engines with the protocol of PostgreSQL may have no such locks: there one process migrates."""
    try:
        await locking
    except OperationalError as error:
        if failure_of(error) is not Failure.UNSUPPORTED:
            raise


def _is_done_by_another(error: Exception) -> bool:
    cause = error.args[0] if error.args else None
    number = cause.args[0] if isinstance(cause, Exception) and cause.args else None
    return number in DONE_BY_ANOTHER or (number == 1005 and DUPLICATE_KEY in str(cause))
