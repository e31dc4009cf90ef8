"""The private names of the frameworks: each still does what it is used for, and no other is used."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from contextvars import Context
from pathlib import Path

import pytest
from tortoise import Tortoise
from tortoise.context import TortoiseContext
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_editor.mysql import MySQLSchemaEditor
from tortoise.transactions import in_transaction

import fastapi_pluggable_auth
from fastapi_pluggable_auth import _frameworks
from fastapi_pluggable_auth.database import current_context
from fastapi_pluggable_auth.models import Session, User

from .conftest import Database

PACKAGE = Path(fastapi_pluggable_auth.__file__).parent
PRIVATE = re.compile(r"_(?!_)\w+")
ACCEPTED = {"_meta", "_getframe", "_withheld"}
"""Of Tortoise, as `_frameworks` says, of Python, and of the package's own models."""


def own_names(tree: ast.AST) -> Iterator[str]:
    """The names that a module defines, or gives objects of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def used_names(tree: ast.AST) -> Iterator[str]:
    """The private names that a module takes of others: attributes, imports, and what `getattr` is told."""
    for node in ast.walk(tree):
        found = ""
        if isinstance(node, ast.Attribute):
            found = "" if getattr(node.value, "id", "") in {"self", "cls"} else node.attr
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (alias.name for alias in node.names if PRIVATE.fullmatch(alias.name))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"getattr", "hasattr", "setattr"}:
            told = node.args[1]
            found = str(told.value) if isinstance(told, ast.Constant) else ""
        if PRIVATE.fullmatch(found):
            yield found


def test_private_names_of_the_frameworks_are_used_in_one_file() -> None:
    trees = {path: ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
    foreign = {
        str(path.relative_to(PACKAGE)): {*used_names(tree)} - {*own_names(tree)} - ACCEPTED
        for path, tree in trees.items()
    }
    assert {path for path, names in foreign.items() if names} == {"_frameworks.py"}, foreign
    assert foreign["_frameworks.py"] == {
        "_config",
        "_current_context",
        "_finalized",
        "_foreign_keys",
        "_get_fk_field_definition",
        "_init_from_db",
        "_low_priority_routes",
        "_parent",
        "_pool",
        "_router_func",
        "_routers",
        "_run_sql",
    }


def test_classes_of_the_frameworks_are_changed_in_one_file() -> None:
    changed = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
        foreign = {
            alias.asname or alias.name
            for node in imports
            for alias in node.names
            if (node.module or "").partition(".")[0] in {"fastapi", "starlette", "tortoise"}
        }
        changed[path.name] = {
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if isinstance(node.value, ast.Name) and node.value.id in foreign
        }
    assert {name: names for name, names in changed.items() if names} == {
        "_frameworks.py": {
            "ConnectionRouter._db_route",
            "MigrationRecorder.ensure_schema",
            "MigrationRecorder.record_applied",
        }
    }


async def test_a_model_of_a_row_is_the_one_that_tortoise_reads(tortoise: TortoiseContext) -> None:
    user = await User.create(email="ada@example.com", hashed_password="x", roles={"editor"})
    database, table = User._meta.db, User._meta.basetable
    (row,) = await database.execute_query_dict(database.query_class.from_(table).select("*").get_sql())
    assert vars(_frameworks.model_of_row(User, row)) == vars(await User.get(id=user.id))


async def test_a_task_sees_a_set_up_for_as_long_as_it_is_told(tortoise: TortoiseContext) -> None:
    async def look() -> list[TortoiseContext | None]:
        seen = [current_context()]
        with _frameworks.seeing(tortoise):
            seen.append(current_context())
            await asyncio.sleep(0)
        return [*seen, current_context()]

    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(look(), context=Context()) for _ in range(2)]
    assert await asyncio.gather(*tasks) == [[None, tortoise, None]] * 2


async def test_a_transaction_has_its_connections_and_an_end(tortoise: TortoiseContext) -> None:
    (name,) = tortoise.connections.db_config
    root = tortoise.connections.get(name)
    async with in_transaction(name) as transaction:
        async with in_transaction(name):
            assert _frameworks.root_of(tortoise.connections.get(name)) is root
        assert not _frameworks.has_ended(transaction)
    assert _frameworks.has_ended(transaction)
    assert _frameworks.root_of(root) is root


async def test_the_open_connections_of_a_server_can_be_dropped(
    tortoise: TortoiseContext, database: Database
) -> None:
    pool = _frameworks.pool_of(tortoise.connections.get(database.dialect))
    wanted = {"postgres": "expire_connections", "mysql": "clear"}.get(database.dialect)
    assert pool is None if wanted is None else hasattr(pool, wanted)


async def test_the_modules_of_a_label_are_known(tortoise: TortoiseContext) -> None:
    assert _frameworks.modules_of(tortoise.apps, "models") == ["fastapi_pluggable_auth.models"]
    assert _frameworks.modules_of(tortoise.apps, "another") == []


async def test_a_migration_notes_its_sql(tortoise: TortoiseContext) -> None:
    editor = BaseSchemaEditor(Tortoise.get_connection(User._meta.db.connection_name), collect_sql=True)
    await _frameworks.run_sql(editor, "SELECT 1")
    assert editor.collected_sql == ["SELECT 1"]


@pytest.mark.parametrize("database", ["mysql"], indirect=True)
async def test_mariadb_can_be_told_a_foreign_key(tortoise: TortoiseContext) -> None:
    editor = MySQLSchemaEditor(Session._meta.db, collect_sql=True)
    key = _frameworks.foreign_key_of(editor, Session, "user_id")
    assert "FOREIGN KEY (`user_id`) REFERENCES `user` (`id`) ON DELETE CASCADE" in key


async def test_records_of_migrations_are_written_by_tortoise_through_what_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[object] = []

    class Recorder:
        """Of another Tortoise, with other parameters."""

        async def ensure_schema(self, *, editor: str) -> None:
            written.append(editor)

        async def record_applied(self, key: str, *, when: str) -> None:
            written.append((key, when))

    async def table(write: _frameworks.Write) -> None:
        written.append("the table")
        await write()

    async def record(write: _frameworks.Write, recorder: object, identity: tuple[object, ...]) -> None:
        written.append((type(recorder), *identity))
        await write()

    monkeypatch.setattr(_frameworks, "MigrationRecorder", Recorder)
    for _ in range(2):  # replaced once, however often it is asked for
        _frameworks.record_migrations_by(table, record)
    await Recorder().ensure_schema(editor="an editor")
    await Recorder().record_applied("0001", when="now")
    assert written == ["the table", "an editor", (Recorder, "0001"), ("0001", "now")]


@pytest.mark.parametrize("left", ["ensure_schema", "record_applied"])
def test_a_tortoise_without_one_of_the_two_methods_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    async def method() -> None: ...

    recorder = type("Recorder", (), {left: method})
    monkeypatch.setattr(_frameworks, "MigrationRecorder", recorder)
    _frameworks.record_migrations_by(lambda write: write(), lambda write, *_: write())
    assert getattr(recorder, left) is method


def test_a_tortoise_whose_routers_are_asked_elsewhere_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    router = type("ConnectionRouter", (), {})
    monkeypatch.setattr(_frameworks, "ConnectionRouter", router)
    monkeypatch.setattr(_frameworks, "router", router())
    _frameworks.leave_out_of_routers(lambda model: True)
    assert not hasattr(router, "_db_route")
    assert _frameworks.routed_to(User, "db_for_write") is None
