"""What all routes share: errors as JSON, mail after the response, answers that no cache keeps."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final, TypeAlias

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from ..database import uncounted
from ..dependencies import note_origin
from ..email.outbox import collect_mails
from ..errors import AuthError, Code, ErrorCode
from ..lookup import auth_of, use_default
from ..schemas import Error, ValidationFailure

Responses: TypeAlias = dict[int | str, dict[str, Any]]

SIGNED_IN: Final = (
    ErrorCode.NOT_AUTHENTICATED,
    ErrorCode.INVALID_TOKEN,
    ErrorCode.REFRESH_RACED,
    ErrorCode.CSRF_REFUSED,
    ErrorCode.TWO_FACTOR_ENROLMENT_REQUIRED,
)
"""How a route refuses whoever is not signed in, or only half."""

RECENT_LOGIN: Final = (ErrorCode.REAUTHENTICATION_REQUIRED, ErrorCode.IMPERSONATION_FORBIDDEN)
"""How a route refuses whose login is too long ago, or an administrator who acts as the user."""

EVERYWHERE: Final = (
    ErrorCode.DATABASE_UNAVAILABLE,
    ErrorCode.DATABASE_NOT_MIGRATED,
    ErrorCode.HOOK_UNAVAILABLE,
    ErrorCode.CHANGE_REFUSED,
)
"""How any route refuses where the database, or a hook, is not as it should be."""

UNREADABLE_BODY: Final = {"loc": ["body"], "msg": "Body cannot be read", "type": "body_unreadable"}

UNFIT_VALUE: Final = {"loc": ["body"], "msg": "Value does not fit", "type": "value_unfit"}

MAXIMUM_BODY_BYTES: Final = 2 * 1024 * 1024

_PREFETCHED: Final = frozenset({"sec-purpose", "purpose", "x-purpose"})
"""What says that nobody has asked for the page yet (Fetch section 3.8, and what came before it)."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}")


def is_browser(request: Request) -> bool:
    """Whether a person is looking: API clients do not ask for HTML."""
    return "text/html" in _all_of(request, "accept")


def asks_as_program(request: Request) -> bool:
    """Whether nothing in the headers is a browser's or a previewer's. What opens links in mails without being
    asked to (scanners, previews, prefetching) mostly looks like a browser."""
    headers = request.headers
    return not (
        is_browser(request)
        or "mozilla/" in _all_of(request, "user-agent")
        or any(name.startswith("sec-fetch-") or name in _PREFETCHED for name in headers)
    )


def wants_page(request: Request) -> bool:
    """Whether to answer with a page: to a browser that opens an address, and to what looks like one. A
    script's own request is answered with JSON."""
    if is_browser(request) or asks_as_program(request):
        return is_browser(request)
    accepted = _all_of(request, "accept")
    by_script = request.headers.get("sec-fetch-dest") == "empty"
    return not by_script and (not accepted or "*/*" in accepted)


def _all_of(request: Request, name: str) -> str:
    """A header, in lower case; sent twice, both count."""
    return ",".join(request.headers.getlist(name)).lower()


def error_response(error: AuthError) -> JSONResponse:
    """The JSON answer to a refusal."""
    if error.code is ErrorCode.VALIDATION_ERROR:
        where = ["body", error.field] if error.field else ["body"]
        return validation_response([{**UNFIT_VALUE, "loc": where}])
    return JSONResponse({"detail": error.detail, "code": error.code.code}, error.code.status, error.headers)


def validation_response(errors: Sequence[Any]) -> JSONResponse:
    """The JSON answer to a request that is not valid: places and reasons, never the input (ASVS 16.5.1)."""
    detail = [
        {"loc": [_harmless(part) for part in error["loc"]], "msg": error["msg"], "type": error["type"]}
        for error in errors
    ]
    code = ErrorCode.VALIDATION_ERROR
    return JSONResponse({"detail": detail, "code": code.code}, code.status)


def _harmless(part: str | int) -> str | int:
    """A field name; the name of an unknown field is input too and may be anything."""
    return part if isinstance(part, int) or _PLAIN_NAME.fullmatch(part) else "?"


def documented(*codes: Code) -> Responses:
    """The OpenAPI `responses` of a route that may refuse with these codes, and as every route does."""
    responses: Responses = {}
    for code in (*codes, *EVERYWHERE):
        model = ValidationFailure if code is ErrorCode.VALIDATION_ERROR else Error
        response = responses.setdefault(code.status, {"model": model, "description": ""})
        response["model"] |= model
        response["description"] = f"{response['description']}\n\n`{code.code}`: {code.detail}".strip()
    return responses


def joined(router: Responses, route: Responses) -> Responses:
    """The OpenAPI `responses` of a route with those of its router: where both have a status, the codes of
    both."""
    responses = {**router, **route}
    for status in router.keys() & route.keys():
        said = (router[status]["description"], route[status]["description"])
        codes = dict.fromkeys("\n\n".join(said).split("\n\n"))
        model = router[status]["model"] | route[status]["model"]
        responses[status] = {"model": model, "description": "\n\n".join(codes)}
    return responses


def _makes_json(response_class: object) -> bool:
    """Whether the app's `default_response_class` suits bodies that are JSON by contract. FastAPI's own is not
    a class, and does."""
    return not isinstance(response_class, type) or issubclass(response_class, JSONResponse)


def _and_slashes(path: re.Pattern[str]) -> re.Pattern[str]:
    """Matches the same path with slashes at its end as well, rather than let Starlette redirect from there to
    an address that it makes of the request's Host."""
    return re.compile(f"{path.pattern.removesuffix('$')}/*$")


def without_slashes(scope: Scope) -> Scope:
    """The scope of the same request without slashes at the end of its path."""
    path = scope["path"]
    return {**scope, "path": path.rstrip("/")} if path.endswith("/") else scope


class AuthRoute(APIRoute):
    """A route of the library."""

    _methods_of: ClassVar[defaultdict[str, set[str]]] = defaultdict(set)

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if not _makes_json(options.get("response_class")):
            del options["response_class"]
        if options.get("status_code") == 204:  # for which FastAPI before 0.122 makes a model of `-> None`
            options["response_model"] = None
        super().__init__(path, endpoint, **options)
        self.path_regex = _and_slashes(self.path_regex)
        self._methods_of[path] |= self.methods or set()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses other methods, and names those of the path (RFC 9110 section 15.5.6) rather than the one of
        this route."""
        allowed = self._methods_of[self.path]
        if scope["method"] not in (self.methods or ()):
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})
        await super().handle(scope, receive, send)

    def refusal(self, request: Request, error: AuthError) -> Response:
        """The answer to a refusal."""
        return error_response(error)

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
                with uncounted():  # the client may take its time
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
                    response = await auth.guarded(work)
                except AuthError as error:
                    response = self.refusal(request, error)
                except RequestValidationError as error:
                    response = self.invalid(request, error.errors())
                except HTTPException as error:
                    if error.status_code != 400:
                        raise
                    # FastAPI's answer to a body that is no text; one that is no JSON is 422 already.
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
