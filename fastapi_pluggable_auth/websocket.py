"""Who opens a WebSocket (RFC 6455), and whether that user still is signed in."""

from __future__ import annotations

from typing import Annotated, Final, cast

from fastapi import Depends, WebSocket, WebSocketException
from fastapi.security import SecurityScopes
from starlette.requests import HTTPConnection
from starlette.status import WS_1008_POLICY_VIOLATION, WS_1013_TRY_AGAIN_LATER

from .auth import Auth
from .dependencies import NO_SCOPES, access_token
from .errors import AuthError, ErrorCode
from .events import EventKind, Observation, Outcome
from .flows.authentication import Authentication, authenticate, authenticate_session, require_enrolled
from .http.cookies import sends_token
from .http.demands import ENROLLED, scopes_demanded
from .http.origin import note_origin
from .lookup import auth_of
from .models.user import U
from .security.cookies import Cookies, received_cookie
from .security.csrf import from_trusted_page
from .security.jwt import Transport
from .security.plaintext import Plaintext

SUBPROTOCOL: Final = "bearer"
"""What a page offers in front of its access token, as it can send no header."""

_SCOPE_KEY: Final = "fastapi_pluggable_auth.websocket"


async def get_websocket_user(websocket: HTTPConnection, asked: SecurityScopes = NO_SCOPES) -> U:
    """The user who opens a WebSocket: by the header `Authorization`, by the pair of subprotocols `bearer` and
    an access token, or, where the app uses cookies, by the cookie and an `Origin` of the app. Never by the
    address, which is logged.

    Raises `WebSocketException` (1008; 1013 without a database), whose reason is the code of the refusal. That
    is before the app accepts: the client gets a 403.
    """
    if websocket.scope["type"] != "websocket":
        raise RuntimeError("This dependency is for WebSockets: on an HTTP route take CurrentUser.")
    auth = auth_of(websocket)
    note_origin(websocket, auth)
    try:
        token, transport = _token(websocket, auth)
        work = authenticate(auth, token.look(), transport=transport)
        authentication = await auth.with_deadline(work)
        for demand in (ENROLLED, *scopes_demanded(asked.scopes)):
            demand(auth, authentication)
    except AuthError as error:
        down = error.code.status == 503
        if not down:
            reason = error.code.code
            await auth.events.emit(EventKind.ACCESS, Outcome.FAILURE, Observation(), reason=reason)
        code = WS_1013_TRY_AGAIN_LATER if down else WS_1008_POLICY_VIOLATION
        raise WebSocketException(code, error.code.code) from error
    websocket.scope[_SCOPE_KEY] = token, transport, authentication
    return cast(U, authentication.user)


CurrentWebSocketUser = Annotated[U, Depends(get_websocket_user)]


async def still_signed_in(websocket: WebSocket) -> bool:
    """Whether the session of `get_websocket_user` has not ended meanwhile, in one query: for sockets that
    stay open. A session outlives its access token; a token without session counts until it expires.

    Raises `AuthError`, such as DATABASE_UNAVAILABLE.
    """
    auth = auth_of(websocket)
    shown: tuple[Plaintext, Transport, Authentication] = websocket.scope[_SCOPE_KEY]
    token, transport, before = shown
    if before.session_id is None:
        again = authenticate(auth, token.look(), transport=transport)
    else:
        again = authenticate_session(auth, before.user.id, before.session_id, before.gen)
    try:
        require_enrolled(auth, await auth.with_deadline(again))
    except AuthError as error:
        if error.code.status in (401, 403):
            return False
        raise
    return True


def _token(websocket: HTTPConnection, auth: Auth) -> tuple[Plaintext, Transport]:
    if sends_token(websocket):
        return Plaintext(access_token(websocket)), Transport.BEARER
    offered: list[str] = websocket.scope.get("subprotocols") or []
    if SUBPROTOCOL in offered[:-1]:
        return Plaintext(offered[offered.index(SUBPROTOCOL) + 1]), Transport.BEARER
    name = Cookies(secure=auth.settings.is_https).access
    cookie = received_cookie(websocket.scope["headers"], name)
    if cookie is None or not auth.uses_cookies:
        raise AuthError(ErrorCode.NOT_AUTHENTICATED)
    fetch_site, origins = (websocket.headers.getlist(name) for name in ("sec-fetch-site", "origin"))
    if not from_trusted_page(fetch_site, origins, auth.settings.page_origins):
        raise AuthError(ErrorCode.CSRF_REFUSED)
    return Plaintext(cookie), Transport.COOKIE
