"""OpenID Connect: what another app learns of a user who signs in to it (OpenID Connect Core 1.0)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from ...auth import Auth
from ...flows.authentication import Authentication
from ...models import AbstractUser
from ...security.keys import SignatureError, key_set
from ...words.texts import Words, words_for
from .names import FEATURE
from .resources import issuer_of, scopes_of
from .settings import OAuthSettings

OPENID: Final = "openid"
PROFILE: Final = "profile"
EMAIL: Final = "email"
SCOPES: Final = (OPENID, PROFILE, EMAIL)

LIFETIME: Final = timedelta(minutes=5)
"""Of an ID token, which the other app reads once."""

CLAIMS: Final = ("sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "amr", "at_hash")
CLAIMS_OF_SCOPES: Final = (*("name", "preferred_username", "locale"), *("email", "email_verified"))

_TYPE: Final = "JWT"
"""As others expect it: no token of a session or a purpose of ours has it."""
_METHODS: Final = {"passkey": "pop"}
"""Our names for which RFC 8176 has one."""
_SECOND: Final = frozenset({"otp", "recovery"})
"""What is only ever shown beside another factor."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What an ID token says that comes back: the client that it was for, and its user."""

    client_id: str
    user_id: str


def sign_in_scopes(auth: Auth) -> tuple[str, ...]:
    """Those of OpenID Connect, where it is on: given to nobody who does not name them."""
    on = FEATURE in auth.features and auth.features.settings_of(OAuthSettings).oauth_openid
    return SCOPES if on else ()


def all_scopes_of(auth: Auth) -> tuple[str, ...]:
    """Those of the app, and these."""
    return (*scopes_of(auth), *sign_in_scopes(auth))


def sentences(auth: Auth, scopes: Collection[str], words: Words) -> dict[str, str]:
    """What scopes allow, in words for users: those of the app, and ours."""
    own = scopes_of(auth)
    return {
        scope: own[scope] if scope in own else words(f"oauth_scopes.{scope}")
        for scope in all_scopes_of(auth)
        if scope in scopes
    }


def words_of(auth: Auth, user: AbstractUser, accept_language: str = "") -> Words:
    """The words for a user, on a page or in a mail."""
    return words_for(auth.settings, user.language, accept_language, auth.features.folders)


def signs_in(auth: Auth, scopes: Collection[str]) -> bool:
    """Whether a client gets an ID token for these."""
    return OPENID in scopes and OPENID in sign_in_scopes(auth)


def bound_sign_in(authentication: Authentication, nonce: str | None = None) -> dict[str, Any]:
    """What a code keeps of the sign-in for the ID token."""
    said: dict[str, Any] = {
        "auth_time": int(authentication.authenticated_at.timestamp()),
        "amr": methods_of(authentication.factors),
    }
    return said if nonce is None else {**said, "nonce": nonce}


def methods_of(factors: Iterable[str]) -> list[str]:
    """The claim `amr` (RFC 8176), with `mfa` where two factors were shown: a passkey is two, as it is only
    taken alone where it has verified its user."""
    shown = frozenset(factors)
    both = "passkey" in shown or (shown & _SECOND and shown - _SECOND)
    named = {_METHODS.get(each, each) for each in shown}
    return sorted(named | {"mfa"} if both else named)


def claims_of(auth: Auth, user: AbstractUser, scopes: Collection[str]) -> dict[str, Any]:
    """What these scopes tell of a user (section 5.4), as far as it is known; `sub` never changes."""
    found: dict[str, Any] = {"sub": str(user.id)}
    if PROFILE in scopes:
        username = getattr(user, "username", None) if auth.has_usernames else None
        found |= {"name": user.display_name, "preferred_username": username, "locale": user.language}
    if EMAIL in scopes:
        found |= {"email": user.email, "email_verified": user.is_verified}
    return {name: value for name, value in found.items() if value is not None}


def id_token(
    auth: Auth,
    client_id: str,
    user: AbstractUser,
    scopes: Collection[str],
    bound: Mapping[str, Any],
    access_token: str,
) -> str:
    """An ID token (section 2) beside an access token, of what its code was `bound` to."""
    keys, now = key_set(auth.settings), auth.clock()
    at_hash = _half(access_token, keys.algorithm)
    del access_token  # an error tracker would send it with this frame
    said = {name: bound[name] for name in ("auth_time", "nonce", "amr") if bound.get(name)}
    claims = {
        **claims_of(auth, user, scopes),
        "iss": issuer_of(auth.settings),
        "aud": client_id,
        "iat": int(now.timestamp()),
        "exp": int((now + LIFETIME).timestamp()),
        "at_hash": at_hash,
        **said,
    }
    return keys.sign(claims, _TYPE)


def hint_in(auth: Auth, token: str) -> Hint | None:
    """What an ID token of ours says, also one that has expired; None for anything else."""
    try:
        claims = key_set(auth.settings).open(token, _TYPE.lower())
    except SignatureError:
        return None
    client_id, user_id = claims.get("aud"), claims.get("sub")
    ours = claims.get("iss") == issuer_of(auth.settings) and "at_hash" in claims
    if not (ours and isinstance(client_id, str) and isinstance(user_id, str)):
        return None
    return Hint(client_id, user_id)


def _half(access_token: str, algorithm: str) -> str:
    """The left half of its digest, by the one of the signature (section 3.1.3.6)."""
    digest = hashlib.new(f"sha{algorithm[-3:]}", access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
