"""What Tortoise records of migrations, where several processes migrate at once.

Each of them makes the table of the records and adds its own, and Tortoise takes those for mistakes that come
second. It does so before and after a migration, which cannot do anything about it: so the two methods that
write are replaced in a process that has our migrations.
"""

from __future__ import annotations

from tortoise.exceptions import IntegrityError, OperationalError
from tortoise.migrations.graph import MigrationKey
from tortoise.migrations.recorder import MigrationRecorder
from tortoise.migrations.schema_editor.base import BaseSchemaEditor

from ._locks import until_free

_ensure_schema = MigrationRecorder.ensure_schema
_record_applied = MigrationRecorder.record_applied


async def ensure_schema(self: MigrationRecorder, schema_editor: BaseSchemaEditor) -> None:
    """PostgreSQL refuses `IF NOT EXISTS` to all but one that make a table at the same moment."""
    try:
        await _ensure_schema(self, schema_editor)
    except OperationalError:
        await _ensure_schema(self, schema_editor)


async def record_applied(self: MigrationRecorder, app: str, name: str) -> None:
    """Another process has taken the same steps, and has recorded them."""
    try:
        await until_free(lambda: _record_applied(self, app, name))
    except IntegrityError:
        if MigrationKey(app, name) not in await self.applied_migrations():
            raise


def install() -> None:
    """Once, however often it is called."""
    MigrationRecorder.ensure_schema = ensure_schema  # type: ignore[method-assign]
    MigrationRecorder.record_applied = record_applied  # type: ignore[method-assign]
