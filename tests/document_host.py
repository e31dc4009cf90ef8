"""A host on the internet, as a fetch sees it: a TLS server on loopback with certificates for its names."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trustme

from fastapi_pluggable_auth.security.fetching import Fetcher

Answers = Callable[[asyncio.StreamWriter], Awaitable[None]]

_AUTHORITY = trustme.CA()


class DocumentHost:
    """Has documents by address. `asked` are the requests that came, `connections` how many connections."""

    def __init__(self, *names: str) -> None:
        self.documents: dict[str, Any] = {}
        """JSON, or the bytes of a whole answer, by address."""
        self.cache_control = ""
        self.answers: Answers | None = None
        """Answers in the place of the documents."""
        self.asked: list[str] = []
        self.names_shown: list[str | None] = []
        self.connections = 0
        self.looked_up: list[str] = []
        self.port = 0
        self._names = names

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[DocumentHost]:
        """Serves at a free port."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _AUTHORITY.issue_cert(*self._names).configure_cert(context)
        context.sni_callback = lambda _, name, __: self.names_shown.append(name)  # type: ignore[assignment]

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """TLS comes after the count."""
            self.connections += 1
            try:
                await writer.start_tls(context)
                await self._answer(reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.transport.abort()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def resolve(self, host: str, port: int) -> list[tuple[str, int]]:
        """Its address, for each name."""
        self.looked_up.append(host)
        return [("127.0.0.1", self.port)]

    def fetcher(self, **options: Any) -> Fetcher:
        """Reaches loopback, unlike that of an app."""
        chosen = {"resolver": self.resolve, "may_reach": lambda address: True, "trust": trusting}
        return Fetcher(**{**chosen, **options})

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(request)
        if self.answers is not None:
            await self.answers(writer)
        else:
            path = request.split(" ")[1]
            host = next(line[6:] for line in request.splitlines() if line.lower().startswith("host: "))
            found = self.documents.get(f"https://{host}{path}")
            writer.write(found if isinstance(found, bytes) else answer(found, self.cache_control))
        await writer.drain()


def answer(
    document: Any, cache_control: str = "", *, status: int = 200, kind: str = "application/json"
) -> bytes:
    """An answer with this document; 404 without one."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    caching = f"Cache-Control: {cache_control}\r\n" if cache_control else ""
    head = f"HTTP/1.1 {404 if document is None else status} -\r\nContent-Type: {kind}\r\n{caching}"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def write_authority(file: Path) -> None:
    """What a process has to trust for these hosts."""
    _AUTHORITY.cert_pem.write_to_path(str(file))


async def trusting() -> ssl.SSLContext:
    """Trusts the certificates of these hosts alone."""
    context = ssl.create_default_context()
    _AUTHORITY.configure_trust(context)
    return context
