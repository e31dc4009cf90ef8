"""The address at which password managers look for the page that changes a password.

See https://www.w3.org/TR/change-password-url/."""

from __future__ import annotations

from fastapi import Request, Response
from starlette.routing import Match
from starlette.types import Scope

from ...dependencies import CurrentAuth
from ...http.route import AuthRoute
from ..router import AuthRouter
from .rendering import see_other

NAME = "change-password"
NOTHING = "resource-that-should-not-exist-whose-status-code-should-not-be-200"
"""By which programs tell, at the same place, an app that answers everything."""


class GivingWay(AuthRoute):
    """Leaves its path to a route of the app for it, also to one that was added later."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Not where another route is for this path, rather than for any."""
        match, child = super().matches(scope)
        if match is Match.NONE:
            return match, child
        nothing = {**scope, "path": scope["path"].replace(NAME, NOTHING)}
        others = [route for route in scope["app"].routes if route is not self]
        if any(_has(route, scope) and not _has(route, nothing) for route in others):
            return Match.NONE, {}
        return match, child


def _has(route: object, scope: Scope) -> bool:
    return bool(route.matches(scope)[0] is Match.FULL)  # type: ignore[attr-defined]  # as every route


router = AuthRouter(
    prefix="/.well-known", tags=["account pages"], route_class=GivingWay, include_in_schema=False
)


@router.get("/" + NAME, name="change_password_page")
async def change_password_page(auth: CurrentAuth, request: Request) -> Response:
    """Leads to the form."""
    return see_other(auth, request, "profile")
