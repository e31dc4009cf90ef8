"""What the steps of the package's migrations have in common."""

from __future__ import annotations

from typing import Any

from tortoise.migrations.operations import TortoiseOperation
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_generator.state import State

from ._locks import taken


class Step(TortoiseOperation):
    """A step that says in one place what it does to the database. None can be undone: on SQLite, dropping a
    column deletes the rows that refer to its table."""

    reversible = False
    reason = "what was stored since would be lost; to go back, restore a backup"

    def __str__(self) -> str:
        """What a refused downgrade shows."""
        return f"{self.describe()!r} ({self.reason})"

    async def database_forward(
        self, app_label: str, old_state: State, new_state: State, state_editor: BaseSchemaEditor | None = None
    ) -> None:
        """Takes the step, unless only the state is wanted."""
        if state_editor is not None:
            await taken(state_editor, lambda: self.take(state_editor, new_state, app_label))

    async def take(self, editor: BaseSchemaEditor, state: State, app_label: str) -> None:
        """Takes the step; `state` is the one after it."""
        raise NotImplementedError


class DataStep(Step):
    """A step that depends on what is in the database, and is not plain SQL."""

    reduces_to_sql = False
    purpose: str

    def describe(self) -> str:
        """What `tortoise sqlmigrate` shows."""
        return self.purpose


def model_of(state: State, app_label: str, name: str) -> Any:
    """The model as it is in this state."""
    return state.apps.get_model(f"{app_label}.{name}")
