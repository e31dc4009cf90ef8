"""Steps on tables. They look before they act: MariaDB commits each statement, so a migration that was broken
off begins again with some of its steps done."""

from __future__ import annotations

from tortoise import Model
from tortoise.fields import CharField
from tortoise.fields.relational import ForeignKeyFieldInstance
from tortoise.indexes import Index
from tortoise.migrations.constraints import UniqueConstraint
from tortoise.migrations.operations import AddField, CreateModel
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_generator.state import State

from .._frameworks import foreign_key_of, run_sql
from ._inspection import Column, columns_of, foreign_keys_of, indexes_of
from ._steps import DataStep, Step, model_of


class ReferredToError(Exception):
    """A table of the host refers to one of 0.1 by a key that changes."""


class TableTakenError(Exception):
    """There is another table of the same name."""


class CreateTable(Step, CreateModel):
    """Creates a table, unless it is there."""

    async def take(self, editor: BaseSchemaEditor, state: State, app_label: str) -> None:
        """Raises `TableTakenError` where there is one with other columns."""
        model = model_of(state, app_label, self.name)
        table = model._meta.db_table
        found = {} if editor.collect_sql else await columns_of(editor.client, table)
        if not found:
            await editor.create_model(model)
        elif missing := sorted(model._meta.db_fields - found.keys()):
            raise TableTakenError(
                f"There is a table {table} already, without {', '.join(missing)}: it is not the package's. "
                "Rename it, or give your own user model a table of another name."
            )


class AddColumn(Step, AddField):
    """Adds a column, unless it is there, with what Tortoise's own step leaves out: its index, and on MariaDB
    its foreign key."""

    async def take(self, editor: BaseSchemaEditor, state: State, app_label: str) -> None:
        """Takes the step."""
        model = model_of(state, app_label, self.model_name)
        field = model._meta.fields_map[self.name]
        column = field.source_field or self.name
        if editor.collect_sql or column not in await columns_of(editor.client, model._meta.db_table):
            await editor.add_field(model, self.name)
        if isinstance(field, ForeignKeyFieldInstance) and editor.DIALECT == "mysql":
            await _add_foreign_key(editor, model, column)
        if model._meta.fields_map[column].index:
            await _add_index(editor, model, column)


class AlignTable(DataStep):
    """Makes the columns of a table of 0.1 what they are today: wide enough, unique, indexed, with UUIDs as
    keys. Where the table is right already, nothing happens."""

    reason = "0.1 cannot read what was stored since; to go back, restore a backup"

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name
        self.purpose = f"Align the table of {model_name}"

    async def take(self, editor: BaseSchemaEditor, state: State, app_label: str) -> None:
        """Takes the step."""
        model = model_of(state, app_label, self.model_name)
        columns = await columns_of(editor.client, model._meta.db_table)
        if "int" in columns["id"].type:
            await _number_by_uuid(editor, model)
        for name, column in columns.items():
            field = model._meta.fields_map.get(name)
            if field is None or field.pk:
                continue
            if isinstance(field, CharField):
                await _widen(editor, model, field, column)
            if field.unique:
                await _make_unique(editor, model, name)
            elif field.index:
                await _add_index(editor, model, name)


async def _widen(editor: BaseSchemaEditor, model: type[Model], field: CharField, column: Column) -> None:  # type: ignore[type-arg]  # as Tortoise has it at run time
    """Room for today's values; and bytes compared as such, where the field asks for it (MariaDB)."""
    table, name = editor.quote(model._meta.db_table), editor.quote(column.name)
    sql_type = field.get_for_dialect(editor.DIALECT, "SQL_TYPE")
    if editor.DIALECT == "postgres" and (column.length or 0) < field.max_length:
        await run_sql(editor, f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {sql_type}")
    if editor.DIALECT == "mysql":
        collated = "COLLATE" not in sql_type or column.collation == sql_type.rsplit(" ", 1)[1]
        fits = column.type == "varchar" and (column.length or 0) >= field.max_length
        if not (collated and fits):
            null = "NULL" if field.null else "NOT NULL"
            await run_sql(editor, f"ALTER TABLE {table} MODIFY COLUMN {name} {sql_type} {null}")


async def _make_unique(editor: BaseSchemaEditor, model: type[Model], column: str) -> None:
    if ((column,), True) not in await indexes_of(editor.client, model._meta.db_table):
        await editor.add_constraint(model, UniqueConstraint(fields=(column,)))


async def _add_index(editor: BaseSchemaEditor, model: type[Model], column: str) -> None:
    indexed = [] if editor.collect_sql else await indexes_of(editor.client, model._meta.db_table)
    if not any(columns[0] == column for columns, _ in indexed):
        await editor.add_index(model, Index(fields=(column,)))


async def _add_foreign_key(editor: BaseSchemaEditor, model: type[Model], column: str) -> None:
    table = model._meta.db_table
    if editor.collect_sql or column not in await foreign_keys_of(editor.client, table):
        key = foreign_key_of(editor, model, column)
        await run_sql(editor, f"ALTER TABLE {editor.quote(table)} ADD {key}")


async def _number_by_uuid(editor: BaseSchemaEditor, model: type[Model]) -> None:
    """Replaces the integers that Tortoise gives a table without a key. Nothing refers to them."""
    table, key = editor.quote(model._meta.db_table), editor.quote("id")
    if editor.DIALECT == "postgres":
        await run_sql(
            editor,
            f"ALTER TABLE {table} ALTER COLUMN {key} DROP DEFAULT, "
            f"ALTER COLUMN {key} TYPE UUID USING gen_random_uuid()",
        )
    elif editor.DIALECT == "mysql":
        await run_sql(editor, f"ALTER TABLE {table} MODIFY COLUMN {key} CHAR(36) NOT NULL")
        await run_sql(editor, f"UPDATE {table} SET {key} = UUID() WHERE CHAR_LENGTH({key}) < 36")  # noqa: S608
    else:
        await _refuse_references(editor, model)
        await _rebuild(editor, model)


async def _refuse_references(editor: BaseSchemaEditor, model: type[Model]) -> None:
    """SQLite would delete the rows that refer to the table that is replaced."""
    table = model._meta.db_table
    rows = await editor.client.execute_query_dict(
        "SELECT DISTINCT m.name FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f"
        " WHERE m.type = 'table' AND lower(f.\"table\") = ?",
        [table.lower()],
    )
    if rows:
        raise ReferredToError(
            f"{', '.join(row['name'] for row in rows)} refers to {table} by numbers, which become UUIDs. "
            "Drop the reference, then migrate again."
        )


async def _rebuild(editor: BaseSchemaEditor, model: type[Model]) -> None:
    """SQLite: a key cannot be altered."""
    table, old = model._meta.db_table, f"{model._meta.db_table}_0_1"
    indexes = await editor.client.execute_query_dict(
        f"SELECT name FROM pragma_index_list('{table}') WHERE origin = 'c'"  # noqa: S608
    )
    for index in indexes:
        await run_sql(editor, f"DROP INDEX {editor.quote(index['name'])}")
    await run_sql(editor, f"ALTER TABLE {editor.quote(table)} RENAME TO {editor.quote(old)}")
    await editor.create_model(model)
    columns = ", ".join(editor.quote(name) for name in model._meta.db_fields if name != "id")
    await run_sql(
        editor,
        f"INSERT INTO {editor.quote(table)} ({editor.quote('id')}, {columns}) "  # noqa: S608
        f"SELECT {RANDOM_UUID}, {columns} FROM {editor.quote(old)}",
    )
    await run_sql(editor, f"DROP TABLE {editor.quote(old)}")


RANDOM_UUID = (
    "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || "
    "'-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))"
)
"""SQLite: a UUID of version 4."""
