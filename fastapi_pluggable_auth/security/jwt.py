"""The claims of signed tokens: JSON Web Tokens (RFC 7519), each for one purpose, which its header `typ` says
(RFC 8725 sections 3.11 and 3.12)."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from uuid import UUID

from .. import config
from ..config import AuthSettings
from ..errors import AuthError, ErrorCode
from .clock import Clock, utc_now
from .keys import KeySet, SignatureError, key_set

Claims: TypeAlias = Mapping[str, Any]

ACCESS: Final = "at+jwt"
"""RFC 9068 section 2.1."""
REFRESH: Final = "refresh+jwt"

_TYPE_OF_0_1: Final = "jwt"

LEEWAY_SECONDS: Final = 30
"""How far the clocks of two servers may differ."""
LATEST: Final = 253_402_300_800
"""The end of the year 9999: what comes later is not a time."""


class Transport(StrEnum):
    """How a client keeps and sends the tokens of a session. It is a claim of both: neither is good in the
    other's place."""

    BEARER = "bearer"
    """In the header `Authorization`, and in bodies (RFC 6750)."""
    COOKIE = "cookie"


class TooEarlyError(AuthError):
    """INVALID_TOKEN, as the token is not good yet: the clock of this server is behind that of the one that
    signed it."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.INVALID_TOKEN)


def new_token_id() -> str:
    """A fresh `jti`: 48 bits of milliseconds and 144 random ones in 32 characters.

    Tokens of one hour so stand side by side in an index: with random ones, storing a refresh token among a
    million reads twice as many pages as among a thousand, and writes three more.
    """
    moment = (time.time_ns() // 1_000_000).to_bytes(6, "big")
    return base64.urlsafe_b64encode(moment + secrets.token_bytes(18)).decode()


class TokenSigner:
    """Signs claims and checks them again. The header `typ` keeps tokens of different purposes apart, the
    claims `iss` and `aud` those of different deployments."""

    def __init__(self, settings: AuthSettings, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._clock = clock

    def sign(
        self,
        typ: str,
        subject: UUID | str,
        *,
        issued_at: datetime,
        expires_at: datetime,
        jti: str | None = None,
        **claims: Any,
    ) -> str:
        """A signed token of this type. The same arguments give the same claims, in the same order."""
        return key_set(self._settings).sign(
            {
                "iss": self._settings.issuer,
                "aud": self._settings.audience,
                "sub": str(subject),
                "jti": jti or new_token_id(),
                "iat": int(issued_at.timestamp()),
                "exp": int(expires_at.timestamp()),
                **claims,
            },
            typ,
        )

    def access_token(
        self,
        user_id: UUID | str,
        session_id: UUID | None = None,
        *,
        actor_id: UUID | None = None,
        issued_at: datetime | None = None,
        **claims: Any,
    ) -> str:
        """An access token that is signed now, unless `issued_at` says when. It is bound to a session (`sid`)
        unless a host app mints one on the user alone, and names the administrator who acts as the user
        (`act`)."""
        issued_at = issued_at or self._clock()
        bound = {} if session_id is None else {"sid": str(session_id)}
        return self.sign(
            ACCESS,
            user_id,
            issued_at=issued_at,
            expires_at=self.access_token_end(issued_at),
            **bound,
            **actor_claim(actor_id),
            **claims,
        )

    def access_token_end(self, issued_at: datetime) -> datetime:
        """When an access token expires that is signed at this moment."""
        return issued_at + self._settings.access_token_expires

    def verify(
        self, token: str, typ: str, *, transport: Transport | None = None, allow_expired: bool = False
    ) -> Claims:
        """The claims of a token of this type; raises `AuthError(INVALID_TOKEN)` on any other input, as
        `TooEarlyError` where all that is wrong is the time from which it is good.

        `transport` is how it came, where that matters: a token that was made for another is refused.
        `allow_expired` is for tokens whose end is also stored."""
        if not isinstance(token, str):
            raise AuthError(ErrorCode.INVALID_TOKEN)
        try:
            claims = _claims_of(
                key_set(self._settings), token, typ, self._settings.issuer, self._settings.audience
            )
        except SignatureError as error:
            raise AuthError(ErrorCode.INVALID_TOKEN) from error
        now = self._clock().timestamp()
        expired = now >= claims["exp"] and not allow_expired
        if expired or (transport is not None and claims.get("transport", transport) != transport):
            raise AuthError(ErrorCode.INVALID_TOKEN)
        if max(claims["iat"], claims.get("nbf", 0)) > now + LEEWAY_SECONDS:
            raise TooEarlyError
        return claims


# An access token comes many times. What it says, for whom, and that these keys signed it, never changes and
# takes 25 us to find out; whether it is still good is looked up every time.
@lru_cache(maxsize=4096)
def _claims_of(keys: KeySet, token: str, typ: str, issuer: str, audience: str) -> Claims:
    """The claims of a token of this type, whatever the time; raises `SignatureError`."""
    try:
        claims = keys.open(token, typ)
    except SignatureError:
        if typ != REFRESH:
            raise
        # The database knows each of these as well.
        of_0_1 = claims_of_0_1(keys, token, "refresh", "jti")
        claims = {"iss": issuer, "aud": audience, "iat": 0, **of_0_1}
    fits = (
        # The access tokens of OAuth clients have it (RFC 9068 section 2.2): none of those is a session.
        "client_id" not in claims
        and claims.get("iss") == issuer
        and claims.get("aud") == audience
        and isinstance(claims.get("sub"), str)
        and isinstance(claims.get("jti"), str)
        and _is_time(claims.get("iat"))
        and _is_time(claims.get("exp"))
        and _is_time(claims.get("nbf", 0))
        and _is_count(claims.get("gen", 0))
        and claims.get("transport", Transport.BEARER) in tuple(Transport)
    )
    if not fits:
        raise SignatureError
    return MappingProxyType(claims)


def claims_of_0_1(keys: KeySet, token: str, scope: str, *others: str) -> Claims:
    """The claims of a token of 0.1, whose purpose is the claim `scope`, whatever the time. It has subject,
    scope, end, and these others. Raises `SignatureError`."""
    claims = keys.open(token, _TYPE_OF_0_1)
    fits = (
        claims.keys() == {"sub", "scope", "exp", *others}
        and claims["scope"] == scope
        and isinstance(claims["sub"], str)
        and _is_time(claims["exp"])
    )
    if not fits:
        raise SignatureError
    return claims


def _is_time(value: object) -> bool:
    """Whole seconds since the epoch; `bool` is an `int` too."""
    return type(value) is int and 0 <= value < LATEST


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def subject_of(claims: Claims) -> UUID:
    """The user a token is about; raises `AuthError(INVALID_TOKEN)` when the claim is not a UUID."""
    return _uuid(claims["sub"])


def session_of(claims: Claims) -> UUID | None:
    """The session a token is bound to; raises `AuthError(INVALID_TOKEN)` when the claim is not a UUID."""
    return None if "sid" not in claims else _uuid(claims["sid"])


def generation_of(claims: Claims) -> int:
    """Which pair of its session a token belongs to; 0 for the first one, and for those that do not say."""
    generation: int = claims.get("gen", 0)
    return generation


def transport_of(claims: Claims) -> Transport | None:
    """How the client has the token; None for those of earlier releases, which do not say."""
    return Transport(claims["transport"]) if "transport" in claims else None


def actor_claim(actor_id: UUID | None) -> dict[str, Any]:
    """Who acts as the subject (RFC 8693 section 4.1); nothing where it is the subject."""
    return {} if actor_id is None else {"act": {"sub": str(actor_id)}}


def actor_of(claims: Claims) -> UUID | None:
    """Who acts as the subject; raises `AuthError(INVALID_TOKEN)` when the claim is not a UUID."""
    if "act" not in claims:
        return None
    act = claims["act"]
    return _uuid(act.get("sub") if isinstance(act, dict) else act)


def issued_at_of(claims: Claims) -> datetime:
    """When a token was signed, in UTC and whole seconds."""
    return datetime.fromtimestamp(claims["iat"], UTC)


_parsed: Final = lru_cache(maxsize=8192)(UUID)
"""A user and a session for each token that is known."""


def _uuid(value: object) -> UUID:
    try:
        return _parsed(str(value))
    except ValueError as error:
        raise AuthError(ErrorCode.INVALID_TOKEN) from error


def create_access_token(user_id: UUID | str) -> str:
    """An access token on the default settings, without a session."""
    return TokenSigner(config.settings).access_token(user_id)


def create_refresh_token(user_id: UUID | str) -> str:
    """A refresh token on the default settings; it is usable once `RefreshToken.create_for` has stored it."""
    now = utc_now()
    return TokenSigner(config.settings).sign(
        REFRESH, user_id, issued_at=now, expires_at=now + config.settings.refresh_token_expires
    )


def decode_token(token: str, scope: str) -> dict[str, Any]:
    """The claims of a token on the default settings; `scope` is its purpose, `access` or `refresh`. Raises
    `AuthError(INVALID_TOKEN)`."""
    typ = {"access": ACCESS, "refresh": REFRESH}.get(scope)
    if typ is None:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    return dict(TokenSigner(config.settings).verify(token, typ))
