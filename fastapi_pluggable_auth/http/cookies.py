"""Tokens in cookies: what a browser sends, how it is checked, and what the response to it sets."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..auth import Auth
from ..errors import AuthError, ErrorCode
from ..flows.authentication import Authentication, authenticate
from ..flows.devices import Device
from ..flows.rotation import is_newest, rotate
from ..flows.session_tokens import TokenSet
from ..lookup import auth_of
from ..security.bearer import bearer_tokens
from ..security.cookies import Cookies, received_cookie, received_cookies
from ..security.csrf import (
    from_trusted_page,
)
from ..security.devices import DEVICE_LIFETIME
from ..security.jwt import TooEarlyError, Transport
from ..security.plaintext import Plaintext

CLEAR_SITE_DATA: Final = '"storage"'
"""Not `"cache"`, which keeps Chromium busy for seconds, nor `"cookies"`, those of the whole domain."""

_BINDING: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_BINDING_SECONDS: Final = 30 * 24 * 60 * 60
"""Longer than a link lives: a new one can be asked for."""

NEW: Final = timedelta(seconds=1)
"""How old tokens may be that are set without another look at them. Within the leeway no retry has replaced
them, yet another tab may have spent them."""

_SCOPE_KEY: Final = "fastapi_pluggable_auth.cookies"
_BY_AUTH: Final = "fastapi_pluggable_auth.cookies_by_auth"
"""By `Auth`: the answer to a mistake goes on with what its app has queued."""


@dataclass(slots=True)
class RequestCookies:
    """The cookies that the response to one request will set, by name, and what they mean for the rest of the
    request. It is there while the transport is on."""

    auth: Auth
    names: Cookies
    received: dict[str, list[str]] = field(repr=False)
    queued: dict[str, str] = field(default_factory=dict, repr=False)
    tokens: TokenSet | None = None
    ended: bool = False
    remember: bool | None = None
    visitor: str | None = None
    clear_site_data: bool = False

    def sent(self, name: str) -> str | None:
        """A token of the request, as long as this response does not replace it. Raises
        `AuthError(INVALID_TOKEN)` where there are two of that name: the other was set by another host of the
        domain. Neither is deleted, since only ours can be, and the browser would be left with the other."""
        values = () if self.ended or self.tokens else self.received.get(name, ())
        if len(values) > 1:
            raise AuthError(ErrorCode.INVALID_TOKEN)
        return values[0] if values else None

    @property
    def has_token(self) -> bool:
        """Whether the request has a cookie of ours that says who asks, good or not."""
        return self.names.access in self.received or self.names.refresh in self.received

    @property
    def remembers(self) -> bool:
        """Whether the browser keeps the tokens when it is closed: as its user has chosen at the sign-in,
        which a cookie beside them says."""
        chosen = self.remember
        return self.names.until_closed not in self.received if chosen is None else chosen

    async def withhold_old_tokens(self) -> None:
        """Sets no tokens that may have been replaced while the response was made: the browser has newer ones,
        or asks for them with those that it has."""
        if self.tokens is None:
            return
        age = self.auth.clock() - self.tokens.issued_at
        if age <= min(NEW, self.auth.settings.refresh_reuse_leeway):
            return
        try:
            newest = await self.auth.with_deadline(is_newest(self.auth, self.tokens))
        except AuthError:
            newest = False
        if not newest:
            for name in (self.names.access, self.names.refresh):
                self.queued.pop(name, None)

    def forget(self) -> None:
        """Queues the deletion of both tokens."""
        self.tokens, self.ended = None, True
        for name in (self.names.access, self.names.refresh):
            self.queued[name] = self.names.delete(name)
        if not self.remembers:
            self.queued[self.names.until_closed] = self.names.delete(self.names.until_closed)


class CookieMiddleware:
    """Turns the transport on, and writes the queued cookies on every response, also on those of the host."""

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self.app = app  # under this name, as FastAPI looks through the stack for instrumentation
        self._auth = auth
        self._cookies = Cookies(secure=auth.settings.is_https)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        by_auth: dict[Auth, RequestCookies] = scope.setdefault(_BY_AUTH, {})
        # Not in a variable: an error tracker would send it with this frame.
        cookies = by_auth.get(self._auth) or RequestCookies(
            self._auth, self._cookies, received_cookies(scope["headers"])
        )
        scope[_SCOPE_KEY] = by_auth[self._auth] = cookies

        async def send_with_cookies(message: Message) -> None:
            if cookies.queued and message["type"] == "http.response.start":
                await cookies.withhold_old_tokens()
                message.setdefault("headers", [])
                headers = MutableHeaders(scope=message)
                for cookie in cookies.queued.values():
                    headers.append("set-cookie", cookie)
                headers["cache-control"] = "no-store"  # also where the host lets others keep its answer
                if cookies.clear_site_data:
                    headers["clear-site-data"] = CLEAR_SITE_DATA
            await send(message)

        await self.app(scope, receive, send_with_cookies)


def request_cookies(request: Request) -> RequestCookies | None:
    """The cookies of this request, where its app has the transport on."""
    cookies: RequestCookies | None = request.scope.get(_SCOPE_KEY)
    if cookies is None or cookies.auth is not auth_of(request):
        return None  # that of the app above, whose cookies are not those of this one
    return cookies


def wants_cookies(request: Request) -> bool:
    """Whether a browser asks, and the transport is on. An app in a web view wants tokens, where the settings
    name its origin: no cookies go from there to this app."""
    cookies = request_cookies(request)
    if cookies is None or not _by_browser(request):
        return False
    settings, origins = cookies.auth.settings, request.headers.getlist("origin")
    wants_tokens = len(origins) == 1 and origins[0] in settings.token_origins
    return not wants_tokens or origins[0] in settings.page_origins


def _by_browser(request: Request) -> bool:
    """No script can leave out both headers."""
    return "sec-fetch-site" in request.headers or "origin" in request.headers


def signup_binding(request: Request, auth: Auth) -> str | None:
    """The random value of the browser that has signed up. It needs no transport: each app has signups."""
    name = Cookies(secure=auth.settings.is_https).signup
    value = received_cookie(request.scope["headers"], name) or ""
    return value if _BINDING.fullmatch(value) else None


def new_signup_binding(request: Request, auth: Auth, made: str | None = None) -> str | None:
    """The value for a signup, in one browser always the same, at first the one that is `made`; None where no
    browser asks, or where a page of another site does, which must not choose whose signups this browser
    verifies."""
    if not _by_browser(request) or request.headers.get("sec-fetch-site") == "cross-site":
        return None
    return signup_binding(request, auth) or made or secrets.token_urlsafe(32)


def bind_signup(response: Response, auth: Auth, value: str | None) -> None:
    """Sets the cookie of a signup, whether or not there is an account now."""
    if value is not None:
        names = Cookies(secure=auth.settings.is_https)
        response.headers.append("set-cookie", names.set(names.signup, value, _BINDING_SECONDS))


def sends_token(request: HTTPConnection) -> bool:
    """Whether the header `Authorization` says who asks, truly or not."""
    return bool(bearer_tokens(request.headers.getlist("authorization")))


def transport_for(request: Request) -> Transport:
    """How the answer to this request gives its client tokens."""
    return Transport.COOKIE if wants_cookies(request) else Transport.BEARER


def authenticates_by_cookie(request: Request) -> bool:
    """Whether cookies say who asks: there are some, and no header that says otherwise."""
    cookies = request_cookies(request)
    if cookies is None or sends_token(request):
        return False
    return cookies.tokens is not None or (cookies.has_token and not cookies.ended)


async def authenticate_cookies(request: Request, auth: Auth, *, allow_ended: bool) -> Authentication:
    """Who the cookies stand for. An access token that is missing or no longer good is renewed, once per
    request; cookies of a session that has ended are deleted, those that are not good yet are kept. Raises
    `AuthError`: INVALID_TOKEN, REFRESH_RACED."""
    cookies: RequestCookies = request.scope[_SCOPE_KEY]
    access = cookies.tokens.access_token if cookies.tokens else cookies.sent(cookies.names.access)
    renewable = cookies.sent(cookies.names.refresh) is not None
    if access is not None:
        authenticating = _authenticate(auth, access, allow_ended, confirm=cookies.tokens is None)
        del access  # an error tracker would send it with this frame
        try:
            return await authenticating
        except TooEarlyError:
            raise
        except AuthError:
            if not renewable:
                cookies.forget()
                raise
    tokens = await renew_cookies(request, auth)
    return await _authenticate(auth, tokens.access_token, allow_ended, confirm=False)


def _authenticate(
    auth: Auth, access: str, allow_ended: bool, *, confirm: bool
) -> Coroutine[Any, Any, Authentication]:
    """By a token that the browser has, and so to `confirm`, or by one that it is yet to get."""
    return authenticate(auth, access, transport=Transport.COOKIE, allow_ended=allow_ended, confirm=confirm)


async def renew_cookies(request: Request, auth: Auth) -> TokenSet:
    """Spends the refresh token of the cookie. Of several tabs at once all get the same pair, so that none is
    signed out. Raises `AuthError`: NOT_AUTHENTICATED without a cookie, INVALID_TOKEN, which also deletes the
    cookies unless they are not good yet, and REFRESH_RACED."""
    cookies: RequestCookies = request.scope[_SCOPE_KEY]
    sent = cookies.sent(cookies.names.refresh)
    if sent is None:
        raise AuthError(ErrorCode.NOT_AUTHENTICATED)
    refresh, sent = Plaintext(sent), None
    try:
        tokens = await rotate(auth, refresh, transport=Transport.COOKIE)
    except TooEarlyError:
        raise
    except AuthError as error:
        if error.code is ErrorCode.INVALID_TOKEN:
            cookies.forget()
        raise
    sign_in(request, auth, tokens)
    return tokens


def sign_in(request: Request, auth: Auth, tokens: TokenSet, *, remember: bool | None = None) -> None:
    """Queues both cookies for the response. A browser that is not to `remember` forgets them when it is
    closed; None leaves that as it is. Needs the transport to be on."""
    cookies: RequestCookies = request.scope[_SCOPE_KEY]
    names = cookies.names
    if remember is not None:
        had, cookies.remember = cookies.remembers, remember
        if not remember:
            cookies.queued[names.until_closed] = names.set(names.until_closed, "1")
        elif not had:
            cookies.queued[names.until_closed] = names.delete(names.until_closed)
    left = seconds_until(auth, tokens.refresh_expires_at)
    access_left = min(left, seconds_until(auth, tokens.access_expires_at))
    lifetimes = (access_left, left) if cookies.remembers else (None, None)
    cookies.tokens, cookies.ended = tokens, False
    cookies.queued[names.access] = names.set(names.access, tokens.access_token, lifetimes[0])
    cookies.queued[names.refresh] = names.set(names.refresh, tokens.refresh_token, lifetimes[1])
    if tokens.device is not None:
        keep_device(request, tokens.device)


def seconds_until(auth: Auth, end: datetime) -> int:
    """The seconds until a token expires. A second that has begun counts, so that a token that was signed just
    now has its whole lifetime."""
    return max(0, math.ceil((end - auth.clock()).total_seconds()))


def device_of(request: Request) -> Device | None:
    """What a browser shows to be known again, on a page of the app; None for what else gets no cookies, as
    another site must not replace what it shows."""
    cookies = request_cookies(request)
    if cookies is None or not (wants_cookies(request) and is_from_trusted_page(request)):
        return None
    values = cookies.received.get(cookies.names.device, [])
    return Device(values[0] if len(values) == 1 else None)


def keep_device(request: Request, value: str) -> None:
    """Queues the cookie by which this browser is known again. Needs the transport to be on."""
    cookies: RequestCookies = request.scope[_SCOPE_KEY]
    names = cookies.names
    cookies.queued[names.device] = names.set(names.device, value, int(DEVICE_LIFETIME.total_seconds()))


def sign_out(request: Request, auth: Auth) -> None:
    """Queues the deletion of the cookies, where the request has any, and, if the settings say so, tells the
    browser to forget what the app has stored (ASVS 14.3.1)."""
    cookies = request_cookies(request)
    if cookies is None or not cookies.has_token:
        return
    cookies.forget()
    cookies.clear_site_data = auth.settings.clear_site_data


def is_from_trusted_page(request: Request) -> bool:
    """Whether a page of the app, or of an origin that the settings trust, made the request."""
    cookies = request_cookies(request)
    fetch_site, origins = (request.headers.getlist(name) for name in ("sec-fetch-site", "origin"))
    trusted = frozenset() if cookies is None else cookies.auth.settings.page_origins
    return from_trusted_page(fetch_site, origins, trusted)
