"""What Tortoise records of migrations, where several processes migrate at once: each makes the table of the
records and adds its own, and Tortoise takes those for mistakes that come second."""

from __future__ import annotations

from typing import Any

from tortoise.exceptions import IntegrityError, OperationalError
from tortoise.migrations.graph import MigrationKey
from tortoise.migrations.migration import Migration as TortoiseMigration
from tortoise.migrations.recorder import MigrationRecorder

from .._frameworks import Write, record_migrations_by
from ._locks import until_free

_of_the_package: set[MigrationKey] = set()
"""Under any label. Their steps look before they act, so that two may take one."""


class Migration(TortoiseMigration):
    """A migration of the package, which several processes may take at once."""

    def __init__(self, name: str, app_label: str) -> None:
        super().__init__(name, app_label)
        _of_the_package.add(MigrationKey(app_label, name))
        record_migrations_by(_make_table, _record)


async def _make_table(write: Write) -> None:
    """PostgreSQL refuses `IF NOT EXISTS` to all but one that make a table at the same moment."""
    try:
        await write()
    except OperationalError:
        await write()


async def _record(write: Write, recorder: MigrationRecorder, identity: tuple[Any, ...]) -> None:
    """Another process may have taken the same steps, and recorded them. Records of others are Tortoise's."""
    key = MigrationKey(*identity) if len(identity) == 2 else None
    if key not in _of_the_package:
        await write()
        return
    try:
        await until_free(write)
    except IntegrityError:
        if key not in await recorder.applied_migrations():
            raise
