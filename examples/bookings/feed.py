"""What happens in the house, for those who look at the page just now; each worker tells its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

_listeners: set[asyncio.Queue[str]] = set()


def tell(news: str) -> None:
    for queue in _listeners:
        queue.put_nowait(news)


@contextmanager
def heard() -> Iterator[asyncio.Queue[str]]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    _listeners.add(queue)
    try:
        yield queue
    finally:
        _listeners.remove(queue)
