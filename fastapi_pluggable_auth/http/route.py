"""What all routes share: errors as JSON, mail after the response, answers that no cache keeps."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Message, Receive, Scope, Send

from ..database import deadline_paused
from ..email.outbox import collect_mails
from ..errors import AuthError
from ..lookup import auth_of, use_default
from ..schemas import Error, ValidationFailure
from .origin import note_origin
from .responses import UNREADABLE_BODY, error_response, validation_response

MAXIMUM_BODY_BYTES: Final = 2 * 1024 * 1024

_REFUSALS: Final = (Error, ValidationFailure)
_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


def _makes_json(response_class: object) -> bool:
    """Whether the app's `default_response_class` suits bodies that are JSON by contract. FastAPI's own is not
    a class, and does."""
    return not isinstance(response_class, type) or issubclass(response_class, JSONResponse)


def _and_slashes(path: re.Pattern[str]) -> re.Pattern[str]:
    """Matches the same path with slashes at its end as well, rather than let Starlette redirect from there to
    an address that it makes of the request's Host."""
    return re.compile(f"{path.pattern.removesuffix('$')}/*$")


def _methods_at(scope: Scope, path: str) -> list[str]:
    """Those that the app has a route for at the path of this request: of the library's routes, those of the
    same path and not of one with a parameter in the place of its words."""
    routes = [each for each in scope["app"].routes if not isinstance(each, AuthRoute) or each.path == path]
    return [
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]


def without_slashes(scope: Scope) -> Scope:
    """The scope of the same request without slashes at the end of its path."""
    path = scope["path"]
    return {**scope, "path": path.rstrip("/")} if path.endswith("/") else scope


class AuthRoute(APIRoute):
    """A route of the library."""

    _refusals: ClassVar[dict[type, Any]] = {}
    """What FastAPI has made of the bodies of refusals: the same for each route, and most of the work."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not _makes_json(options.get("response_class")):
            del options["response_class"]
        if options.get("status_code") == 204:  # for which FastAPI before 0.122 makes a model of `-> None`
            options["response_model"] = None
        responses = options.get("responses") or {}
        models = {
            status: said["model"] for status, said in responses.items() if said.get("model") in _REFUSALS
        }
        made = {status: self._refusals[model] for status, model in models.items() if model in self._refusals}
        options["responses"] = {
            status: {**said, "model": None} if status in made else said for status, said in responses.items()
        }
        super().__init__(path, endpoint, **options)
        self.responses = responses
        self.response_fields |= made
        self._refusals.update({model: self.response_fields[status] for status, model in models.items()})
        self.path_regex = _and_slashes(self.path_regex)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses other methods, and names those of the path (RFC 9110 section 15.5.6) rather than the one of
        this route."""
        if scope["method"] not in (self.methods or ()):
            raise HTTPException(405, headers={"Allow": ", ".join(_methods_at(scope, self.path))})
        await super().handle(scope, receive, send)

    def refusal(self, request: Request, error: AuthError) -> Response:
        """The answer to a refusal."""
        return error_response(error, request, auth_of(request))

    def invalid(self, request: Request, errors: Sequence[Any]) -> Response:
        """The answer to a request that is not valid."""
        return validation_response(errors)

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # FastAPI only awaits it
        """Wraps FastAPI's handler."""
        handle = super().get_route_handler()
        reads_body = self.methods != {"GET"}

        async def handler(request: Request) -> Response:
            received = 0

            async def receive() -> Message:
                nonlocal received
                with deadline_paused():  # the client may take its time
                    message = await request.receive()
                received += len(message.get("body", b""))
                if received > MAXIMUM_BODY_BYTES:
                    raise HTTPException(413)
                return message

            use_default(request)
            auth = auth_of(request)
            note_origin(request, auth)
            with collect_mails() as mails:
                try:
                    work = handle(Request(request.scope, receive) if reads_body else request)
                    response = await auth.with_deadline(work)
                except AuthError as error:
                    response = self.refusal(request, error)
                except RequestValidationError as error:
                    response = self.invalid(request, error.errors())
                except HTTPException as error:
                    if error.status_code != 400:
                        raise
                    # FastAPI's answer to a body that is not text; one that is not JSON is 422 already.
                    response = self.invalid(request, [UNREADABLE_BODY])
            if mails:
                deliver = partial(auth.dispatcher.after_response, mails)
                _then(response, BackgroundTask(auth.autonomous.after_answer, deliver))
            # As they are: `response.headers` would be built for this alone, in 3 us.
            if b"cache-control" not in dict(response.raw_headers):
                response.raw_headers.append((b"cache-control", b"no-store"))
            return response

        return handler


def _then(response: Response, task: BackgroundTask) -> None:
    """Runs the task after the response and whatever else waits for it."""
    first = response.background
    response.background = task if first is None else BackgroundTasks([first, task])
