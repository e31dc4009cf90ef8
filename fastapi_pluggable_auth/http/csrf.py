"""Forged requests: what a request that changes something by cookies has to show (ASVS 3.5.1)."""

from __future__ import annotations

import secrets
from typing import Final

from fastapi import Request

from ..auth import Auth
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, Outcome
from ..security.cookies import received_cookie
from ..security.csrf import (
    is_form,
    is_form_token,
    is_same_origin,
    make_form_token,
    needs_preflight,
)
from ..security.jwt import ACCESS, REFRESH, Transport, session_of
from ..security.keys import key_set
from .cookies import RequestCookies, is_from_trusted_page, request_cookies

FORM_FIELD: Final = "csrf_token"
"""The hidden field of a form."""

FOREIGN_PAGE: Final = (
    "The request does not come from a page of this app: neither Sec-Fetch-Site nor Origin says so."
)
NO_PROOF: Final = "Send JSON, a header X-Requested-With, or a form: another site could send this too."
NO_CSRF_FIELD: Final = "The form lacks the csrf_token that was made for this browser. Load the page again."
"""What a refused request lacks."""


def csrf_token(request: Request) -> str:
    """The value of the hidden field `csrf_token` of a form, for browsers that do not send `Sec-Fetch-Site`.
    It is bound to the session, or else to a visitor's cookie, which is set when there is none. Raises
    `RuntimeError` where the app gives browsers no cookies."""
    cookies = request_cookies(request)
    if cookies is None:
        raise RuntimeError(
            "csrf_token() is for cookies: set AUTH_COOKIES, or call include_auth(app, pages=True)."
        )
    binding = _binding(request, cookies)
    if binding is None:
        names = cookies.names
        cookies.visitor = secrets.token_urlsafe(16)
        cookies.queued[names.visitor] = names.set(names.visitor, cookies.visitor)
        binding = _visitor(cookies.visitor)
    return make_form_token(_form_key(cookies.auth), binding)


async def check_request(request: Request) -> None:
    """For requests that change something and are authenticated by cookies, or set them. Raises
    `AuthError(CSRF_REFUSED)` unless a page of the app or of a trusted origin made it: by the headers that
    browsers add, and by what only such a page can send: JSON, `X-Requested-With`, or a form of which the
    browser says that it is the app's own, or which has the token."""
    headers = request.headers
    content_type = headers.get("content-type", "")
    if not is_from_trusted_page(request):
        await _refuse(request, FOREIGN_PAGE)
    if needs_preflight(content_type, headers.get("x-requested-with")):
        return
    if not is_form(content_type):
        await _refuse(request, NO_PROOF)
    if not (is_same_origin(headers.getlist("sec-fetch-site")) or await _has_form_token(request)):
        await _refuse(request, NO_CSRF_FIELD)


async def check_form(request: Request) -> None:
    """Raises `AuthError(CSRF_REFUSED)` unless a form was posted by a page of the app, with the token that was
    made for this browser."""
    if not is_from_trusted_page(request):
        await _refuse(request, FOREIGN_PAGE)
    if not await _has_form_token(request):
        await _refuse(request, NO_CSRF_FIELD)


async def _has_form_token(request: Request) -> bool:
    cookies = request_cookies(request)
    if cookies is None or not is_form(request.headers.get("content-type", "")):
        return False
    token, binding = (await request.form()).get(FORM_FIELD), _binding(request, cookies)
    if binding is None or not isinstance(token, str):
        return False
    return is_form_token(_form_key(cookies.auth), binding, token)


async def _refuse(request: Request, why: str) -> None:
    refusal = AuthError(ErrorCode.CSRF_REFUSED, detail=why)
    cookies = request_cookies(request)
    if cookies is not None:
        events = cookies.auth.events
        await events.emit(EventKind.ACCESS, Outcome.FAILURE, Observation(), reason=refusal.code.code)
    raise refusal


def _binding(request: Request, cookies: RequestCookies) -> str | None:
    """What names this browser: its session, also one that has to be renewed first, or else its visitor's
    cookie."""
    if cookies.tokens is not None:
        return f"session {cookies.tokens.session_id}"
    for name, typ in ((cookies.names.access, ACCESS), (cookies.names.refresh, REFRESH)):
        try:
            token = cookies.sent(name) or ""
            claims = cookies.auth.signer.verify(token, typ, transport=Transport.COOKIE, allow_expired=True)
            session_id = session_of(claims)
        except AuthError:
            continue
        if session_id is not None:
            return f"session {session_id}"
    visitor = cookies.visitor or received_cookie(request.scope["headers"], cookies.names.visitor)
    return _visitor(visitor) if visitor else None


def _visitor(value: str) -> str:
    return f"visitor {value}"


def _form_key(auth: Auth) -> bytes:
    return key_set(auth.settings).derive("form tokens")
