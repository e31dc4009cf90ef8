"""What the OpenAPI document of an app says beside what FastAPI makes of its routes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI, routing
from fastapi.dependencies.models import Dependant

from .auth import Auth
from .dependencies import SCHEME, SignedIn
from .errors import AuthError, ErrorCode
from .http.responses import documented
from .http.route import AuthRoute
from .http.stack import HANDLERS
from .lookup import mounted
from .schemas import Error
from .security.csrf import SAFE_METHODS

_REFUSALS: Final = (401, 403)
"""What routes of the host answer to whom they do not let in."""

_ERROR: Final = Error.model_json_schema()

_LOGIN: Final = "Auth-Login"
"""The security scheme of the form behind "Authorize"."""

_LOGIN_FORM: Final = (
    "Signs in with an address (or username) and password, on this machine only: where `PUBLIC_BASE_URL` is "
    "another, there is no such form. With two-factor active, type the code of the authenticator app into "
    "`client_secret`; leave `client_id` empty."
)


class Document:
    """Completes the OpenAPI document that `describe` gives: what is said there stays.

    - The tags of our routes have a description, `tags` by name.
    - Routes of the host that depend on the user have the responses 401 and 403, where the app leaves it to us
      to answer an `AuthError`.
    - Beside the access token stands the form at the address `login` that gives one, if there is one.
    """

    def __init__(
        self,
        app: FastAPI,
        auth: Auth,
        tags: Mapping[str, str],
        login: str | None,
        describe: Callable[[], dict[str, Any]],
    ) -> None:
        self._app = app
        self.auth = auth
        self._tags = tags
        self._login = login
        self.describe = describe
        self._complete: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        """The document."""
        document = self.describe()
        if document is not self._complete:  # FastAPI keeps it until routes are added
            self._describe_tags(document)
            if self._app.exception_handlers.get(AuthError) is HANDLERS[AuthError]:
                self._describe_refusals(document)
            if self._login is not None:
                self._describe_login(document, self._login)
            self._complete = document
        return document

    def _describe_tags(self, document: dict[str, Any]) -> None:
        said = document.get("tags", [])
        known = {tag["name"] for tag in said}
        used = dict.fromkeys(
            str(tag)
            for route in _routes(self._app)
            if isinstance(route, AuthRoute) and route.include_in_schema
            for tag in route.tags
        )
        more = [
            {"name": tag, "description": self._tags[tag]} for tag in used if tag in self._tags.keys() - known
        ]
        if more:
            document["tags"] = [*said, *more]

    def _describe_refusals(self, document: dict[str, Any]) -> None:
        for method, operation, dependencies in self._depending(document):
            codes = [code for each in dependencies for code in self._codes_of(each, method)]
            if any(SCHEME in each and each[SCHEME] for each in operation.get("security", ())):
                codes.append(ErrorCode.INSUFFICIENT_SCOPE)
            refusals = documented(*codes)
            for status in _REFUSALS:
                if status in refusals:
                    said = operation.setdefault("responses", {}).setdefault(str(status), {})
                    said.setdefault("description", refusals[status]["description"])
                    said.setdefault("content", {"application/json": {"schema": _reference(document)}})

    @staticmethod
    def _describe_login(document: dict[str, Any], address: str) -> None:
        schemes = document.get("components", {}).get("securitySchemes", {})
        if SCHEME not in schemes:
            return
        flow = {"tokenUrl": address, "scopes": {}}
        schemes[_LOGIN] = {"type": "oauth2", "description": _LOGIN_FORM, "flows": {"password": flow}}
        for operations in document.get("paths", {}).values():
            for operation in operations.values():
                ways = operation.get("security", []) if isinstance(operation, dict) else []
                if any(SCHEME in way for way in ways) and {_LOGIN: []} not in ways:
                    ways.append({_LOGIN: []})

    def _depending(
        self, document: dict[str, Any]
    ) -> Iterator[tuple[str, dict[str, Any], list[SignedIn[Any]]]]:
        """The operations of the host's routes that depend on the user, each with its method and what it
        depends on."""
        for route in _routes(self._app):
            dependant: Dependant | None = getattr(route, "dependant", None)
            if dependant is None or isinstance(route, AuthRoute):
                continue
            dependencies = [*_dependencies_of(dependant)]
            operations = document.get("paths", {}).get(route.path_format, {})
            for method in route.methods or () if dependencies else ():
                if method.lower() in operations:
                    yield method, operations[method.lower()], dependencies

    def _codes_of(self, dependency: SignedIn[Any], method: str) -> Iterator[ErrorCode]:
        if dependency.is_must:
            yield ErrorCode.NOT_AUTHENTICATED
        yield ErrorCode.INVALID_TOKEN
        if self.auth.uses_cookies:
            yield ErrorCode.REFRESH_RACED
            if method not in SAFE_METHODS:
                yield ErrorCode.CSRF_REFUSED
        for demand in dependency.demands:
            yield from demand.codes


def complete_document(app: FastAPI, auth: Auth, tags: Mapping[str, str], login: str | None) -> None:
    """Has `app.openapi()` give a complete document, as FastAPI has it for documents that an app extends; also
    where the host has put a function of its own there. Called again, it does what is left to do: for such a
    function that came later, and for apps that were mounted since and have no `Auth` themselves."""
    for each in (app, *(other for other in mounted(app.routes) if isinstance(other, FastAPI))):
        describe = each.openapi
        if isinstance(describe, Document):
            if each is not app or describe.auth is auth:
                continue
            describe = describe.describe  # that of the app above, which was there before
        each.openapi = Document(each, auth, tags, login, describe)  # type: ignore[method-assign]  # FastAPI's way


def _routes(app: FastAPI) -> Iterable[Any]:
    """Also those of included routers, with what these add to them."""
    # Before FastAPI had it, including a router copied its routes.
    contexts = getattr(routing, "iter_route_contexts", None)
    if contexts is None:
        return app.routes
    return (
        context.original_route if isinstance(context.original_route, AuthRoute) else context
        for context in contexts(app.routes)
        if isinstance(context.original_route, routing.APIRoute)
    )


def _dependencies_of(dependant: Dependant) -> Iterator[SignedIn[Any]]:
    for each in dependant.dependencies:
        if isinstance(each.call, SignedIn):
            yield each.call
        yield from _dependencies_of(each)


def _reference(document: dict[str, Any]) -> dict[str, str]:
    """The body of errors, by reference."""
    name: str = _ERROR["title"]
    document.setdefault("components", {}).setdefault("schemas", {}).setdefault(name, _ERROR)
    return {"$ref": f"#/components/schemas/{name}"}
