"""Indexes of several columns, and those that find parts of a text."""

from __future__ import annotations

import logging
from typing import Final

from tortoise.exceptions import OperationalError
from tortoise.indexes import Index
from tortoise.migrations.operations import AddIndex
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_generator.state import State
from tortoise.transactions import in_transaction

from .._frameworks import run_sql
from ._inspection import columns_of, indexes_of
from ._steps import Step, model_of

logger = logging.getLogger(__name__)

SEARCHED: Final = ("email", "username", "roles")
"""Columns of which administrators name a part."""
EXTENSION: Final = "CREATE EXTENSION IF NOT EXISTS pg_trgm"


class IndexColumns(Step, AddIndex):
    """Indexes columns of a table, unless they are."""

    def __init__(self, model_name: str, *columns: str) -> None:
        super().__init__(model_name, Index(fields=columns))

    async def take(self, editor: BaseSchemaEditor, state: State, app_label: str) -> None:
        """Takes the step; on PostgreSQL others may read the table meanwhile."""
        model = model_of(state, app_label, self.model_name)
        indexed = [] if editor.collect_sql else await indexes_of(editor.client, model._meta.db_table)
        if not any(columns == tuple(self.index.fields) for columns, _ in indexed):
            await editor.add_index(model, self.index)


class IndexParts(Step):
    """PostgreSQL: an index of how addresses begin, for searches of one or two letters, and one of three
    letters each (`pg_trgm`), where the extension may be had. Nothing depends on them but how long a search
    takes. Others may read the table meanwhile."""

    def state_forward(self, app_label: str, state: State) -> None:
        """Changes nothing: no model speaks of it."""

    def describe(self) -> str:
        """What `tortoise sqlmigrate` shows."""
        return "Index parts of addresses and names (PostgreSQL)"

    async def take(self, editor: BaseSchemaEditor, state: State, app_label: str) -> None:
        """Without rights for the extension, a warning says what to run."""
        if editor.DIALECT != "postgres":
            return
        table = model_of(state, app_label, "User")._meta.db_table
        there = {"email", "roles"} if editor.collect_sql else await columns_of(editor.client, table)
        columns = ", ".join(f"{editor.quote(name)} gin_trgm_ops" for name in SEARCHED if name in there)
        name = editor.quote(f"idx_{table}_parts")
        index = f"CREATE INDEX IF NOT EXISTS {name} ON {editor.quote(table)} USING gin ({columns})"
        await run_sql(
            editor,
            f"CREATE INDEX IF NOT EXISTS {editor.quote(f'idx_{table}_beginnings')}"
            f" ON {editor.quote(table)} ({editor.quote('email')} text_pattern_ops)",
        )
        if editor.collect_sql:
            await run_sql(editor, EXTENSION)
            await run_sql(editor, index)
            return
        try:
            async with in_transaction(editor.client.connection_name):  # a savepoint
                await editor.client.execute_script(EXTENSION)
                await editor.client.execute_script(index)
        except OperationalError as error:
            logger.warning(
                "Searches of accounts have no index, as the extension pg_trgm cannot be had (%s): let who may"
                " run `%s`, then run `%s`.",
                error,
                EXTENSION,
                index.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY"),
            )
