"""Work on threads for requests, which wait for it in turn or are refused."""

from __future__ import annotations

import asyncio
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
    party that `network` names; `initializer` is run by each thread."""

    def __init__(
        self,
        threads: int,
        name: str,
        waiting: Callable[[], AbstractContextManager[None]],
        network: Callable[[], str],
        initializer: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = FairPool(threads, name, initializer)
        self._waiting = waiting
        self._network = network

    async def run(self, work: Callable[[], T], places: int) -> T:
        """Its result. Raises `AuthError(OVERLOADED)` where so many wait already, and where the newest call of
        a network that takes more than its share gives its place up."""
        try:
            result = self._pool.submit(self._network(), work, places)
            with self._waiting():
                return await asyncio.wrap_future(result)
        except PoolFullError as error:
            raise AuthError(ErrorCode.OVERLOADED, retry_after=RETRY_AFTER) from error

    def close(self) -> None:
        """Ends the threads once their work is done; later work starts new ones."""
        self._pool.close()
