"""Every private name of FastAPI, Starlette and Tortoise that the package uses, and every method of their
classes that it replaces: all are Tortoise's.

Each function says what for, and what to do when the name goes. `Model._meta` is not among them, nor the
`_db_mysql` of a field: there is no other way to the columns of a model, and to their types, and all that
extends Tortoise goes by them, its own contrib packages too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from functools import cache
from typing import Any, TypeVar

from starlette.routing import BaseRoute
from tortoise import Model
from tortoise.backends.base.client import BaseDBAsyncClient, TransactionalDBClient
from tortoise.context import TortoiseContext, _current_context
from tortoise.migrations.recorder import MigrationRecorder
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.router import ConnectionRouter, router

M = TypeVar("M", bound=Model)
Write = Callable[[], Awaitable[Any]]


def routes_of(app: Any) -> list[BaseRoute]:
    """All routes of an app, also those of a front end (`app.frontend`), which FastAPI has in a list of their
    own. Without `_low_priority_routes`: `routes` alone; apps with a front end then set `HOME_URL`."""
    router = getattr(app, "router", None)
    return [*getattr(router, "routes", ()), *getattr(router, "_low_priority_routes", ())]


def model_of_row(model: type[M], row: Mapping[str, Any]) -> M:
    """A saved model of what a row has in the columns of its table; the row may have others. For what is read
    by a statement that was built once. Without `_init_from_db`: `model.filter(...)`, which builds its SQL
    each time."""
    return model._init_from_db(**row)


def see(context: TortoiseContext) -> Token[TortoiseContext | None]:
    """Lets this task see a Tortoise set-up from here on. Without `_current_context`: `with context:`, for the
    whole task."""
    return _current_context.set(context)


@contextmanager
def seeing(context: TortoiseContext) -> Iterator[None]:
    """Lets this task see a Tortoise set-up, beside others that see it too: `with context:` keeps its undo
    token on the object that they share. Without `_current_context`: a lock around `with context:`, or only
    set-ups that Tortoise makes global."""
    reset = see(context)
    try:
        yield
    finally:
        _current_context.reset(reset)


def root_of(client: BaseDBAsyncClient) -> BaseDBAsyncClient:
    """The connections from which a transaction has taken its own. Without `_parent`: the client that
    `TortoiseContext.connections` had before the first transaction, kept by its name."""
    while isinstance(client, TransactionalDBClient):
        client = client._parent
    return client


def pool_of(client: BaseDBAsyncClient) -> Any:
    """What the driver has of open connections, or None: to have those dropped that lead to a server which
    takes no more writes. Without `_pool`: `client.close()`, and connecting anew."""
    return getattr(client, "_pool", None)


def has_ended(transaction: BaseDBAsyncClient) -> bool:
    """Whether a transaction was committed or rolled back, also that of another task. Without `_finalized`:
    those that the app begins would have to tell, as a wrapper of `in_transaction` could."""
    return bool(getattr(transaction, "_finalized", True))


def modules_of(apps: Any, label: str | None) -> list[Any]:
    """The modules that Tortoise was given for a label: to name a model that another one of its name hides.
    Without `_config`: what `Tortoise.init` was given, where the app tells it; else that check is left out."""
    return list(getattr(apps, "_config", {}).get(label, {}).get("models", ()))


async def run_sql(editor: BaseSchemaEditor, sql: str) -> None:
    """Runs a statement of a migration, or notes it for `sqlmigrate`. Without `_run_sql`: append to
    `editor.collected_sql` where `editor.collect_sql` is set, else `editor.client.execute_script`."""
    await editor._run_sql(sql)


def foreign_key_of(editor: BaseSchemaEditor, model: type[Model], column: str) -> str:
    """The foreign key of a column, as MariaDB's `ALTER TABLE ... ADD` wants it: this editor keeps it for the
    next table that it makes. Without `_get_fk_field_definition` and `_foreign_keys`: write it out, from the
    field's `to_field_instance`."""
    kept: list[str] = editor._foreign_keys  # type: ignore[attr-defined]  # only this editor has it
    kept.clear()
    editor._get_fk_field_definition(model, column)
    return kept.pop()


@cache
def leave_out_of_routers(left_out: Callable[[type[Model]], bool]) -> None:
    """Asks no router of the host where these models are read or written, from here on: each query and each
    model that is saved goes to `model._meta.db`. Without `_db_route`: nothing is replaced, and the start has
    to refuse an app whose routers read them elsewhere."""
    route = getattr(ConnectionRouter, "_db_route", None)
    if route is None:
        return

    def _db_route(self: ConnectionRouter, model: type[Model], action: str) -> BaseDBAsyncClient | None:
        return None if left_out(model) else route(self, model, action)

    ConnectionRouter._db_route = _db_route  # type: ignore[method-assign]  # the purpose


def routed_to(model: type[Model], action: str) -> str | None:
    """The connection that a router of the host names for a model, if any: to name one that writes elsewhere.
    Without `_routers` and `_router_func`: that check is left out."""
    if not getattr(router, "_routers", None):
        return None
    chosen: str | None = router._router_func(model, action)
    return chosen


@cache
def record_migrations_by(
    table: Callable[[Write], Awaitable[Any]],
    record: Callable[[Write, MigrationRecorder, tuple[Any, ...]], Awaitable[Any]],
) -> None:
    """Has Tortoise make its table of migrations, and each record in it, through these, from here on: it does
    so before and after a migration, which cannot see to it. `record` is given what identifies the record.
    Without `ensure_schema` or `record_applied`: nothing is replaced, and of several processes that migrate at
    once those that come second may fail, with tables that are right."""
    make, add = (getattr(MigrationRecorder, name, None) for name in ("ensure_schema", "record_applied"))
    if make is None or add is None:
        return

    async def ensure_schema(self: MigrationRecorder, *args: Any, **named: Any) -> None:
        await table(lambda: make(self, *args, **named))

    async def record_applied(self: MigrationRecorder, *args: Any, **named: Any) -> None:
        await record(lambda: add(self, *args, **named), self, args)

    MigrationRecorder.ensure_schema = ensure_schema  # type: ignore[method-assign]  # the purpose
    MigrationRecorder.record_applied = record_applied  # type: ignore[method-assign]  # the purpose
