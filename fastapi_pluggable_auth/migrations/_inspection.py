"""What the database says about its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tortoise import BaseDBAsyncClient

COLUMNS: Final = """
    SELECT column_name AS name, data_type AS type, character_maximum_length AS length,
           collation_name AS collation
    FROM information_schema.columns WHERE table_schema = {schema} AND table_name = '{table}'
"""
INDEXES: Final = {
    "postgres": """
        SELECT i.indexrelid::text AS name, i.indisunique AS is_unique, a.attname AS column_name
        FROM pg_index i
        JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(number, place) ON true
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE i.indrelid = to_regclass('"{table}"') AND i.indpred IS NULL
        ORDER BY i.indexrelid, k.place
    """,
    "mysql": """
        SELECT index_name AS name, non_unique = 0 AS is_unique, column_name AS column_name
        FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = '{table}'
        ORDER BY index_name, seq_in_index
    """,
    "sqlite": """
        SELECT i.name AS name, i."unique" AS is_unique, c.name AS column_name
        FROM pragma_index_list('{table}') i JOIN pragma_index_info(i.name) c
        WHERE i.partial = 0 ORDER BY i.name, c.seqno
    """,
}
FOREIGN_KEYS: Final = """
    SELECT column_name AS column_name FROM information_schema.key_column_usage
    WHERE table_schema = DATABASE() AND table_name = '{table}' AND referenced_table_name IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as it is. `length` is in characters, where the type has one."""

    name: str
    type: str
    length: int | None
    collation: str | None


async def columns_of(client: BaseDBAsyncClient, table: str) -> dict[str, Column]:
    """The columns of a table by name; none where there is no such table."""
    dialect = client.capabilities.dialect
    if dialect == "sqlite":
        rows = await client.execute_query_dict(f"SELECT name, type FROM pragma_table_info('{table}')")  # noqa: S608
        return {row["name"]: Column(row["name"], row["type"].lower(), None, None) for row in rows}
    schema = "current_schema()" if dialect == "postgres" else "DATABASE()"
    rows = await client.execute_query_dict(COLUMNS.format(schema=schema, table=table))
    return {row["name"]: Column(**row) for row in rows}


async def indexes_of(client: BaseDBAsyncClient, table: str) -> list[tuple[tuple[str, ...], bool]]:
    """The columns of each index of a table, and whether it is unique."""
    query = INDEXES[client.capabilities.dialect].format(table=table)
    found: dict[str, tuple[tuple[str, ...], bool]] = {}
    row: dict[str, Any]
    for row in await client.execute_query_dict(query):
        columns, unique = found.get(row["name"], ((), bool(row["is_unique"])))
        found[row["name"]] = ((*columns, row["column_name"]), unique)
    return list(found.values())


async def foreign_keys_of(client: BaseDBAsyncClient, table: str) -> set[str]:
    """MariaDB and MySQL: the columns of a table that refer to another."""
    return {row["column_name"] for row in await client.execute_query_dict(FOREIGN_KEYS.format(table=table))}
