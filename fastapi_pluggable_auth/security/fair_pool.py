"""Work on a few threads, for which those who wait take turns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class PoolFullError(Exception):
    """So much work waits that there is no place for more."""


class _Job(NamedTuple, Generic[T]):
    party: str
    work: Callable[[], T]
    result: Future[T]


class FairPool:
    """Runs work on threads. Of the parties that wait each is served in turn, however much it has waiting, and
    one that is alone may have all places. Where these are taken, the party with most of them gives up its
    newest one to a party that would still have fewer."""

    def __init__(self, threads: int, name: str, initializer: Callable[[], None]) -> None:
        self._threads = self._free = threads
        self._name = name
        self._initializer = initializer
        self._executor: ThreadPoolExecutor | None = None
        self._waiting: dict[str, deque[_Job[Any]]] = {}  # the first one is next
        self._lock = threading.Lock()

    def submit(self, party: str, work: Callable[[], T], places: int) -> Future[T]:
        """Its result, or `PoolFullError` where its place is given up. Cancelling it before it has begun frees
        its place. Raises `PoolFullError` where there is none."""
        job = _Job(party, work, Future[T]())
        with self._lock:
            loser = self._make_room(party, places)
            self._waiting.setdefault(party, deque()).append(job)
            self._start()
        if loser is not None and loser.result.set_running_or_notify_cancel():
            loser.result.set_exception(PoolFullError())
        job.result.add_done_callback(lambda result: self._withdraw(job) if result.cancelled() else None)
        return job.result

    @property
    def waiting(self) -> int:
        """How much work waits for a thread."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    def close(self) -> None:
        """Ends the threads once their work is done; later work starts new ones."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)

    def _make_room(self, party: str, places: int) -> _Job[Any] | None:
        if self._free or sum(map(len, self._waiting.values())) < places:
            return None
        most = max(self._waiting.values(), key=len)
        if len(most) <= len(self._waiting.get(party, ())) + 1:
            raise PoolFullError
        return most.pop()

    def _start(self) -> None:
        while self._free and self._waiting:
            party = next(iter(self._waiting))
            jobs = self._waiting.pop(party)
            job = jobs.popleft()
            if jobs:
                self._waiting[party] = jobs
            self._free -= 1
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._threads, self._name, self._initializer)
            self._executor.submit(self._run, job)

    def _run(self, job: _Job[T]) -> None:
        result, error = None, None
        wanted = job.result.set_running_or_notify_cancel()
        if wanted:
            try:
                result = job.work()
            except BaseException as raised:
                error = raised
        with self._lock:
            self._free += 1
            self._start()
        if error is not None:
            job.result.set_exception(error)
        elif wanted:
            job.result.set_result(result)  # type: ignore[arg-type]  # it is there without an error

    def _withdraw(self, job: _Job[Any]) -> None:
        with self._lock:
            jobs = self._waiting.get(job.party, deque())
            if job in jobs:
                jobs.remove(job)
            if not jobs:
                self._waiting.pop(job.party, None)
