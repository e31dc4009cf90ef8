"""What must outlive a refusal: transactions that do not fall with one that the host app has open.

Many apps wrap each request in a transaction and roll it back when the answer is an error. A refusal is one:
without this, it would take back the guess that it refuses, and the end of a stolen session.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Final, TypeVar, cast

from tortoise import Model
from tortoise.backends.base.client import BaseDBAsyncClient
from tortoise.connection import ConnectionHandler, get_connections
from tortoise.exceptions import IntegrityError

from ._frameworks import has_ended, root_of
from .database import (
    as_own_transaction,
    ended_within,
    in_one_transaction,
    is_in_host_transaction,
    may_run_again,
    new_client,
)
from .failures import PASSING, DeadlineError, Failure, failure_of, log_failure

logger = logging.getLogger(__name__)

T = TypeVar("T")

MOST_CONNECTIONS: Final = 5
"""And no more than the host's pool has: each of its transactions needs one of ours at most at a time."""

LOCK_WAIT: Final = {
    "postgres": "SET LOCAL lock_timeout = '1s'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
}
"""The host's transaction may hold the row, and waits for us. SQLite is not here: its one connection is taken
until that transaction has ended."""

BESIDE_SECONDS: Final = 3.0
"""How long something may take on a connection of ours. A pooler in front of the database may have none for it
until the host's transactions have ended, which wait for us."""
WITHOUT_SECONDS: Final = 5.0
"""For how long no connection of ours is asked for where none could be had."""

CLOSING_SECONDS: Final = 5.0


class Request:
    """A request that is being answered, in front of what may be a transaction of the host. The answer waits
    for `repeats`, once that has ended; `later` comes after both, as the block ends. `in_a_test` is whether it
    is made inside a transaction which is that of a test, and takes back everything."""

    __slots__ = ("_reset", "_run", "_transactions", "answered", "in_a_test", "later", "repeats")

    def __init__(
        self, run: Callable[[Callable[[], Awaitable[object]]], Awaitable[None]], *, in_a_test: bool
    ) -> None:
        self._run = run
        self.in_a_test = in_a_test
        self._transactions: list[BaseDBAsyncClient] = []
        self.repeats: list[asyncio.Task[None]] = []
        self.later: list[Callable[[], Awaitable[object]]] = []
        self.answered = False

    @property
    def must_wait(self) -> bool:
        """Whether the transaction is still open after which something is repeated. It may be one of another
        task, where this one cannot see it."""
        return not all(map(has_ended, self._transactions))

    def repeats_after(self, transaction: BaseDBAsyncClient, repeat: asyncio.Task[None]) -> None:
        """Something is repeated when this transaction has ended."""
        self._transactions.append(transaction)
        self.repeats.append(repeat)

    async def __aenter__(self) -> Request:
        """Gathers from here on."""
        self._reset = _request.set(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Does what comes later."""
        _request.reset(self._reset)
        del self._reset  # a cycle: it holds the context, which holds the request
        self.answered = True  # a task of the request may live on
        for work in self.later:
            await self._run(work)


_request: ContextVar[Request | None] = ContextVar("request", default=None)


class AutonomousTransactions:
    """Transactions on the database of a model, independent of one that the host app has open there.

    Without one they are like any other. Inside one, PostgreSQL and MariaDB have a few connections of the
    library's own, opened when first needed; never the host's pool, which its requests may have emptied. Where
    that does not work (SQLite, a row that the host's transaction holds, no connection to be had), the work
    runs inside the host's transaction, and is repeated as soon as that one has ended.

    So work keeps two rules. Its second run changes nothing where the first has stayed: ids and moments are
    made outside, updates are conditional. And its result is falsy where it found no row to write on: the
    host's transaction may have made it, and then the work belongs there.
    """

    def __init__(self, model: type[Model]) -> None:
        self._model = model
        self._clients: dict[tuple[ConnectionHandler, object], BaseDBAsyncClient] = {}
        self._without_until = 0.0
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def beside_host(self) -> bool:
        """Whether the host app has a transaction open just now, other than that of a test."""
        return is_in_host_transaction(self._name) and not self.in_a_test

    @property
    def in_request(self) -> bool:
        """Whether a request is being answered."""
        request = _request.get()
        return request is not None and not request.answered

    @property
    def in_a_test(self) -> bool:
        """Whether a test has a transaction around all that happens, which leaves nothing behind."""
        request = _request.get()
        return request is not None and request.in_a_test

    @property
    def must_wait(self) -> bool:
        """Whether there is no other connection than that of the host's transaction."""
        return self.beside_host and self._own_client() is None

    async def run(
        self, work: Callable[[], Awaitable[T]], *, otherwise: Callable[[], Awaitable[T]] | None = None
    ) -> T:
        """Runs work in one transaction. Raises what it does; that rolls back. What is done `otherwise`, where
        none beside the host's can be had, is not repeated."""
        if not self.beside_host:
            return await in_one_transaction(self._name, work)
        client, root = self._own_client(), root_of(get_connections().get(self._name))
        if client is None:
            return await (otherwise() if otherwise else self._run_and_repeat(root, work))
        try:
            result = await self._run_beside(client, work)
            if result:
                return result
        except IntegrityError:
            pass  # it may refer to what the host's transaction has made
        except Exception as error:
            failure = failure_of(error)
            if failure in (None, Failure.UNFIT, Failure.NOT_MIGRATED):
                raise
            log_failure(error, "A transaction beside the host's did not work", logger)
            if failure not in PASSING:
                self._without_until = time.monotonic() + WITHOUT_SECONDS
                client = root
            return await (otherwise() if otherwise else self._run_and_repeat(client, work))
        return await self._run_inside(work)

    async def run_statement(
        self, work: Callable[[], Awaitable[T]], *, otherwise: Callable[[], Awaitable[T]] | None = None
    ) -> T:
        """The same for a single statement, which needs no transaction where the host has none."""
        return await (self.run(work, otherwise=otherwise) if self.beside_host else work())

    def run_after_host(self, work: Callable[[], Awaitable[object]]) -> None:
        """Runs work in a transaction as soon as that of the host has ended, before the answer goes out."""
        self._repeat(root_of(get_connections().get(self._name)), work)

    async def after_answer(self, work: Callable[[], Awaitable[object]]) -> None:
        """Runs work when the request is answered, or now where none is. It runs outside of a transaction of
        the host: that may have ended, or wait for the answer. Its errors go to the log."""
        request = _request.get()
        if request is None or request.answered:
            await self._run_outside(work)
        else:
            request.later.append(work)

    def answering(self, *, served: bool = True) -> Request:
        """Around the answer to a request. In a transaction that was open before, what follows on the answer
        is a part of it. Unless the request was `served`, by a server or an app above, that is the transaction
        of a test, and everything is a part of it."""
        surrounded = self.beside_host
        run = self._run_logged if surrounded else self._run_outside
        return Request(run, in_a_test=surrounded and not served)

    async def close(self) -> None:
        """Waits for what is under way and closes the connections; a later use opens them again."""
        loop = asyncio.get_running_loop()
        under_way = {task for task in self._under_way if task.get_loop() is loop}
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=CLOSING_SECONDS)
            for task in late:
                task.cancel()
        clients, self._clients = self._clients, {}
        for (_, opened_in), client in clients.items():
            if opened_in is loop:
                await client.close()

    @property
    def _name(self) -> str:
        return cast(str, self._model._meta.default_connection)

    def _own_client(self) -> BaseDBAsyncClient | None:
        """The connections of the library's own; None where the database has room for one only, or had none
        for us just now."""
        connections = get_connections()
        root = root_of(connections.get(self._name))
        if root.capabilities.dialect not in LOCK_WAIT or time.monotonic() < self._without_until:
            return None
        key = (connections, asyncio.get_running_loop())
        if key not in self._clients:
            self._clients[key] = new_client(self._name, most=MOST_CONNECTIONS)
        return self._clients[key]

    async def _run_inside(self, work: Callable[[], Awaitable[T]]) -> T:
        """As a part of the host's transaction; what work calls is a part of it as well."""
        with as_own_transaction(self._name):
            return await in_one_transaction(self._name, work)

    async def _run_beside(self, client: BaseDBAsyncClient, work: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.get_running_loop().create_task(self._run_on(client, work, _again_at_once))
        if not await ended_within(task, BESIDE_SECONDS):
            raise DeadlineError("no connection, or no end, in time")
        return task.result()

    async def _run_and_repeat(self, client: BaseDBAsyncClient, work: Callable[[], Awaitable[T]]) -> T:
        result = await self._run_inside(work)
        if result:
            self._repeat(client, work)
        return result

    def _repeat(self, client: BaseDBAsyncClient, work: Callable[[], Awaitable[object]]) -> None:
        repeat = self._begin(self._run_again(client, work))
        request = _request.get()
        if request is not None:
            request.repeats_after(get_connections().get(self._name), repeat)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _run_outside(self, work: Callable[[], Awaitable[object]]) -> None:
        if self.beside_host:  # whose end must not wait for it
            self._begin(self._run_detached(work))
        else:
            await self._run_logged(work)

    async def _run_logged(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except Exception as error:
            _log(error, "What follows on an answer failed")

    async def _run_detached(self, work: Callable[[], Awaitable[object]]) -> None:
        connections = get_connections()
        connections.set(self._name, root_of(connections.get(self._name)))  # of this task alone
        await self._run_logged(work)

    async def _run_again(self, client: BaseDBAsyncClient, work: Callable[[], Awaitable[object]]) -> None:
        """Queues for what the host's transaction holds: the connection, or rows."""
        try:
            await self._run_on(client, work)
        except IntegrityError:
            pass  # the first run has stayed
        except Exception as error:
            _log(error, "What the host's transaction may have taken back was not written again")

    async def _run_on(
        self,
        client: BaseDBAsyncClient,
        work: Callable[[], Awaitable[T]],
        again: Callable[[Exception], bool] = may_run_again,
    ) -> T:
        connections = get_connections()
        own = client is not root_of(connections.get(self._name))
        lock_wait = LOCK_WAIT.get(client.capabilities.dialect)

        async def bounded() -> T:
            if own and lock_wait is not None:
                await connections.get(self._name).execute_script(lock_wait)
            return await work()

        reset = connections.set(self._name, client)
        try:
            return await in_one_transaction(self._name, bounded, again=again)
        finally:
            connections.reset(reset)


def _log(error: Exception, what: str) -> None:
    if failure_of(error) is None:
        logger.error(what, exc_info=error)
    else:
        log_failure(error, what, logger)


def _again_at_once(error: Exception) -> bool:
    return failure_of(error) is Failure.CONFLICT
