"""Transactions and statements on Tortoise's connections, and the time that a request gives them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

from tortoise import Model
from tortoise.backends.base.client import BaseDBAsyncClient, TransactionalDBClient
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.connection import ConnectionHandler, get_connections
from tortoise.context import TortoiseContext, get_current_context
from tortoise.exceptions import IntegrityError
from tortoise.models import MetaInfo
from tortoise.transactions import in_transaction

from ._frameworks import leave_out_of_routers, pool_of, root_of
from .errors import AuthError, ErrorCode
from .failures import PASSING, DeadlineError, Failure, failure_of, log_failure

logger = logging.getLogger(__name__)

T = TypeVar("T")


TRANSACTION_TRIES: Final = 20
TRYING_SECONDS: Final = 30.0
"""After which there is no third try: the next lock may take as long to wait for."""
GIVING_UP_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 0.005
"""The longest pause before the second try; each next one is twice as long. Those that met wait unequally."""
LONGEST_RETRY_SECONDS: Final = 0.25
DROPPING_SECONDS: Final = 0.5

_READ_ONLY: Final = {
    "postgres": "SELECT current_setting('transaction_read_only') = 'on' AS answer",
    "mysql": "SELECT @@global.read_only AS answer",
}
_REFERRING: Final = (
    'SELECT m.name AS name, f."from" AS "column" FROM sqlite_master m, pragma_foreign_key_list(m.name) f'
    " WHERE m.type = 'table' AND f.\"table\" = ?"
    " AND f.on_delete NOT IN ('CASCADE', 'SET NULL', 'SET DEFAULT')"
)

_own: ContextVar[object] = ContextVar("own_transaction", default=None)
"""The transaction that the library has open, beside those that the host app may have."""


def current_context() -> TortoiseContext | None:
    """The Tortoise set-up that this task sees, if it is initialised."""
    context = get_current_context()
    return context if context is not None and context.inited else None


def is_in_transaction(connection_name: str | None) -> bool:
    """Whether a transaction is open on this connection, the host's or ours."""
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


def credentials_of(connections: ConnectionHandler, name: str) -> dict[str, Any]:
    """How this connection is made. Raises `KeyError` where none has this name, and
    `ConfigurationError` or `ValueError` for a URL that is not valid."""
    configured = connections.db_config[name]
    expanded = expand_db_url(configured) if isinstance(configured, str) else configured
    return dict(expanded["credentials"])


def new_client(connection_name: str, *, most: int) -> BaseDBAsyncClient:
    """A pool beside that of the app, on the same database, with at most so many connections, and no
    more than that has."""
    connections = get_connections()
    options = credentials_of(connections, connection_name)
    most = min(int(options.get("maxsize", most)), most)
    options |= {"minsize": 0, "maxsize": most, "connection_name": connection_name}
    return type(root_of(connections.get(connection_name)))(**options)


@contextmanager
def as_own_transaction(connection_name: str) -> Iterator[None]:
    """Treats the transaction that is open on this connection as the library's own."""
    reset = _own.set(get_connections().get(connection_name))
    try:
        yield
    finally:
        _own.reset(reset)


def may_run_again(error: Exception) -> bool:
    """Whether another transaction was in the way of this one."""
    return failure_of(error) in PASSING


async def in_one_transaction(
    connection_name: str | None,
    work: Callable[[], Awaitable[T]],
    *,
    again: Callable[[Exception], bool] = may_run_again,
) -> T:
    """Runs work in a transaction; whatever it raises rolls back. Where the database ends it with an error
    after which it may run `again`, it does, a bounded number of times. Raises `IntegrityError` for what the
    database refuses, also at the commit.

    Inside another transaction it runs once, as a part of it: a database that breaks a deadlock may have ended
    the whole of it, and what goes on then is committed statement by statement.
    """

    async def run() -> T:
        async with _transaction(connection_name):
            with nullcontext() if nested or connection_name is None else as_own_transaction(connection_name):
                return await work()

    nested = is_in_transaction(connection_name)
    try:
        client = None if connection_name is None else get_connections().get(connection_name)
        return await _patiently(client, run, again, tries=1 if nested else TRANSACTION_TRIES)
    except IntegrityError:
        raise
    except Exception as error:
        if failure_of(error) is Failure.REFUSED:  # which Tortoise passes on as it is, at the commit
            raise IntegrityError(error) from error
        raise


async def _patiently(
    client: BaseDBAsyncClient | None,
    run: Callable[[], Awaitable[T]],
    again: Callable[[Exception], bool] = may_run_again,
    tries: int = TRANSACTION_TRIES,
) -> T:
    """Runs what is a transaction by itself until no other one is in the way."""
    started = time.monotonic()
    for tried in range(1, tries + 1):
        try:
            return await run()
        except Exception as error:
            if client is not None and failure_of(error) is Failure.READ_ONLY:
                await drop_connections(root_of(client))
                if isinstance(client, TransactionalDBClient):
                    keep(asyncio.get_running_loop().create_task(_drop_later(root_of(client))))
            late = tried > 1 and time.monotonic() - started > TRYING_SECONDS
            if tried == tries or late or not again(error):
                raise
        longest = min(RETRY_SECONDS * 2 ** (tried - 1), LONGEST_RETRY_SECONDS)
        await asyncio.sleep(longest * random.random())  # noqa: S311 - nothing depends on it
    raise AssertionError("unreachable")


async def drop_connections(client: BaseDBAsyncClient) -> None:
    """Has the next request connect anew: a name that led to this server may lead to its successor now.
    asyncmy drops those that are not in use; others follow when they meet the same."""
    pool = pool_of(client)
    with suppress(Exception):  # the next one to meet it tries again
        if hasattr(pool, "expire_connections"):  # asyncpg
            await pool.expire_connections()
        elif hasattr(pool, "clear"):  # asyncmy, aiomysql
            await pool.clear()


async def _drop_later(client: BaseDBAsyncClient) -> None:
    """Again, when a transaction of the host that is open now has given its connection back."""
    await asyncio.sleep(DROPPING_SECONDS)
    await drop_connections(client)


class Patient:
    """A connection on which each statement is tried again as a transaction is: outside of one it is one."""

    def __init__(self, client: BaseDBAsyncClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __eq__(self, other: object) -> bool:
        """Tortoise asks whether a table is on a connection, when it makes the tables."""
        return self._client is (other._client if isinstance(other, Patient) else other)

    def __hash__(self) -> int:
        return hash(self._client)

    async def execute_query(self, query: str, values: list[Any] | None = None) -> Any:
        """Runs a statement; the number of rows, and those that it reads."""
        return await _patiently(self._client, lambda: self._client.execute_query(query, values))

    async def execute_query_dict(self, query: str, values: list[Any] | None = None) -> Any:
        """Runs a statement; the rows that it reads."""
        return await _patiently(self._client, lambda: self._client.execute_query_dict(query, values))

    async def execute_insert(self, query: str, values: list[Any]) -> Any:
        """Stores a row; what the database made of it."""
        return await _patiently(self._client, lambda: self._client.execute_insert(query, values))

    async def execute_many(self, query: str, values: list[list[Any]]) -> Any:
        """Stores rows, all or none."""
        return await _patiently(self._client, lambda: self._client.execute_many(query, values))


class PatientMeta(MetaInfo):
    """How the tables of the library reach their database: whatever is written there is tried again where
    another transaction was in the way, also by code that does not think of it."""

    __slots__ = ()

    @property
    def db(self) -> BaseDBAsyncClient:
        """The connection of the task, in a transaction or by itself."""
        client = super().db
        return (
            client if isinstance(client, TransactionalDBClient) else cast(BaseDBAsyncClient, Patient(client))
        )


_unrouted: Final[WeakSet[type[Model]]] = WeakSet()


def read_where_written(*models: type[Model]) -> None:
    """Takes the connection of these tables out of the hands of the host's routers: a replica lags behind, and
    a session that has ended would live on there."""
    leave_out_of_routers(_is_unrouted)
    _unrouted.update(models)


def _is_unrouted(model: type[Model]) -> bool:
    return model in _unrouted


async def is_read_only(client: BaseDBAsyncClient) -> bool:
    """Whether the server is a standby, or takes no writes for another reason."""
    if (question := _READ_ONLY.get(client.capabilities.dialect)) is None:
        return False
    (answer,) = await client.execute_query_dict(question)
    return bool(answer["answer"])


async def tables_that_refer(client: BaseDBAsyncClient, table: str, key: object) -> list[str]:
    """The tables whose rows keep this one from being deleted, for SQLite, which does not say so itself."""
    if client.capabilities.dialect != "sqlite":
        return []
    found = []
    for each in await client.execute_query_dict(_REFERRING, [table]):
        name, column = (str(each[part]).replace('"', '""') for part in ("name", "column"))
        asked = f'SELECT 1 FROM "{name}" WHERE "{column}" = ? LIMIT 1'  # noqa: S608 - names of the schema
        if await client.execute_query_dict(asked, [str(key)]):
            found.append(str(each["name"]))
    return found


@asynccontextmanager
async def _transaction(connection_name: str | None) -> AsyncIterator[None]:
    """Like Tortoise's own, which never gives its connection back where BEGIN fails or is cancelled, and
    leaves the transaction open whose COMMIT SQLite refuses."""
    begun = in_transaction(connection_name)
    try:
        client = await begun.__aenter__()
    except BaseException as error:
        if hasattr(begun, "token"):  # it has a connection, or the lock of SQLite's only one
            with suppress(Exception):
                await begun.__aexit__(type(error), error, error.__traceback__)
        raise
    try:
        yield
        if hasattr(begun, "token"):  # no savepoint
            await client.commit()
    except BaseException as error:
        with suppress(Exception):  # a connection that is gone has rolled back, and the cause matters
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
        self._seconds = self._left = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.Future[bool] = loop.create_future()
        self._guest: tuple[str, float] | None = None
        self._spent: dict[str, float] = {}
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

    @contextmanager
    def spent_by(self, guest: str) -> Iterator[None]:
        """What runs inside is not the database's doing, though the database may have to wait for it."""
        self._guest = guest, self._loop.time()
        try:
            yield
        finally:
            self._charge()

    def _charge(self) -> None:
        if self._guest is not None:
            guest, since = self._guest
            self._spent[guest] = self._spent.get(guest, 0.0) + self._loop.time() - since
            self._guest = None

    @property
    def wasted_by(self) -> str | None:
        """Which of them has spent half of the time or more."""
        self._charge()
        return next((guest for guest, spent in self._spent.items() if spent >= self._seconds / 2), None)

    async def wait(self, task: asyncio.Task[Any]) -> None:
        """Until the task is done; raises `DeadlineError` when the time is over before."""
        task.add_done_callback(self._ended)
        try:
            if await self._late:
                raise DeadlineError("no answer in time")
        finally:
            self.stop()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        _seen(task)
        self._settle(False)

    def _settle(self, late: bool) -> None:
        if not self._late.done():
            self._late.set_result(late)


async def with_deadline(work: Coroutine[Any, Any, T], limit: timedelta) -> T:
    """Runs work that needs the database. Where that fails, is not there or takes longer than the limit,
    `deadline_paused` aside, raises `AuthError`: what the client may know, and the cause for the log.

    The work is its own task, which is cancelled once and, after a moment, left to itself: drivers wait
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
    keep(task)
    try:
        await deadline.wait(task)
        return task.result()
    except asyncio.CancelledError:
        await _give_up(task)
        raise
    except DeadlineError as error:
        guest = deadline.wasted_by
        await _give_up(task)
        if guest is None:
            raise _refusal(error) from error
        logger.error("%s took longer than the request may wait", guest)
        raise AuthError(ErrorCode.HOOK_UNAVAILABLE, retry_after=1) from error
    except Exception as error:
        if failure_of(error) is None:
            raise
        raise _refusal(error) from error


def _refusal(error: Exception) -> AuthError:
    """What the client learns of a failure, which goes to the log."""
    log_failure(error)
    failure = failure_of(error)
    if failure is Failure.REFUSED:
        return AuthError(ErrorCode.CHANGE_REFUSED)
    if failure is Failure.UNFIT:
        return AuthError(ErrorCode.VALIDATION_ERROR)
    if failure is Failure.NOT_MIGRATED:
        return AuthError(ErrorCode.DATABASE_NOT_MIGRATED)
    return AuthError(ErrorCode.DATABASE_UNAVAILABLE, retry_after=1)


def keep(task: asyncio.Task[Any]) -> None:
    """The event loop would not keep it alive."""
    _running.add(task)
    task.add_done_callback(_running.discard)


async def ended_within(task: asyncio.Task[Any], seconds: float) -> bool:
    """Whether the task ends in this time. Else it is cancelled and left to itself: drivers wait for a silent
    server even while they give up."""
    await asyncio.wait({task}, timeout=seconds)
    if task.done():
        return True
    task.cancel()
    task.add_done_callback(_seen)
    return False


def _seen(task: asyncio.Task[Any]) -> None:
    """The event loop complains of an exception that nobody looks at."""
    if not task.cancelled():
        task.exception()


async def _give_up(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=GIVING_UP_SECONDS)


@contextmanager
def deadline_paused() -> Iterator[None]:
    """Stops the clock of `with_deadline` for what is not the database's work."""
    deadline = _deadline.get()
    if deadline is None or not deadline.stop():  # inside another one, which starts it again
        yield
        return
    try:
        yield
    finally:
        deadline.start()


@contextmanager
def spent_by(guest: str) -> Iterator[None]:
    """Names who is to blame if `with_deadline` finds that what runs inside has taken its time."""
    deadline = _deadline.get()
    with nullcontext() if deadline is None else deadline.spent_by(guest):
        yield
