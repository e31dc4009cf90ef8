"""A transaction that the host app has around a request: the answer waits for what must outlive it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .auth import Auth
from .autonomous import Request

logger = logging.getLogger(__name__)

HELD_BYTES: Final = 1024 * 1024
"""How much of an answer is kept back while the transaction around it is open."""
PATIENCE_SECONDS: Final = 5.0
"""How long an answer waits for what is written after that transaction."""

_FRAMEWORKS: Final = frozenset({__name__.partition(".")[0], "fastapi", "starlette", "uvicorn"})
"""Modules that open no transaction around a request by themselves."""


class HostTransactionMiddleware:
    """Stands in front of every middleware of the app: what `AutonomousTransactions` has to repeat is there
    before the answer is.

    An answer that is sent while the host's transaction is open, by a middleware or by a dependency that ends
    after it, is kept back until that has ended.
    """

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self.app = app  # under this name, as FastAPI looks through the stack for instrumentation
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        served = "state" in scope or "router" in scope  # by a server (ASGI lifespan state), or an app above
        async with self._auth.autonomous.answering(served=served) as request:
            answer = _Answer(request, scope, send)
            try:
                await self.app(scope, receive, answer.send)
            finally:
                await answer.finish()


class _Answer:
    """An answer that waits for the repeats of its request."""

    def __init__(self, request: Request, scope: Scope, send: Send) -> None:
        self._request = request
        self._scope = scope
        self._send = send
        self._held: list[Message] = []
        self._bytes = 0
        self._under_way = False

    async def send(self, message: Message) -> None:
        """Sends a message, or keeps it."""
        if not self._under_way and self._request.repeats:
            if self._request.must_wait:
                self._held.append(message)
                self._bytes += len(message.get("body", b""))
                if self._bytes > HELD_BYTES:
                    await self.finish()
                return
            await self.finish()
        self._under_way = True
        await self._send(message)

    async def finish(self) -> None:
        """Sends what was kept."""
        if not self._under_way and self._request.repeats:
            await self._wait()
        self._under_way = True
        held, self._held = self._held, []
        for message in held:
            await self._send(message)

    async def _wait(self) -> None:
        """Until everything is repeated, or that has to come after the answer."""
        if not self._request.must_wait:
            _, late = await asyncio.wait(self._request.repeats, timeout=PATIENCE_SECONDS)
            if not late:
                return
        logger.error(
            "%s %s is answered before the transaction around it ends: should that be rolled back, a refresh, "
            "an ended session or a counted guess is written again only after the answer. It is begun by %s. "
            "Let it end before the answer is sent, or begin it inside the app that `include_auth` was given.",
            self._scope["method"],
            self._scope["path"],
            " or ".join(_middlewares_around(self._scope)) or "a middleware or a dependency of the host",
        )


def _middlewares_around(scope: Scope) -> Iterator[str]:
    """The middlewares of the host app that wait for what runs now, where they wait in the same task, and else
    all of them."""
    names, frame = [], sys._getframe()
    while (caller := frame.f_back) is not None and caller.f_globals.get("__name__") != "asyncio.events":
        frame = caller
        if frame.f_code.co_name == "__call__":
            names.append(f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname[: -len('.__call__')]}")
    if all(map(_is_of_a_framework, names)):
        added = [
            getattr(each, "kwargs", {}).get("dispatch", each.cls) for each in scope["app"].user_middleware
        ]
        names = [f"{each.__module__}.{each.__qualname__}" for each in added]
    return (name for name in names if not _is_of_a_framework(name))


def _is_of_a_framework(name: str) -> bool:
    return name.partition(".")[0] in _FRAMEWORKS
