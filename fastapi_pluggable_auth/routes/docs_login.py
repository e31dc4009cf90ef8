"""What the button "Authorize" of `/docs` sends its form to: OAuth's password grant (RFC 6749 section 4.3).
Only where users reach the app on this machine."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError

from ..dependencies import CurrentAuth
from ..errors import AuthError
from ..flows import login as login_flow
from ..http.cookies import seconds_until
from ..http.rates import rate_limited
from ..http.route import AuthRoute
from ..schemas import LoginData, Text, taken
from ..security.jwt import Transport
from ..security.plaintext import Plaintext
from .bodies import own_body
from .pages.forms import Secret, code_from
from .router import AuthRouter

PATH: Final = "/auth/docs-login"


class GrantRoute(AuthRoute):
    """Refuses as OAuth does (RFC 6749 section 5.2): `/docs` shows the sentence."""

    def refusal(self, request: Request, error: AuthError) -> Response:
        """Says why."""
        status = 400 if error.code.status in (401, 403) else error.code.status
        headers = {name: value for name, value in error.headers.items() if name == "Retry-After"}
        return _refused("invalid_grant", error.detail, status, headers)

    def invalid(self, request: Request, errors: Sequence[Any]) -> Response:
        """Says that the form is not valid, and nothing of what was sent."""
        return _refused("invalid_request", "The username, the password or the code is not valid.", 400, {})


router = AuthRouter(tags=["auth"], route_class=GrantRoute, include_in_schema=False)


class PasswordGrant(BaseModel):
    """The form; what else OAuth has in it is not looked at."""

    username: Text = ""
    password: Secret
    client_secret: Secret


@router.post(PATH, dependencies=[rate_limited("login")])
async def docs_login(
    auth: CurrentAuth, request: Request, form: Annotated[PasswordGrant, Form()]
) -> dict[str, Any]:
    """A login like that with JSON, in a session of its own. A two-factor code stands in the place of the
    client's secret, which there is not."""
    try:
        body = own_body(LoginData, auth.bodies)(
            email=form.username, password=form.password.take(), code=_code_in(request, form)
        )
    except ValidationError:
        raise RequestValidationError([]) from None
    password, code = taken(body, "password"), body.code and taken(body, "code")
    tokens = await login_flow.login(auth, body.email, password, code, None, transport=Transport.BEARER)
    return {
        "access_token": tokens.access_token,
        "token_type": "bearer",
        "expires_in": seconds_until(auth, tokens.access_expires_at),
    }


def _code_in(request: Request, form: PasswordGrant) -> str | None:
    """The code, in the form or in the header (RFC 6749 section 2.3.1), as one chooses in `/docs`."""
    typed = code_from(form.client_secret)
    if typed is not None:
        return typed
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return code_from(Plaintext(b64decode(value).decode("ascii").partition(":")[2]))
    except (binascii.Error, UnicodeDecodeError):
        return None


def _refused(error: str, description: str, status: int, headers: dict[str, str]) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status, headers)
