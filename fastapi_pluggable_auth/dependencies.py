"""What a host app puts into `Depends()`."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Final, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from .auth import Auth
from .config import settings
from .database import database_errors
from .errors import AuthError, ErrorCode
from .flows.sessions import Authentication, authenticate
from .models import User

STATE_ATTRIBUTE: Final = "pluggable_auth"
"""Where `include_auth` keeps the app's `Auth` on `app.state`."""

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="Access token",
    bearerFormat="JWT",
    description="The `access_token` that `POST /auth/login` returns.",
)


@cache
def _default_auth() -> Auth:
    """For routers that were mounted by hand, without `include_auth`."""
    return Auth(settings)


def get_auth(request: Request) -> Auth:
    """The `Auth` of the app that serves this request."""
    auth: Auth | None = getattr(request.app.state, STATE_ATTRIBUTE, None)
    return auth or _default_auth()


CurrentAuth = Annotated[Auth, Depends(get_auth)]
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def _access_token(request: Request, credentials: HTTPAuthorizationCredentials | None) -> str:
    if len(request.headers.getlist("authorization")) > 1:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    if credentials is None:
        raise AuthError(ErrorCode.NOT_AUTHENTICATED)
    return credentials.credentials


async def get_authentication(
    request: Request, auth: CurrentAuth, credentials: _Credentials
) -> Authentication:
    """The user with the session that asks. Raises `AuthError`, answered as 401: NOT_AUTHENTICATED without
    an access token, INVALID_TOKEN when it or its session is not valid (RFC 6750 section 3)."""
    token = _access_token(request, credentials)
    with database_errors():
        return await authenticate(auth, token)


async def get_ended_authentication(
    request: Request, auth: CurrentAuth, credentials: _Credentials
) -> Authentication:
    """Like `get_authentication`, also for a session that has ended: a logout may be repeated."""
    token = _access_token(request, credentials)
    with database_errors():
        return await authenticate(auth, token, allow_ended=True)


CurrentAuthentication = Annotated[Authentication, Depends(get_authentication)]


async def get_current_user(authentication: CurrentAuthentication) -> User:
    """The user who asks, read from the database for this request; raises like `get_authentication`."""
    return cast(User, authentication.user)


CurrentUser = Annotated[User, Depends(get_current_user)]
