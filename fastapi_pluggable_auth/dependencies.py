"""What a host app puts into `Depends()`."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Any, Final, cast
from urllib.parse import quote, urlencode

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from .auth import Auth
from .config import settings
from .cookies import authenticate_cookies, authenticates_by_cookie, check_request, wants_cookies
from .database import bounded, database_errors
from .errors import AuthError, ErrorCode
from .events import EventKind, Observation, Origin, Outcome, origin
from .flows.sessions import Authentication, authenticate, require_recent_login
from .flows.throttle import count_request
from .models import User
from .security.csrf import SAFE_METHODS
from .security.proxies import client_address, counted_network
from .security.redirects import safe_next

STATE_ATTRIBUTE: Final = "pluggable_auth"
"""Where `include_auth` keeps the app's `Auth` on `app.state`."""

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\xa0-\xff]")

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="Access token",
    bearerFormat="JWT",
    description="The `access_token` that `POST /auth/login` returns. Browsers may have it in a cookie.",
)


@cache
def _default_auth() -> Auth:
    """For routers that were mounted by hand, without `include_auth`."""
    return Auth(settings)


def auth_of(request: Request) -> Auth:
    """The `Auth` of the app that serves this request."""
    auth: Auth | None = getattr(request.app.state, STATE_ATTRIBUTE, None)
    return auth or _default_auth()


async def get_auth(request: Request) -> Auth:
    """The same as a dependency; async, as FastAPI sends others through a thread."""
    return auth_of(request)


CurrentAuth = Annotated[Auth, Depends(get_auth)]
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def note_origin(request: Request, auth: Auth) -> Origin:
    """Where the request comes from; the events of this request carry it from here on."""
    peer = request.client.host if request.client else ""
    forwarded = request.headers.getlist("x-forwarded-for")
    address = client_address(peer, forwarded, auth.settings.trusted_proxies)
    noted = Origin(_printable(address, 45), _printable(request.headers.get("user-agent", ""), 255))
    origin.set(noted)
    return noted


def _printable(text: str, length: int) -> str:
    return _UNPRINTABLE.sub("?", text)[:length]


def _access_token(request: Request, credentials: HTTPAuthorizationCredentials | None) -> str:
    if len(request.headers.getlist("authorization")) > 1:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    if credentials is None:
        raise AuthError(ErrorCode.NOT_AUTHENTICATED)
    return credentials.credentials


async def get_authentication(
    request: Request, auth: CurrentAuth, credentials: _Credentials
) -> Authentication:
    """The user with the session that asks. Raises `AuthError`: 401 NOT_AUTHENTICATED without an access token,
    401 INVALID_TOKEN when it or its session is not valid (RFC 6750 section 3), 403
    TWO_FACTOR_ENROLMENT_REQUIRED for a user who has to set up two-factor first."""
    authentication = await get_enrolling_authentication(request, auth, credentials)
    if auth.lacks_two_factor(authentication.user):
        raise AuthError(ErrorCode.TWO_FACTOR_ENROLMENT_REQUIRED)
    return authentication


async def get_enrolling_authentication(
    request: Request, auth: CurrentAuth, credentials: _Credentials
) -> Authentication:
    """Like `get_authentication`, also for a user who has yet to set up a required two-factor."""
    return await _authenticate(request, auth, credentials, allow_ended=False)


async def get_ended_authentication(
    request: Request, auth: CurrentAuth, credentials: _Credentials
) -> Authentication:
    """Like `get_enrolling_authentication`, also for a session that has ended: a logout may be repeated."""
    return await _authenticate(request, auth, credentials, allow_ended=True)


async def _authenticate(
    request: Request, auth: Auth, credentials: HTTPAuthorizationCredentials | None, *, allow_ended: bool
) -> Authentication:
    note_origin(request, auth)
    token = None if authenticates_by_cookie(request) else _access_token(request, credentials)
    if token is None and request.method not in SAFE_METHODS:
        await check_request(request)
    with database_errors():
        try:
            if token is None:
                work = authenticate_cookies(request, auth, allow_ended=allow_ended)
            else:
                work = authenticate(auth, token, allow_ended=allow_ended)
            return await bounded(work, auth.settings.database_timeout)
        except AuthError as error:
            reason = error.code.code
            await auth.events.emit(EventKind.ACCESS, Outcome.FAILURE, Observation(), reason=reason)
            raise


async def check_cookie_setting(request: Request) -> None:
    """For routes that give a browser cookies: nobody is signed in by a page that is not the app's. Raises
    `AuthError`, answered as 403 CSRF_REFUSED."""
    if wants_cookies(request):
        await check_request(request)


def rate_limited(rule: str) -> Any:
    """A dependency that counts requests to a route by client, where limits are on. Raises `AuthError`,
    answered as 429 RATE_LIMITED with `Retry-After`."""

    async def count(request: Request, auth: CurrentAuth) -> None:
        await count_by_client(request, auth, rule)

    return Depends(count)


async def count_by_client(request: Request, auth: Auth, rule: str) -> None:
    """The same for a part of a route."""
    if auth.limiter.rates(rule):
        client = counted_network(note_origin(request, auth).address)
        with database_errors():
            await count_request(auth, rule, client)


EnrollingAuthentication = Annotated[Authentication, Depends(get_enrolling_authentication)]
CurrentAuthentication = Annotated[Authentication, Depends(get_authentication)]


async def get_current_user(authentication: CurrentAuthentication) -> User:
    """The user who asks, read from the database for this request; raises like `get_authentication`."""
    return cast(User, authentication.user)


async def get_recent_user(auth: CurrentAuth, authentication: CurrentAuthentication) -> User:
    """Like `get_current_user`, for sensitive routes: raises `AuthError`, answered as 403
    REAUTHENTICATION_REQUIRED, when the login is older than `reauth_ttl` (ASVS 7.5.3)."""
    require_recent_login(auth, authentication)
    return cast(User, authentication.user)


class SignInRequired(Exception):
    """Whoever asks has to sign in first, on a page: `location`."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


async def current_user_or_redirect(request: Request, auth: CurrentAuth, credentials: _Credentials) -> User:
    """Like `get_current_user`, for pages: whoever is not signed in is sent to the sign-in page (303), which
    leads back with its parameter `next`; and whoever has to set up two-factor first to the page for it, where
    there is one."""
    try:
        authentication = await get_authentication(request, auth, credentials)
    except AuthError as error:
        if error.code in (ErrorCode.NOT_AUTHENTICATED, ErrorCode.INVALID_TOKEN):
            raise SignInRequired(sign_in_page(request, auth)) from error
        if error.code is ErrorCode.TWO_FACTOR_ENROLMENT_REQUIRED and auth.pages:
            raise SignInRequired(account_path(request, auth, "security")) from error
        raise
    return cast(User, authentication.user)


def path_of(request: Request) -> str:
    """The path of the request as the browser sees it, percent-encoded."""
    root, path = request.scope.get("root_path", ""), request.scope["path"]
    return quote(path if path.startswith(root) else root + path)


def account_path(request: Request, auth: Auth, page: str) -> str:
    """The path of an account page, as the browser sees it."""
    return f"{request.scope.get('root_path', '')}{auth.settings.route_prefix}/account/{page}"


def sign_in_page(request: Request, auth: Auth) -> str:
    """The address of the sign-in page, which leads back to this one."""
    path = path_of(request)
    page = auth.settings.sign_in_url or account_path(request, auth, "sign-in")
    query = request.scope["query_string"].decode("latin-1")
    back = safe_next(f"{path}?{query}" if query else path)
    if back is None or request.method not in SAFE_METHODS:
        return page
    return f"{page}{'&' if '?' in page else '?'}{urlencode({'next': back})}"


CurrentUser = Annotated[User, Depends(get_current_user)]
PageUser = Annotated[User, Depends(current_user_or_redirect)]
RecentUser = Annotated[User, Depends(get_recent_user)]
