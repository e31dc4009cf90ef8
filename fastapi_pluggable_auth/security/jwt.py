"""Signed tokens: JSON Web Tokens (RFC 7519) under one configured algorithm (RFC 8725)."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID

from jose import jws
from jose.exceptions import JOSEError

from ..config import AuthSettings
from ..config import settings as default_settings
from ..errors import AuthError, ErrorCode
from .clock import Clock, utc_now

Claims: TypeAlias = dict[str, Any]

ACCESS: Final = "access"
REFRESH: Final = "refresh"

MAXIMUM_TOKEN_BYTES: Final = 8192
LEEWAY: Final = timedelta(seconds=30)
"""How far the clocks of two servers may differ."""


def new_token_id() -> str:
    """A fresh `jti`: 192 random bits in 32 characters."""
    return secrets.token_urlsafe(24)


class TokenSigner:
    """Signs claims and checks them again. The `scope` claim keeps tokens of different purposes apart."""

    def __init__(self, settings: AuthSettings, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._clock = clock

    def sign(
        self,
        scope: str,
        subject: UUID | str,
        *,
        issued_at: datetime,
        expires_at: datetime,
        jti: str | None = None,
        **claims: Any,
    ) -> str:
        """A signed token. The same arguments give the same claims, in the same order."""
        payload = {
            "sub": str(subject),
            "scope": scope,
            "jti": jti or new_token_id(),
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
            **claims,
        }
        token: str = jws.sign(payload, self._settings.jwt_secret, algorithm=self._settings.jwt_algorithm)
        return token

    def access_token(self, user_id: UUID | str, session_id: UUID | None = None) -> str:
        """An access token, bound to a session (`sid`) unless a host app mints one on the user alone."""
        now = self._clock()
        bound = {} if session_id is None else {"sid": str(session_id)}
        return self.sign(
            ACCESS, user_id, issued_at=now, expires_at=now + self._settings.access_token_expires, **bound
        )

    def verify(self, token: str, scope: str) -> Claims:
        """The claims of a token of this scope; raises `AuthError(INVALID_TOKEN)` on any other input."""
        claims = self._verified_payload(token)
        now = self._clock().timestamp()
        valid = (
            claims.get("scope") == scope
            and isinstance(claims.get("sub"), str)
            and isinstance(claims.get("jti"), str)
            and type(claims.get("exp")) is int
            and now < claims["exp"]
            and type(claims.get("iat", 0)) in (int, float)
            and claims.get("iat", 0) <= now + LEEWAY.total_seconds()
            and type(claims.get("nbf", 0)) is int
            and claims.get("nbf", 0) <= now + LEEWAY.total_seconds()
        )
        if not valid:
            raise AuthError(ErrorCode.INVALID_TOKEN)
        return claims

    def _verified_payload(self, token: str) -> Claims:
        if not isinstance(token, str) or len(token) > MAXIMUM_TOKEN_BYTES:
            raise AuthError(ErrorCode.INVALID_TOKEN)
        try:
            # python-jose skips critical extensions that it does not know (RFC 7515 section 4.1.11).
            if "crit" in jws.get_unverified_header(token):
                raise AuthError(ErrorCode.INVALID_TOKEN)
            payload = jws.verify(token, self._settings.jwt_secret, algorithms=[self._settings.jwt_algorithm])
            claims = json.loads(payload)
        except (JOSEError, ValueError, RecursionError) as error:
            raise AuthError(ErrorCode.INVALID_TOKEN) from error
        if not isinstance(claims, dict):
            raise AuthError(ErrorCode.INVALID_TOKEN)
        return claims


def subject_of(claims: Claims) -> UUID:
    """The user a token is about; raises `AuthError(INVALID_TOKEN)` when the claim is no UUID."""
    return _uuid(claims["sub"])


def session_of(claims: Claims) -> UUID | None:
    """The session a token is bound to; raises `AuthError(INVALID_TOKEN)` when the claim is no UUID."""
    return None if "sid" not in claims else _uuid(claims["sid"])


def issued_at_of(claims: Claims) -> datetime:
    """When a token was signed, in UTC; the epoch where the claim is missing."""
    return datetime.fromtimestamp(claims.get("iat", 0), UTC)


def _uuid(value: object) -> UUID:
    try:
        return UUID(str(value))
    except ValueError as error:
        raise AuthError(ErrorCode.INVALID_TOKEN) from error


def create_access_token(user_id: UUID | str) -> str:
    """An access token on the default settings, without a session."""
    return TokenSigner(default_settings).access_token(user_id)


def create_refresh_token(user_id: UUID | str) -> str:
    """A refresh token on the default settings; it is usable once `RefreshToken.create_for` has stored it."""
    now = utc_now()
    return TokenSigner(default_settings).sign(
        REFRESH, user_id, issued_at=now, expires_at=now + default_settings.refresh_token_expires
    )


def decode_token(token: str, scope: str) -> Claims:
    """The claims of a token on the default settings; raises `AuthError(INVALID_TOKEN)`."""
    return TokenSigner(default_settings).verify(token, scope)
