"""What stands around the app: the answer to refusals, and the layers that each request goes through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._frameworks import seeing
from ..auth import Auth
from ..database import current_context
from ..errors import AuthError
from ..host_transactions import HostTransactionMiddleware
from ..lookup import AuthInScope, Handlers, answer_refusals, auth_of, finds
from .cookies import CookieMiddleware
from .responses import SignInRequired, error_response


def wrap(app: FastAPI, auth: Auth, starting: Callable[[], None]) -> None:
    """Wraps the whole stack: what answers an exception that nobody handles stands in front of every added
    middleware, and so may a transaction of the host. A session that was just renewed must not be lost with
    either, and middleware of the host finds the `Auth` too.

    In front of all stays what Starlette has there, which OpenTelemetry looks for, and nothing is answered
    before an exception has come that far, where it is recorded.

    A tool that is taken off the app puts back the stack that it found, which may be one from before. So the
    layers are among the app's middlewares as well, where they do nothing for requests that came through them.

    `starting` is called once all of the app is there: before it serves the first request.
    """
    build = app.build_middleware_stack

    def around(stack: ASGIApp) -> ASGIApp:
        handlers = {each: app.exception_handlers.get(each, ours) for each, ours in HANDLERS.items()}
        answer_refusals(app.routes, handlers)
        if auth.uses_cookies:
            stack = CookieMiddleware(stack, auth)
        return AuthInScope(TortoiseContextMiddleware(stack, auth), auth, handlers)

    inside = Middleware(LayersInside, auth=auth, around=around)
    app.user_middleware.insert(0, inside)

    def wrapped() -> ASGIApp:
        starting()
        if inside in app.user_middleware:  # in front of what was added since
            app.user_middleware.remove(inside)
            app.user_middleware.insert(0, inside)
        stack = build()
        if not isinstance(stack, ServerErrorMiddleware):
            return around(HostTransactionMiddleware(stack, auth))
        inner = around(HostTransactionMiddleware(stack.app, auth))
        return ServerErrorMiddleware(inner, handler=_answering_mistakes(stack, around))

    app.build_middleware_stack = wrapped  # type: ignore[method-assign]


class LayersInside:
    """Our layers, for a stack that was built without them in front."""

    def __init__(self, app: ASGIApp, auth: Auth, around: Callable[[ASGIApp], ASGIApp]) -> None:
        self.app = app  # under this name, as FastAPI looks through the stack for instrumentation
        self._auth = auth
        self._layers = around(HostTransactionMiddleware(app, auth))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app, in the layers where the request has not come through them."""
        inner = self.app if finds(scope, self._auth) else self._layers
        await inner(scope, receive, send)


def _answering_mistakes(
    host: ServerErrorMiddleware, around: Callable[[ASGIApp], ASGIApp]
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Has the app answer an exception as it would alone, by its handler or in debug mode, and takes that
    answer through the layers around it."""

    async def answer(request: Request, error: Exception) -> Response:
        async def fail(scope: Scope, receive: Receive, send: Send) -> None:
            raise error

        sent: list[Message] = []

        async def keep(message: Message) -> None:
            sent.append(message)

        again = around(ServerErrorMiddleware(fail, host.handler, host.debug))
        try:
            await again(request.scope, request.receive, keep)
        except Exception as raised:
            if raised is not error:
                raise
        return _Sent(sent)

    return answer


class _Sent(Response):
    """An answer that is there already."""

    def __init__(self, messages: list[Message]) -> None:
        super().__init__()
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        for message in self._messages:
            await send(message)


class TortoiseContextMiddleware:
    """Lets requests see the Tortoise set-up that the lifespan opened.

    Tortoise keeps it in a context variable. A plain `Tortoise.init` in a lifespan sets it for the lifespan's
    task only, and the server runs each request in its own task.
    """

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self.app = app  # under this name, as FastAPI looks through the stack for instrumentation
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app with the context set, where the request has none."""
        context = self._auth.tortoise_context
        if scope["type"] == "lifespan" or context is None or current_context() is not None:
            await self.app(scope, receive, send)
            return
        with seeing(context):
            await self.app(scope, receive, send)


async def _answer(request: Request, error: Exception) -> Response:
    """For the host's own routes that depend on a user; the library's routes answer by themselves."""
    assert isinstance(error, AuthError)  # noqa: S101 - registered for nothing else
    return error_response(error, request, auth_of(request))


async def _redirect(_: Request, error: Exception) -> Response:
    """To the sign-in page, for the host's own pages."""
    assert isinstance(error, SignInRequired)  # noqa: S101 - registered for nothing else
    return RedirectResponse(error.location, 303, {"Cache-Control": "no-store"})


HANDLERS: Final[Handlers] = {AuthError: _answer, SignInRequired: _redirect}
"""How the app answers refusals, also those in the host's own routes, unless it has its own handlers."""
