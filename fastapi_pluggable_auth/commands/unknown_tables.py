"""Tables that may be those of features that a command does not know."""

from __future__ import annotations

from typing import Final

from ..models import Tables
from ..models.user import U_co

_KEYS: Final = (
    "SELECT table_name AS name, referenced_table_name AS target FROM information_schema.key_column_usage"
    " WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL"
)
_REFERRING: Final = {
    "sqlite": 'SELECT m.name AS name, f."table" AS target'
    " FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'",
    "postgres": "SELECT conrelid::regclass::text AS name, confrelid::regclass::text AS target"
    " FROM pg_constraint WHERE contype = 'f'",
    "mysql": _KEYS,
}


async def unknown_tables(tables: Tables[U_co]) -> list[str]:
    """The names of the other tables in the database that refer to an account or to a session."""
    client = tables.user._meta.db
    known = {model._meta.db_table for model in tables}
    targets = {tables.user._meta.db_table, tables.session._meta.db_table}
    rows = await client.execute_query_dict(_REFERRING[client.capabilities.dialect])
    found = {row["name"].strip('"') for row in rows if row["target"].strip('"') in targets}
    return sorted(found - known)
