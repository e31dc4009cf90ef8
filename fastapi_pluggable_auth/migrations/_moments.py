"""The step that brings stored moments into the form of today."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from hashlib import sha256
from typing import Any, Final
from zoneinfo import ZoneInfo

from tortoise import BaseDBAsyncClient, Model
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_generator.state import State
from tortoise.timezone import get_timezone
from tortoise.transactions import in_transaction

from ..config import AuthSettings
from ..models.moments import MomentField, stored_text
from ._inspection import columns_of
from ._rows import batches, placeholders
from ._steps import DataStep

logger = logging.getLogger(__name__)

TEXT_FORM: Final = "____-__-__ __:__:__.______+00:00"
"""For LIKE: what has its form on SQLite already."""

CONVERTED: Final = sha256(b"moments without an offset were converted to UTC").hexdigest()
"""The id of the row that says so, among the counters: the moments themselves do not tell."""

WITHOUT_ZONE: Final = ("datetime", "timestamp without time zone")
"""Types of columns on MariaDB and PostgreSQL."""


class MomentError(Exception):
    """What is stored in the column of a moment is not one."""


class StoreMomentsInUtc(DataStep):
    """Moments are stored in UTC, and on SQLite in one form. Where a stored one has no offset, the setting
    `upgrade_zone` names its time zone. For the tables of the package under any label."""

    purpose = "Store moments in UTC, in one form"
    reason = "which form a moment had is not kept"

    async def take(self, editor: BaseSchemaEditor, state: State, app_label: str) -> None:
        """Raises `MomentError` where a column holds what is not a moment."""
        zone, labels = _zone(), [each for each in state.models if each[0] == app_label]
        models = [state.apps.get_model(".".join(each)) for each in labels]
        columns = [(model, column) for model in models for column in _moments_of(model)]
        if editor.DIALECT == "sqlite":
            for model, column in columns:
                other = f"{editor.quote(column)} NOT LIKE '{TEXT_FORM}'"
                await _convert(editor.client, editor, model, column, other, lambda each: _in_form(each, zone))
            return
        columns = [each for each in columns if await _has_no_zone(editor.client, *each)]
        if zone is UTC:
            await _warn(editor, columns)
            return
        async with in_transaction(editor.client.connection_name) as client:
            if await _is_first(client, editor):
                for model, column in columns:
                    stored = f"{editor.quote(column)} IS NOT NULL"
                    await _convert(client, editor, model, column, stored, lambda each: _in_utc(each, zone))


def _zone() -> tzinfo:
    settings = AuthSettings()
    for problem in settings.ignored_names():
        logger.warning(problem)
    named = settings.upgrade_zone or "UTC"
    return UTC if named.upper() == "UTC" else ZoneInfo(named)


async def _warn(editor: BaseSchemaEditor, columns: list[tuple[type[Model], str]]) -> None:
    """Where moments may be of another zone, which they do not tell."""
    zone = get_timezone()
    if zone.upper() == "UTC" or AuthSettings().upgrade_zone is not None:
        return
    for table in dict.fromkeys(model._meta.db_table for model, _ in columns):
        if await editor.client.execute_query_dict(f"SELECT 1 AS one FROM {editor.quote(table)} LIMIT 1"):  # noqa: S608
            logger.warning(
                "The moments in %s are taken for UTC, and Tortoise's timezone is %s. Where they are of that "
                "zone, restore the backup and migrate with AUTH_UPGRADE_ZONE=%s; else with "
                "AUTH_UPGRADE_ZONE=UTC.",
                table,
                zone,
                zone,
            )
            return


def _moments_of(model: type[Model]) -> list[str]:
    """The names of the columns."""
    meta = model._meta
    return [
        column
        for name, column in meta.fields_db_projection.items()
        if isinstance(meta.fields_map[name], MomentField)
    ]


async def _has_no_zone(client: BaseDBAsyncClient, model: type[Model], column: str) -> bool:
    return (await columns_of(client, model._meta.db_table))[column].type in WITHOUT_ZONE


async def _is_first(client: BaseDBAsyncClient, editor: BaseSchemaEditor) -> bool:
    """Whether no run before has converted them, or does at this moment."""
    columns = ", ".join(map(editor.quote, ("id", "count", "started_at", "blocked_until", "version")))
    now = "CURRENT_TIMESTAMP"
    row = f"INTO {editor.quote('auth_throttle')} ({columns}) VALUES ('{CONVERTED}', 0, {now}, {now}, 0)"
    if editor.DIALECT == "mysql":
        return (await client.execute_query(f"INSERT IGNORE {row}"))[0] == 1
    return bool(await client.execute_query_dict(f"INSERT {row} ON CONFLICT DO NOTHING RETURNING 1 AS one"))


async def _convert(
    client: BaseDBAsyncClient,
    editor: BaseSchemaEditor,
    model: type[Model],
    column: str,
    only: str,
    convert: Callable[[Any], Any],
) -> None:
    """Each value that is still the one that was read."""
    table, key = model._meta.db_table, model._meta.db_pk_column
    quoted, (new, which, old) = editor.quote(column), placeholders(client)
    update = (
        f"UPDATE {editor.quote(table)} SET {quoted} = {new} "  # noqa: S608
        f"WHERE {editor.quote(key)} = {which} AND {quoted} = {old}"
    )
    async for rows in batches(client, editor.quote, table, column, key=key, only=only):
        changes = []
        for row in rows:
            try:
                changes.append([convert(row[column]), row[key], row[column]])
            except (TypeError, ValueError, OverflowError) as error:
                raise MomentError(
                    f"{table}.{column} of {row[key]} is not a moment: {row[column]!r}. "
                    "Change it, then migrate again."
                ) from error
        await client.execute_many(update, changes)


def _in_form(stored: str | float, zone: tzinfo) -> str:
    moment = (
        datetime.fromisoformat(stored) if isinstance(stored, str) else datetime.fromtimestamp(stored, UTC)
    )
    return stored_text(moment if moment.tzinfo is not None else moment.replace(tzinfo=zone))


def _in_utc(stored: datetime, zone: tzinfo) -> datetime:
    """Both without an offset."""
    return stored.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None)
