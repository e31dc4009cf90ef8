"""Routes that answer browsers with pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response

from ...dependencies import auth_of
from ...errors import AuthError, ErrorCode
from ..base import AuthRoute
from .rendering import is_browser, render_page


class PageRoute(AuthRoute):
    """A route of the library whose refusals are pages, where a browser asks."""

    def refusal(self, request: Request, error: AuthError) -> Response:
        """The page that says so."""
        if not is_browser(request):
            return super().refusal(request, error)
        code = error.code
        response = render_page(auth_of(request), request, "error", code.status, code=code.code)
        response.headers.update(error.headers)
        return response

    def invalid(self, request: Request, errors: Sequence[Any]) -> Response:
        """The page that says so, and nothing of what was sent."""
        if not is_browser(request):
            return super().invalid(request, errors)
        return self.refusal(request, AuthError(ErrorCode.VALIDATION_ERROR))
