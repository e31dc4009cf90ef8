"""Routes that answer browsers with pages, and send them on where something has to come first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from ...dependencies import CurrentAuth
from ...errors import AuthError, ErrorCode
from ...http.addresses import address_of, sign_in_page, wanted, way_on
from ...http.browsers import is_browser
from ...http.route import AuthRoute
from ...lookup import auth_of
from .forms import problem_of
from .rendering import render_page, see_other


def back_to(page: str) -> Callable[..., Awaitable[Response]]:
    """What a GET answers where forms of a page post to: a browser that opens the address again, or comes back
    from the page that confirms the password, is sent to the page, and keeps `next` and the notice."""

    async def go_back(auth: CurrentAuth, request: Request) -> Response:
        return see_other(auth, request, page, notice=request.query_params.get("notice"), next=wanted(request))

    return go_back


class PageRoute(AuthRoute):
    """A route of the library whose refusals are pages, where a browser asks."""

    def refusal(self, request: Request, error: AuthError) -> Response:
        """The page where to put it right, or one that says so."""
        if not is_browser(request):
            return super().refusal(request, error)
        auth, code = auth_of(request), error.code
        if code in (ErrorCode.NOT_AUTHENTICATED, ErrorCode.INVALID_TOKEN):
            return RedirectResponse(sign_in_page(request, auth), 303, {"Referrer-Policy": "no-referrer"})
        if code in (ErrorCode.REAUTHENTICATION_REQUIRED, ErrorCode.STEP_UP_REQUIRED):
            return see_other(auth, request, "confirm-password", next=address_of(request))
        if code is ErrorCode.TWO_FACTOR_ENROLMENT_REQUIRED:
            return see_other(auth, request, "security", notice="two_factor_needed", next=way_on(request))
        return render_page(
            auth, request, "error", code=code.code, problem=problem_of(error), next=wanted(request)
        )

    def invalid(self, request: Request, errors: Sequence[Any]) -> Response:
        """The page that says so, and nothing of what was sent."""
        if not is_browser(request):
            return super().invalid(request, errors)
        return self.refusal(request, AuthError(ErrorCode.VALIDATION_ERROR))
