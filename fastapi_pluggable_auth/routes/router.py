"""The routers of the library."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from fastapi import APIRouter
from fastapi.datastructures import Default
from fastapi.responses import JSONResponse
from starlette.routing import BaseRoute, Match, compile_path
from starlette.types import Receive, Scope, Send

from ..http.responses import documented, merged_responses
from ..http.route import AuthRoute, without_slashes
from .bodies import Bodies, own_body, refusals_of, with_bodies

_PARAMETER: Final = re.compile(r"\{\w+\}")


class AuthRouter(APIRouter):
    """Routes that are made for each app, from the same definitions. `about` is what the OpenAPI document
    says of the router's tags; one that is `at_root` has no prefix of the app in front. An `operation_id`
    of a route is its name there, whatever the prefixes, unless the app makes ids of its own
    (`generate_unique_id_function`)."""

    def __init__(
        self,
        *,
        about: str = "",
        at_root: bool = False,
        route_class: type[AuthRoute] = AuthRoute,
        **options: Any,
    ) -> None:
        self.about = about
        self._at_root = at_root
        self._definitions: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []
        self._made = APIRouter()
        # Named, as mounted by hand they would else answer as the app around them does, which may be in HTML.
        super().__init__(route_class=route_class, default_response_class=JSONResponse, **options)

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Defines a route."""
        self._definitions.append((path, endpoint, options))

    def add_to(self, router: APIRouter, prefix: str = "", bodies: Bodies | None = None) -> None:
        """Makes the routes, with these bodies, some of the other router itself: FastAPI takes 35 us at every
        request to find one that was included."""
        for path, endpoint, options in self._definitions:
            own = {
                **options,
                "tags": [*self.tags, *(options["tags"] or ())],
                "dependencies": [*self.dependencies, *(options["dependencies"] or ())],
                "responses": merged_responses(self.responses, options["responses"] or {}),
                "include_in_schema": self.include_in_schema and options["include_in_schema"],
                "route_class_override": self.route_class,
            }
            operation_id = own.pop("operation_id", None)
            if operation_id is not None and router is not self._made:
                # What FastAPI takes where the app says nothing itself.
                own["generate_unique_id_function"] = Default(lambda _, made=operation_id: made)
            if bodies:
                endpoint = with_bodies(endpoint, bodies)
                own["response_model"] = own_body(own["response_model"], bodies)
                if codes := refusals_of(endpoint):
                    own["responses"] = merged_responses(own["responses"], documented(*codes))
            router.add_api_route(self._before(prefix) + path, endpoint, **own)

    def _before(self, prefix: str) -> str:
        return self.prefix if self._at_root else prefix + self.prefix

    def hidden_by(self, earlier: Sequence[BaseRoute], prefix: str) -> list[str]:
        """The routes that no request would reach, as these earlier routes of the app answer at their
        addresses."""
        hidden = []
        for path, _, options in self._definitions:
            address = f"{self._before(prefix)}{path}"
            for method in options["methods"] or ["GET"]:
                scope = {"type": "http", "method": method, "path": _PARAMETER.sub("0", address)}
                if any(route.matches({**scope, "root_path": ""})[0] is Match.FULL for route in earlier):
                    hidden.append(f"{method} {address}")
        return hidden

    def require_room_for(self, later: AuthRouter, owner: str) -> None:
        """Raises `ValueError` where a route of the later router has an address of this one: no request would
        ever get there."""
        for path, _, options in self._definitions:
            regex, _, _ = compile_path(self.prefix + path)
            for other, _, theirs in later._definitions:
                methods = set(options["methods"] or ["GET"]) & set(theirs["methods"] or ["GET"])
                if methods and regex.match(later.prefix + other):
                    address = f"{min(methods)} {later.prefix}{other}"
                    raise ValueError(
                        f"{address} of {owner} is never reached: {self.prefix}{path} comes first."
                    )

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a router that is mounted by hand has this path: FastAPI makes its own
        regular expressions for those, without slashes at the end."""
        return super().matches(without_slashes(scope))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers for one."""
        await super().handle(without_slashes(scope), receive, send)

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes of a router that is mounted by hand, which may be more than once in an app: their ids
        in the OpenAPI document are made of their paths."""
        if not self._made.routes:
            self.add_to(self._made)
        return self._made.routes

    @routes.setter
    def routes(self, routes: Sequence[BaseRoute]) -> None:
        """What Starlette starts with is empty."""
