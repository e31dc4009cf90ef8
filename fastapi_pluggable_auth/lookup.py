"""Where a request finds the `Auth` of its app: in the ASGI scope, which apps mounted below get as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Host, Mount
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from . import config
from .auth import Auth
from .security.addresses import special_domains
from .security.startup import check_settings, warn_of_ignored_names
from .words.texts import check_languages

STATE_ATTRIBUTE: Final = "pluggable_auth"
"""Where `include_auth` keeps the app's `Auth` on `app.state`."""

Handlers = Mapping[type[Exception], ExceptionHandler]
"""What answers which exceptions."""

_SCOPE_KEY: Final = "fastapi_pluggable_auth.auth"
_FOUND: Final = "fastapi_pluggable_auth.found"
"""What belonged to each `Auth` when the request came to its app: routers change the scope on the way down."""
_HANDLERS: Final = "starlette.exception_handlers"


@dataclass(frozen=True, slots=True)
class Included:
    """An `Auth`, with the app that has it, the path at which that is mounted, and how it answers refusals."""

    auth: Auth
    app: object
    root_path: str
    handlers: Handlers


class AuthInScope:
    """Lets each request and WebSocket find the `Auth`, in whatever app below answers it. One that has an
    `Auth` too finds that."""

    def __init__(self, app: ASGIApp, auth: Auth, handlers: Handlers) -> None:
        self.app = app  # under this name, as FastAPI looks through the stack for instrumentation
        self._auth = auth
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app."""
        before = scope.get(_SCOPE_KEY)
        reset = special_domains.set(self._auth.settings.email_special_domains)
        found: dict[Auth, Included] = scope.setdefault(_FOUND, {})
        if self._auth not in found:
            place = scope.get("root_path", "")
            found[self._auth] = Included(self._auth, scope.get("app"), place, self._handlers)
        scope[_SCOPE_KEY] = found[self._auth]
        try:
            await self.app(scope, receive, send)
        finally:  # the scope is shared with the app above
            scope[_SCOPE_KEY] = before
            special_domains.reset(reset)


def finds(scope: Scope, auth: Auth) -> bool:
    """Whether what this request finds is this `Auth`."""
    found: Included | None = scope.get(_SCOPE_KEY)
    return found is not None and found.auth is auth


def included(request: HTTPConnection) -> Included:
    """The `Auth` that this request finds, with what belongs to it. Raises `RuntimeError` where there is none:
    never the settings of the process instead, which nothing has checked."""
    found: Included | None = request.scope.get(_SCOPE_KEY)
    if found is None:
        raise RuntimeError(
            "This route asks who is signed in, but its app has no Auth: call include_auth(app) for this app, "
            "or for the one that it is mounted in."
        )
    return found


def auth_of(request: HTTPConnection) -> Auth:
    """The `Auth` of the app that serves this request, or WebSocket; that of the app above where it has none.
    Raises `RuntimeError`."""
    found = included(request)
    if request.scope.get("app") is not found.app and _HANDLERS in request.scope:
        handlers, _ = request.scope[_HANDLERS]
        _add(handlers, found.handlers)
    return found.auth


def answer_refusals(routes: Iterable[BaseRoute], handlers: Handlers) -> None:
    """Has the apps that are mounted here answer refusals like this one: each handles its own exceptions, and
    one without a handler is a 500. `auth_of` does the same for apps that cannot be seen from here."""
    for app in mounted(routes):
        _add(app.exception_handlers, handlers)


def mounted(routes: Iterable[BaseRoute]) -> Iterator[Starlette]:
    """The apps that are mounted here, however deep."""
    for route in routes:
        router = getattr(route, "original_router", None)  # FastAPI's route for a router that was included
        if router is not None:
            yield from mounted(router.routes)
        elif isinstance(route, Mount | Host):
            yield from mounted(route.routes or ())
            app: Any = route.app
            while app is not None and not isinstance(app, Starlette):
                app = getattr(app, "app", None)  # as middleware calls what it wraps
            if app is not None:
                yield app


def _add(handlers: Any, more: Handlers) -> None:
    for exception, handler in more.items():
        handlers.setdefault(exception, handler)


def use_default(request: HTTPConnection) -> None:
    """Lets a route of the library that was mounted by hand, without `include_auth`, use the settings of the
    process, after the same checks; nothing changes where the request finds an `Auth`. Raises
    `InsecureSettingsError`, at each request, as nothing looked at them when the app started."""
    if request.scope.get(_SCOPE_KEY) is None:
        scope = request.scope
        scope[_SCOPE_KEY] = Included(_default_auth(), scope.get("app"), scope.get("root_path", ""), {})
        special_domains.set(config.settings.email_special_domains)


@cache
def _default_auth() -> Auth:
    check_settings(config.settings)
    check_languages(config.settings)
    warn_of_ignored_names(config.settings)
    return Auth(config.settings)
