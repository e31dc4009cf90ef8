"""What the routes for programs share: refusals as OAuth has them (RFC 6749 section 5.2), and answers that
pages of any origin may read, as no cookie has a part in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from ...errors import AuthError
from ...http.route import AuthRoute
from .protocol import ProtocolError

R = TypeVar("R", bound=Response)

_OPEN: Final = {"Access-Control-Allow-Origin": "*"}
_OF_TOKENS: Final = (ProtocolError.INVALID_TOKEN, ProtocolError.INSUFFICIENT_SCOPE)
"""What RFC 6750 section 3 has in a header."""
_PREFLIGHT: Final = {
    **_OPEN,
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, MCP-Protocol-Version",
    "Access-Control-Max-Age": "7200",
}
_UNSAID: Final = re.compile(r'[^ -~]|["\\]')
"""What is not in a description (RFC 6749 section 5.2)."""


def opened(response: R) -> R:
    """Lets pages of any origin read an answer."""
    response.headers.update(_OPEN)
    return response


async def preflight() -> Response:
    """Says so before a request that is not simple (Fetch section 3.3)."""
    return Response(status_code=204, headers=_PREFLIGHT)


class ProtocolRoute(AuthRoute):
    """A route for programs, which learn of refusals as OAuth has them."""

    def refusal(self, request: Request, error: AuthError) -> Response:
        """Says why; a client is shown the scheme of the header (RFC 6749 section 5.2)."""
        headers = {name: value for name, value in error.headers.items() if name == "Retry-After"}
        if error.code is ProtocolError.INVALID_CLIENT:
            headers["WWW-Authenticate"] = 'Basic realm="oauth"'
        if error.code in _OF_TOKENS:
            headers["WWW-Authenticate"] = f'Bearer error="{error.code.code}"'
        said = {"error": error.code.code, "error_description": _UNSAID.sub("?", error.detail)}
        return JSONResponse(said, error.code.status, headers)

    def invalid(self, request: Request, errors: Sequence[Any]) -> Response:
        """Says that the request is not valid, and nothing of what was sent."""
        return self.refusal(request, AuthError(ProtocolError.INVALID_REQUEST))


class OpenProtocolRoute(ProtocolRoute):
    """One whose answers pages of any origin may read."""

    def refusal(self, request: Request, error: AuthError) -> Response:
        """The same, for all."""
        return opened(super().refusal(request, error))
