"""What an app learns of a user who has signed in to it (OpenID Connect Core section 5.3)."""

from __future__ import annotations

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from ...dependencies import CurrentAuth
from ...errors import AuthError
from ...http.rates import rate_limited
from ...routes.router import AuthRouter
from ...security.bearer import bearer_tokens
from .openid import OPENID, claims_of
from .protocol import ProtocolError
from .protocol_routes import OpenProtocolRoute, opened, preflight
from .tokens import is_access_token, row_of_token

router = AuthRouter(
    prefix="/oauth/userinfo",
    tags=["oauth"],
    route_class=OpenProtocolRoute,
    include_in_schema=False,
    dependencies=[rate_limited("oauth_token")],
)


@router.post("", name="oauth_userinfo_post")
@router.get("", name="oauth_userinfo")
async def oauth_userinfo(auth: CurrentAuth, request: Request) -> Response:
    """The claims of the scopes of the token, as they are now."""
    work = row_of_token(auth, _token(request))
    try:
        found = await auth.with_deadline(work)
    except AuthError as error:
        raise _refused(error) from error
    if OPENID not in found["scopes"]:
        raise AuthError(ProtocolError.INSUFFICIENT_SCOPE)
    claims = claims_of(auth, found["user"], found["scopes"])
    return opened(JSONResponse(claims, headers={"Cache-Control": "no-store"}))


def _token(request: Request) -> str:
    """The one of the header. Raises `AuthError(ProtocolError.INVALID_TOKEN)` where there is none, or none of
    this server."""
    tokens = bearer_tokens(request.headers.getlist("authorization"))
    if len(tokens) != 1 or not is_access_token(tokens[0]):
        raise AuthError(ProtocolError.INVALID_TOKEN)
    return tokens[0]


def _refused(error: AuthError) -> AuthError:
    return AuthError(ProtocolError.INVALID_TOKEN) if error.code.status == 401 else error


preflights = AuthRouter(prefix="/oauth/userinfo", tags=["oauth"], include_in_schema=False)
preflights.options("", name="oauth_userinfo_preflight")(preflight)
