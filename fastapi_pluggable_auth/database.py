"""What the library needs to know of Tortoise's connections: is there one, and is the database down?"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, TypeVar

from tortoise.backends.base.client import BaseDBAsyncClient, TransactionalDBClient
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.connection import get_connections
from tortoise.context import TortoiseContext, get_current_context
from tortoise.exceptions import DBConnectionError, OperationalError, TransactionManagementError
from tortoise.transactions import in_transaction

from .errors import AuthError, ErrorCode

logger = logging.getLogger(__name__)

T = TypeVar("T")


POSTGRES_TRANSIENT: Final = frozenset({"40001", "40P01"})
MYSQL_TRANSIENT: Final = frozenset({1205, 1213})
LOCK_WAIT_OVER: Final = frozenset({"55P03", 1205})

TRANSACTION_TRIES: Final = 8
GIVING_UP_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 0.005
"""The longest pause before the second try; each next one is twice as long. Those that met wait unequally."""

_own: ContextVar[object] = ContextVar("own_transaction", default=None)
"""The transaction that the library has open, beside those that the host app may have."""

POOLER_ADVICE: Final = (
    "Behind a pooler that shares connections between transactions, such as pgbouncer with "
    "pool_mode=transaction, add `statement_cache_size=0` to the database URL: `postgres://...?statement_cache_size=0`."
)


MIXED_UP: Final = frozenset({"26000", "42P05", "08P01"})
"""PostgreSQL: there is no such prepared statement, there is one of that name, it has other parameters."""


def is_mixed_up(error: Exception) -> bool:
    """Whether the database was asked to run a statement that another client has prepared, or has not."""
    states = {getattr(each, "sqlstate", None) for each in (error, error.__cause__)}
    return isinstance(error, WrongRowError) or bool(states & MIXED_UP)


class WrongRowError(OperationalError):
    """The database answered with a row that was not asked for."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"A query of {table} was answered with a row that it did not ask for. {POOLER_ADVICE}"
        )


_ERRORS: Final[tuple[type[Exception], ...]] = (
    OperationalError,
    DBConnectionError,
    TransactionManagementError,
    OSError,
    TimeoutError,
    RuntimeError,  # of asyncmy and uvloop, where a server hangs up while they connect or write
    sqlite3.OperationalError,
)


def database_errors() -> tuple[type[Exception], ...]:
    """What is raised where the database fails. Tortoise passes some errors on as they are: of asyncpg at any
    time, of the other drivers where a transaction begins or ends."""
    errors = _ERRORS
    if asyncpg := sys.modules.get("asyncpg"):  # what is not imported raises nothing
        errors += (asyncpg.PostgresError, asyncpg.InterfaceError)
    if asyncmy := sys.modules.get("asyncmy.errors"):
        errors += (asyncmy.MySQLError,)
    return errors


def current_context() -> TortoiseContext | None:
    """The Tortoise set-up that this task sees, if it is initialised."""
    context = get_current_context()
    return context if context is not None and context.inited else None


def is_transient(error: Exception) -> bool:
    """Whether the database broke a deadlock, or could not serialise: the same transaction may work now."""
    codes = _codes(error)
    return bool(codes & (POSTGRES_TRANSIENT | MYSQL_TRANSIENT)) or "database is locked" in str(error)


def is_lock_wait_over(error: Exception) -> bool:
    """Whether another transaction has kept a row for longer than this one waits."""
    return bool(_codes(error) & LOCK_WAIT_OVER)


def _codes(error: Exception) -> set[object]:
    """What PostgreSQL or MariaDB calls the error."""
    cause = error.args[0] if error.args else None
    number = cause.args[0] if isinstance(cause, Exception) and cause.args else None
    return {getattr(error, "sqlstate", None), number if isinstance(number, int) else None}


def is_in_transaction(connection_name: str | None) -> bool:
    """Whether a transaction is open on this connection, whoever began it."""
    return _open_transaction(connection_name) is not None


def is_in_host_transaction(connection_name: str | None) -> bool:
    """Whether the transaction that is open on this connection was begun by the host app."""
    current = _open_transaction(connection_name)
    return current is not None and current is not _own.get()


def _open_transaction(connection_name: str | None) -> TransactionalDBClient | None:
    context = current_context()
    if context is None or connection_name is None:
        return None
    current = context.connections.get(connection_name)
    return current if isinstance(current, TransactionalDBClient) else None


def root_of(client: BaseDBAsyncClient) -> BaseDBAsyncClient:
    """The connections from which a transaction has taken its own; Tortoise has no public name for them."""
    while isinstance(client, TransactionalDBClient):
        client = client._parent
    return client


def new_client(connection_name: str, *, most: int) -> BaseDBAsyncClient:
    """A pool beside that of the app, on the same database, with at most so many connections, and no
    more than that has."""
    connections = get_connections()
    configured = connections.db_config[connection_name]
    if isinstance(configured, str):
        configured = expand_db_url(configured)
    options = configured["credentials"]
    most = min(int(options.get("maxsize", most)), most)
    options = {**options, "minsize": 0, "maxsize": most, "connection_name": connection_name}
    return type(root_of(connections.get(connection_name)))(**options)


@contextmanager
def joined(connection_name: str) -> Iterator[None]:
    """Takes the transaction that is open on this connection for the library's own."""
    reset = _own.set(get_connections().get(connection_name))
    try:
        yield
    finally:
        _own.reset(reset)


async def in_one_transaction(
    connection_name: str | None,
    work: Callable[[], Awaitable[T]],
    *,
    again: Callable[[Exception], bool] = is_transient,
) -> T:
    """Runs work in a transaction; whatever it raises rolls back. Where the database ends it with an error
    after which it may run `again`, it does, a bounded number of times.

    Inside another transaction it runs once, as a part of it: a database that breaks a deadlock may have ended
    the whole of it, and what goes on then is committed statement by statement.
    """
    tries = 1 if is_in_transaction(connection_name) else TRANSACTION_TRIES
    for tries_left in reversed(range(tries)):
        try:
            async with transaction(connection_name):
                return await work()
        except database_errors() as error:
            if not tries_left or not again(error):
                raise
        longest = RETRY_SECONDS * 2 ** (tries - 1 - tries_left)
        await asyncio.sleep(longest * random.random())  # noqa: S311 - nothing depends on it
    raise AssertionError("unreachable")


@asynccontextmanager
async def transaction(connection_name: str | None) -> AsyncIterator[None]:
    """Like Tortoise's own, which never gives its connection back where BEGIN fails or is cancelled."""
    nested = is_in_transaction(connection_name)
    async with _transaction(connection_name):
        with nullcontext() if nested or connection_name is None else joined(connection_name):
            yield


@asynccontextmanager
async def _transaction(connection_name: str | None) -> AsyncIterator[None]:
    begun = in_transaction(connection_name)
    try:
        await begun.__aenter__()
    except BaseException as error:
        if hasattr(begun, "token"):  # it has a connection, or the lock of SQLite's only one
            with suppress(*database_errors()):
                await begun.__aexit__(type(error), error, error.__traceback__)
        raise
    try:
        yield
    except BaseException as error:
        with suppress(*database_errors()):  # a connection that is gone has rolled back, and the cause matters
            await begun.__aexit__(type(error), error, error.__traceback__)
        raise
    await begun.__aexit__(None, None, None)


NOT_INITIALISED: Final = (
    "Tortoise ORM is not initialised for this request. Open it in the app's lifespan with "
    "`async with RegisterTortoise(app, ...)`, or call `await Tortoise.init(...)` before the first request; a "
    "mounted app needs it in the app that is served."
)

_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)
_running: Final[set[asyncio.Task[Any]]] = set()


class Deadline:
    """When to stop waiting for a task; a clock that can be stopped. `asyncio.timeout` with `asyncio.wait`
    takes 40 us for the same, this 8."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._left = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.Future[bool] = loop.create_future()
        self.start()

    def start(self) -> None:
        """Lets the clock run."""
        self._timer = self._loop.call_later(self._left, self._settle, True)

    def stop(self) -> bool:
        """Stops the clock; returns whether it ran."""
        if self._timer is None:
            return False
        self._left = self._timer.when() - self._loop.time()
        self._timer.cancel()
        self._timer = None
        return True

    async def wait(self, task: asyncio.Task[Any]) -> None:
        """Until the task is done; raises `TimeoutError` when the time is over before."""
        task.add_done_callback(self._ended)
        try:
            if await self._late:
                raise TimeoutError
        finally:
            self.stop()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits any more
        self._settle(False)

    def _settle(self, late: bool) -> None:
        if not self._late.done():
            self._late.set_result(late)


async def guarded(work: Coroutine[Any, Any, T], limit: timedelta) -> T:
    """Runs work that needs the database. Where that fails, is not there or takes longer than the limit,
    `uncounted` aside, raises `AuthError`: 503 for the client, the cause for the log.

    The work is a task of its own, which is cancelled once and, after a moment, left to itself: drivers wait
    for a silent server even while they give up, and no second cancellation must reach a rollback. In that
    moment it gives a transaction of the host its connection back, which can do one thing at a time.
    """
    if _deadline.get() is not None:
        return await work
    if current_context() is None:
        work.close()
        logger.error(NOT_INITIALISED)
        raise AuthError(ErrorCode.DATABASE_NOT_INITIALISED)
    loop = asyncio.get_running_loop()
    deadline = Deadline(loop, limit.total_seconds())
    reset = _deadline.set(deadline)
    task = loop.create_task(work)
    _deadline.reset(reset)
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        await deadline.wait(task)
        return task.result()
    except asyncio.CancelledError:
        await _give_up(task)
        raise
    except database_errors() as error:
        await _give_up(task)
        logger.exception("The database failed. %s", POOLER_ADVICE if is_mixed_up(error) else "")
        raise AuthError(ErrorCode.DATABASE_UNAVAILABLE, retry_after=1) from error


async def _give_up(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=GIVING_UP_SECONDS)


@contextmanager
def uncounted() -> Iterator[None]:
    """Stops the clock of `guarded` for what is no work of the database."""
    deadline = _deadline.get()
    if deadline is None or not deadline.stop():  # inside another one, which starts it again
        yield
        return
    try:
        yield
    finally:
        deadline.start()
