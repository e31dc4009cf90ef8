"""A TCP proxy in front of a database, with the faults of a network at hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

Fault = Literal["cut", "drop_replies"]

CHUNK = 65536


class Proxy:
    """Context manager: passes bytes on to the server of a URL, in a thread, from a free port of 127.0.0.1.

    `delay` may change at any time: the seconds that each piece of what clients send is held back. It lets
    `most` connect at once, and refuses others or, as a pooler, has them wait (`queues`). What is in `unknown`
    reaches the server misspelt.
    """

    def __init__(self, url: str) -> None:
        self.delay = 0.0
        self.most = 10_000
        self.queues = False
        self.unknown: tuple[bytes, ...] = ()
        self._upstream = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._passing = asyncio.Event()
        self._passing.set()
        self._refusing = False
        self._trap: tuple[bytes, Fault] | None = None
        self._sprung = threading.Event()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The URL of the database by way of the proxy."""
        account = self._upstream.netloc.rpartition("@")[0]
        return self._upstream._replace(netloc=f"{account}@127.0.0.1:{self._port}").geturl()

    def stall(self) -> None:
        """Keeps whatever comes, either way, until it recovers."""
        self._do(self._passing.clear)

    def move(self, url: str) -> None:
        """Leads whoever connects from now on to another server, as a name that was moved does: connections
        that are there stay."""
        self._do(lambda: setattr(self, "_upstream", urlsplit(url)))

    def cut(self) -> None:
        """Hangs up on everyone."""

        def cut() -> None:
            for link in self._links:
                link.abort()

        self._do(cut)

    def refuse(self) -> None:
        """Hangs up on whoever connects and on everyone who has, until it recovers."""

        def refuse() -> None:
            self._refusing = True
            for link in self._links:
                link.abort()

        self._do(refuse)

    def trap(self, needle: bytes, fault: Fault) -> None:
        """Waits until any client sends these bytes; then hangs up on everyone before the server sees them
        ("cut"), or passes them on and keeps every reply from then on ("drop_replies"). Refuses whoever
        connects after that, until it recovers."""
        self._sprung.clear()
        self._trap = needle, fault

    async def sprung(self) -> None:
        """Waits for the trap; raises `TimeoutError`."""
        if not await asyncio.to_thread(self._sprung.wait, 10):
            raise TimeoutError("Nobody sent what the trap waits for.")

    def recover(self) -> None:
        """Passes everything again; connections that lost replies are reset."""
        self.delay = 0.0
        self._do(self._recover)

    def __enter__(self) -> Self:
        self._thread.start()
        self._port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, action: Callable[[], None]) -> None:
        """Acts in the thread of the proxy."""
        done: Future[None] = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(action()))
        done.result(5)

    async def _start(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=512)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _stop(self) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _recover(self) -> None:
        self._trap = None
        self._refusing = False
        for link in self._links:
            if link.deaf:
                link.abort()
        self._passing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler
        self._tasks.add(handler)
        handler.add_done_callback(self._tasks.discard)
        try:
            while self.queues and len(self._links) >= self.most:
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            writer.transport.abort()
            return  # asyncio 3.11 would log it
        if self._refusing or len(self._links) >= self.most:
            writer.transport.abort()
            return
        try:
            answers, onwards = await asyncio.open_connection(self._upstream.hostname, self._upstream.port)
        except BaseException:
            writer.transport.abort()
            raise
        link = _Link(writer, onwards)
        self._links.add(link)
        down = asyncio.create_task(self._replies(answers, link))
        try:
            await self._requests(reader, link)
        except asyncio.CancelledError:
            pass  # asyncio 3.11 would log it
        finally:
            self._links.discard(link)
            link.abort()
            down.cancel()
            with suppress(asyncio.CancelledError):
                await down

    async def _requests(self, client: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while data := await client.read(CHUNK):
                await asyncio.sleep(self.delay)
                if self._trap and self._trap[0] in data:
                    self._spring(self._trap[1])
                await self._passing.wait()
                for word in self.unknown:
                    data = data.replace(word, word[:-1] + b"_")
                link.server.write(data)
                await link.server.drain()

    async def _replies(self, server: asyncio.StreamReader, link: _Link) -> None:
        with suppress(OSError):
            while data := await server.read(CHUNK):
                await self._passing.wait()
                if not link.deaf:
                    link.client.write(data)
                    await link.client.drain()
        if not link.deaf:
            link.abort()

    def _spring(self, fault: Fault) -> None:
        self._trap = None
        self._refusing = True
        for link in self._links:
            link.deaf = True
            if fault == "cut":
                link.abort()
        self._sprung.set()


class _Link:
    """A connection of a client and the one that was made for it; when `deaf`, the client hears no reply."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.deaf = False

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()
