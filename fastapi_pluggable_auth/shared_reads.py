"""Look-ups that share a statement: those that come while one is under way go out together in the next."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from tortoise.backends.base.client import BaseDBAsyncClient, TransactionalDBClient

from .compiled import Found, Row, Select
from .database import keep
from .failures import log_failure

MOST_UNDER_WAY: Final = 1
MOST_TOGETHER: Final = 128
LONGEST_WAIT_SECONDS: Final = 0.01
"""For a statement under way: one that takes longer holds up nobody else."""

_Place: TypeAlias = tuple[BaseDBAsyncClient, asyncio.AbstractEventLoop]


@dataclass(slots=True, eq=False)
class _Batch:
    """Those who wait for the same statement, with what they ask for."""

    timer: asyncio.TimerHandle
    waiting: dict[asyncio.Future[Found | None], Row] = field(default_factory=dict)
    statement: asyncio.Task[Found] | None = None


@dataclass(slots=True, eq=False)
class _Queue:
    under_way: int = 0
    next: _Batch | None = None


class SharedSelect:
    """Reads as a `Select` whose first column of `by` is unique does, in fewer statements where many ask at
    once. Nothing is kept: a row is read after it was asked for. In a transaction each has a statement.
    """

    def __init__(self, select: Select) -> None:
        self._select = select
        self._queues: dict[_Place, _Queue] = {}

    async def first(self, **values: object) -> Row | None:
        """What the row says, or None. Raises `WrongRowError` where it is not the row that was asked for."""
        database = self._select.database
        if isinstance(database, TransactionalDBClient):
            return await self._select.first(**values)
        place = database, asyncio.get_running_loop()
        if (queue := self._queues.get(place)) is None:
            queue = self._queues[place] = _Queue()
        if queue.under_way >= MOST_UNDER_WAY:
            found = await self._wait(place, queue, values)
            if found is not None:
                return self._select.pick(found, values)
            return await self._select.first(**values)  # which fails by itself, where it does
        queue.under_way += 1
        try:
            return await self._select.first(**values)
        finally:
            self._leave(place, queue)

    async def _wait(self, place: _Place, queue: _Queue, values: Row) -> Found | None:
        """What a statement for several has found; None where it failed."""
        _, loop = place
        if (batch := queue.next) is None:
            timer = loop.call_later(LONGEST_WAIT_SECONDS, self._send, place, queue)
            batch = queue.next = _Batch(timer)
        answer: asyncio.Future[Found | None] = loop.create_future()
        batch.waiting[answer] = values
        if len(batch.waiting) == MOST_TOGETHER:
            self._send(place, queue)
        try:
            return await answer
        except asyncio.CancelledError:
            del batch.waiting[answer]
            if not batch.waiting:  # nobody is left to answer
                if batch.statement is not None:
                    batch.statement.cancel()
                else:
                    batch.timer.cancel()
                    queue.next = None
            raise

    def _send(self, place: _Place, queue: _Queue) -> None:
        batch, queue.next = queue.next, None
        if batch is None:
            return
        batch.timer.cancel()
        database, loop = place
        queue.under_way += 1
        batch.statement = loop.create_task(self._select.all(database, [*batch.waiting.values()]))
        keep(batch.statement)
        batch.statement.add_done_callback(partial(self._answer, place, queue, batch))

    def _answer(self, place: _Place, queue: _Queue, batch: _Batch, statement: asyncio.Task[Found]) -> None:
        self._leave(place, queue)  # first, so that the next statement is under way while these are answered
        found = None
        if not statement.cancelled():
            if (failure := statement.exception()) is None:
                found = statement.result()
            else:
                log_failure(failure)
        for answer in batch.waiting:
            if not answer.done():
                answer.set_result(found)

    def _leave(self, place: _Place, queue: _Queue) -> None:
        queue.under_way -= 1
        if queue.next is not None:
            self._send(place, queue)
        elif not queue.under_way:
            del self._queues[place]
