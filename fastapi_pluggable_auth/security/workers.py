"""Work on threads for requests, which wait for it in turn or are refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, TypeVar

from ..errors import AuthError, ErrorCode
from .fair_pool import FairPool, PoolFullError

T = TypeVar("T")

RETRY_AFTER: Final = 2
"""Seconds that a client is asked to wait when all places are taken."""


class Workers:
    """Threads for one kind of work. Each waits inside the context that `waiting` makes, and is one of the
    party that `network` names; `initializer` is run by each thread. `ran` gets the seconds that a piece of
    work has waited and taken, `refused` is called for one that had no place."""

    def __init__(
        self,
        threads: int,
        name: str,
        waiting: Callable[[], AbstractContextManager[None]],
        network: Callable[[], str],
        initializer: Callable[[], None] = lambda: None,
        *,
        ran: Callable[[float, float], None] = lambda waited, took: None,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = FairPool(threads, name, initializer)
        self._waiting = waiting
        self._network = network
        self._ran = ran
        self._refused = refused

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return self._pool.waiting

    async def run(self, work: Callable[[], T], places: int) -> T:
        """Its result. Raises `AuthError(OVERLOADED)` where so many wait already, and where the newest call of
        a network that takes more than its share gives its place up."""
        asked = began = ended = time.monotonic()

        def timed() -> T:
            nonlocal began, ended
            began = time.monotonic()
            try:
                return work()
            finally:
                ended = time.monotonic()

        try:
            future = self._pool.submit(self._network(), timed, places)
            with self._waiting():
                result = await asyncio.wrap_future(future)
            self._ran(began - asked, ended - began)
            return result
        except PoolFullError as error:
            self._refused()
            raise AuthError(ErrorCode.OVERLOADED, retry_after=RETRY_AFTER) from error

    def close(self) -> None:
        """Ends the threads once their work is done; later work starts new ones."""
        self._pool.close()
