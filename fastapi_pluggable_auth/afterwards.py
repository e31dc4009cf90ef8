"""What no answer waits for: its time would show an outsider which accounts there are."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from tortoise import Model
from tortoise.connection import get_connections
from tortoise.context import TortoiseContext

from ._frameworks import see
from .autonomous import AutonomousTransactions
from .database import current_context
from .failures import PASSING, Failure, failure_of, log_failure
from .rounds import Rounds

logger = logging.getLogger(__name__)

MOST_JOBS: Final = 1000
"""How many may wait; what comes then waits for room, as nothing is dropped."""
START_SECONDS: Final = 0.25
"""When a job is begun at the latest, where its answer takes longer or none is sent."""
PATIENCE_SECONDS: Final = 1.0
"""How long the end of a request, or who reads what was written, waits for the jobs."""
CLOSING_SECONDS: Final = 5.0
ROOM_SECONDS: Final = 0.02
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds between the tries of a job while the database is down."""
WAITED_FOR: Final = frozenset({*PASSING, Failure.READ_ONLY})
"""What passes, though the database answers in the meantime."""


@dataclass(frozen=True, slots=True)
class _Job:
    what: str
    work: Callable[[], Awaitable[Any]]
    context: TortoiseContext | None


class Afterwards:
    """Work that is done one after the other, in the order in which it came, outside every transaction of the
    host app: nothing that rolls back takes it along. While a request is answered it waits for the answer;
    elsewhere, as in a script, it is done at once. In the transaction of a test it is a part of that.

    It is kept in memory: a process that is killed loses only what it has not done yet.
    """

    def __init__(self, model: type[Model], autonomous: AutonomousTransactions) -> None:
        self._model = model
        self._autonomous = autonomous
        self._jobs: deque[_Job] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rounds = Rounds("What follows on answers", logger)

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._jobs

    async def add(self, what: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Does the work later; `what` names it in the log, should it fail. While the database is down it is
        tried again and again; any other failure is logged and final."""
        if self._autonomous.in_a_test:
            await self._autonomous.after_answer(work)
            return
        job = _Job(what, work, current_context())
        try:
            while len(self._jobs) >= MOST_JOBS:
                self._start()
                await asyncio.sleep(ROOM_SECONDS)
        finally:
            self._jobs.append(job)
        if self._autonomous.in_request:
            self._start_soon()
            await self._autonomous.after_answer(self.flush)
        else:
            await self.flush(None)

    async def flush(self, patience: float | None = PATIENCE_SECONDS) -> None:
        """Does what waits, now; returns when it is done, or patience is over."""
        if self._jobs:
            worker = self._start()
            if not self._autonomous.beside_host:  # which may have the only connection that is left
                await asyncio.wait({worker}, timeout=patience)

    async def close(self) -> None:
        """Does what waits, for some seconds, and gives up the rest."""
        await self.flush(CLOSING_SECONDS)
        if self._timer is not None:
            self._timer.cancel()
        if self._jobs:
            logger.error("Not done when the app ended: %s", ", ".join(job.what for job in self._jobs))
            self._jobs.clear()
            self._start().cancel()

    def _start_soon(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None or self._timer.when() < loop.time():
            self._timer = loop.call_later(START_SECONDS, self._start)

    def _start(self) -> asyncio.Task[None]:
        loop = asyncio.get_running_loop()
        worker = self._worker
        if worker is None or worker.done() or worker.get_loop() is not loop:
            worker = self._worker = loop.create_task(self._run(), context=contextvars.Context())
        return worker

    async def _run(self) -> None:
        while self._jobs:
            with self._rounds.one():
                await self._do(self._jobs[0])
            if self._jobs:
                self._jobs.popleft()

    async def _do(self, job: _Job) -> None:
        pause = FIRST_PAUSE
        while job.context is not None and job.context.inited:
            # With nothing of the request that asked for it: neither its deadline nor its transaction.
            context = contextvars.Context()
            context.run(see, job.context)
            try:
                await asyncio.get_running_loop().create_task(_awaited(job.work), context=context)
                return
            except Exception as error:
                if failure_of(error) is None:
                    logger.exception("Not done after the answer: %s", job.what)
                    return
                if failure_of(error) not in WAITED_FOR and await self._database_answers(context):
                    log_failure(error, f"Not done after the answer: {job.what}", logger)
                    return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _database_answers(self, context: contextvars.Context) -> bool:
        """Whether it is there, and refuses this work only."""

        async def ask() -> None:
            name = self._model._meta.default_connection
            async with asyncio.timeout(CLOSING_SECONDS):
                await get_connections().get(str(name)).execute_query("SELECT 1")

        try:
            await asyncio.get_running_loop().create_task(ask(), context=context)
        except Exception:
            return False
        return True


async def _awaited(work: Callable[[], Awaitable[Any]]) -> None:
    await work()
