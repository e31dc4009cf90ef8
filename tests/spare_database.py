"""A second database, whose tables a test makes itself."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tortoise.context import TortoiseContext
from tortoise.migrations.api import migrate as tortoise_migrate

from . import databases

MIGRATIONS = "fastapi_pluggable_auth.migrations"


class SpareDatabase:
    """A database of its own, whose tables a test makes."""

    def __init__(self, dialect: str, url: str) -> None:
        self.dialect, self.url = dialect, url

    async def create(self, models: str | None = None) -> None:
        """An empty database, with the tables of these models."""
        await databases.create(self.url, self.dialect, models)

    async def migrate(self, target: str | None = None, **options: Any) -> None:
        """`tortoise migrate`."""
        config = databases.config(self.url, self.dialect, migrations=MIGRATIONS)
        async with TortoiseContext():
            await tortoise_migrate(config=config, target=target, **options)

    @asynccontextmanager
    async def opened(self, models: str = "fastapi_pluggable_auth.models") -> AsyncIterator[TortoiseContext]:
        """Tortoise on it."""
        async with TortoiseContext() as context:
            # Tortoise caches SQL by the names of connection and table.
            connection = self.dialect if models.startswith("fastapi") else f"{self.dialect} {models}"
            await context.init(databases.config(self.url, connection, models=models))
            yield context

    async def query(self, sql: str) -> list[dict[str, Any]]:
        async with self.opened() as context:
            return await context.connections.get(self.dialect).execute_query_dict(sql)

    def quoted(self, table: str) -> str:
        """The name as SQL has it."""
        return f"`{table}`" if self.dialect == "mysql" else f'"{table}"'

    async def tables(self) -> set[str]:
        """The names of all tables."""
        return {row["name"] for row in await self.query(TABLES[self.dialect])}

    async def schema(self, *, lengths: bool = True) -> dict[str, Any]:
        """Columns, indexes and foreign keys of each table, without names that databases make up."""
        tables = await self.tables() - {"note", "tortoise_migrations", "sqlite_sequence"}
        found = {}
        for table in tables:
            parts = [await self.query(part.format(table=table)) for part in SCHEMA[self.dialect]]
            columns, indexes, keys = ([tuple(row.values()) for row in rows] for rows in parts)
            if not lengths:
                columns = [
                    tuple(re.sub(r"\(\d+\)", "", cell) if isinstance(cell, str) else cell for cell in column)
                    for column in columns
                ]
            found[table] = (set(columns), set(indexes), set(keys))
        return found


TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "postgres": "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'",
    "mysql": "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = DATABASE()",
}
SCHEMA = {
    "sqlite": (
        "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('{table}')",
        'SELECT i."unique", (SELECT group_concat(name) FROM pragma_index_info(i.name))'
        " FROM pragma_index_list('{table}') i",
        'SELECT "table", "from", "to", on_delete FROM pragma_foreign_key_list(\'{table}\')',
    ),
    "postgres": (
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
        " pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a"
        " LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
        " WHERE a.attrelid = '\"{table}\"'::regclass AND a.attnum > 0 AND NOT a.attisdropped",
        "SELECT indisunique, indisprimary, regexp_replace(pg_get_indexdef(indexrelid), '^.* USING', '')"
        # Those for searches are PostgreSQL's, and no model's.
        " FROM pg_index WHERE indrelid = '\"{table}\"'::regclass"
        " AND indexrelid::regclass::text !~ '_(parts|beginnings)$'",
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = '\"{table}\"'::regclass AND contype = 'f'",
    ),
    "mysql": (
        "SELECT column_name, column_type, collation_name, is_nullable, column_default, extra"
        " FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '{table}'",
        "SELECT non_unique, group_concat(column_name ORDER BY seq_in_index), count(*)"
        " FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = '{table}'"
        " GROUP BY index_name, non_unique",
        "SELECT k.column_name, k.referenced_table_name, r.delete_rule"
        " FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r"
        " USING (constraint_name, constraint_schema)"
        " WHERE k.table_schema = DATABASE() AND k.table_name = '{table}'",
    ),
}
