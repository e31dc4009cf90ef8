"""What Tortoise records of migrations: one of the package may be recorded twice, another one may not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import pytest
from tortoise.exceptions import IntegrityError, OperationalError
from tortoise.migrations.executor import MigrationExecutor

from fastapi_pluggable_auth import migrations
from fastapi_pluggable_auth.migrations import _records

from .spare_database import MIGRATIONS, SpareDatabase
from .test_migration_locks import CHAIN

LABEL = "accounts"


@asynccontextmanager
async def migrating(spare: SpareDatabase) -> AsyncIterator[MigrationExecutor]:
    """Tortoise, when it has loaded the package's migrations."""
    async with spare.opened() as context:
        app = {LABEL: {"models": ["fastapi_pluggable_auth.models"], "migrations": MIGRATIONS}}
        executor = MigrationExecutor(context.connections.get(spare.dialect), app)
        await executor.loader.build_graph()
        yield executor


async def make_table(executor: MigrationExecutor) -> None:
    """That of the records."""
    await executor.recorder.ensure_schema(executor._schema_editor(atomic=False))


async def records(spare: SpareDatabase) -> set[tuple[str, str]]:
    rows = await spare.query("SELECT app, name FROM tortoise_migrations")
    return {(row["app"], row["name"]) for row in rows}


@pytest.mark.parametrize("name", CHAIN)
def test_each_migration_of_the_package_may_be_taken_by_several_at_once(name: str) -> None:
    module = import_module(f"{migrations.__name__}.{name}")
    assert isinstance(module.Migration(name, LABEL), _records.Migration)


async def test_who_records_a_migration_of_the_package_second_finds_it_recorded(spare: SpareDatabase) -> None:
    await spare.create()
    async with migrating(spare) as executor:
        for _ in range(2):
            await make_table(executor)
            await executor.recorder.record_applied(LABEL, CHAIN[0])
    assert await records(spare) == {(LABEL, CHAIN[0])}


@pytest.mark.parametrize("other", [("shop", CHAIN[0]), (LABEL, "0001_another")], ids=["label", "chain"])
async def test_what_is_recorded_of_other_migrations_is_tortoises(
    spare: SpareDatabase, other: tuple[str, str]
) -> None:
    await spare.create()
    async with migrating(spare) as executor:
        await make_table(executor)
        await executor.recorder.record_applied(*other)
        with pytest.raises(IntegrityError):
            await executor.recorder.record_applied(*other)
    assert await records(spare) == {other}


async def test_a_record_that_is_refused_and_is_not_there_is_a_mistake(spare: SpareDatabase) -> None:
    await spare.create()
    columns = "id INTEGER, app VARCHAR(255), name VARCHAR(255), applied_at VARCHAR(64)"
    await spare.query(f"CREATE TABLE tortoise_migrations ({columns}, needed INTEGER NOT NULL)")
    async with migrating(spare) as executor:
        with pytest.raises(OperationalError):
            await executor.recorder.record_applied(LABEL, CHAIN[0])
    assert await records(spare) == set()
