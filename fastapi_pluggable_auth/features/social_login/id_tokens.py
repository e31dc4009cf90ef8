"""Tokens of others (OpenID Connect Core section 3.1.3.7), checked with joserfc."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Collection, Mapping
from typing import Any, Final

try:
    from joserfc import jwk, jws, jwt
    from joserfc.errors import JoseError
except ImportError as error:
    raise ImportError("Social login needs joserfc: pip install 'fastapi-pluggable-auth[social]'") from error

LEEWAY: Final = 60
"""Seconds that two clocks may differ."""

MAXIMUM_LENGTH: Final = 16_384

_LAST: Final = 2**53
"""No moment is later: any double holds it, and so does what is made of it."""


class TokenError(Exception):
    """A token that proves nothing. Says why, for the log."""


class _Registry(jws.JWSRegistry):
    """Headers may be long and have parameters that nobody knows here (RFC 7515 section 4.1.6 and 4.2). The
    older name of Ed25519 is no reason for a warning: the provider chooses it."""

    max_header_length = MAXIMUM_LENGTH

    def __init__(self, algorithms: Collection[str] = ()) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        if name == "EdDSA" and name in (self.allowed or ()):
            return self.algorithms[name]
        return super().get_alg(name)


def key_id_of(token: str) -> str | None:
    """The id of the key that is said to have signed it, before anything is checked. Raises `TokenError`."""
    if len(token) > MAXIMUM_LENGTH:
        raise TokenError("length")
    try:
        found = jws.extract_compact(token.encode(), registry=_Registry()).headers().get("kid")
    except (JoseError, ValueError) as error:
        raise TokenError("form") from error
    return found if isinstance(found, str) else None


def has_key(keys: Mapping[str, Any], key_id: str | None) -> bool:
    """Whether a published set has this key; any will do where the token names none."""
    return key_id is None or any(each.get("kid") == key_id for each in _keys_in(keys))


def _keys_in(keys: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those of a published set that may be keys at all (RFC 7517 section 5)."""
    found = keys.get("keys")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def claims_in(token: str, keys: Mapping[str, Any], algorithms: Collection[str]) -> dict[str, Any]:
    """What a token says that one of these keys has signed. Raises `TokenError`."""
    try:
        claims = jwt.decode(token, jwk.KeySet(usable_keys(keys)), registry=_Registry(algorithms)).claims
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise TokenError(type(error).__name__) from error
    return dict(claims)


def usable_keys(keys: Mapping[str, Any]) -> list[Any]:
    """Those of a published set that may have signed a token: there may be others for encryption, and of kinds
    that nobody knows."""
    signing = [key for key in _keys_in(keys) if key.get("use", "sig") == "sig" and key.get("kty") != "oct"]
    return [key for each in signing if (key := _imported(each)) is not None]


def _imported(key: Mapping[str, Any]) -> Any:
    try:
        return jwk.import_key({**key})
    except (JoseError, ValueError, KeyError, TypeError):
        return None


def check_claims(
    claims: Mapping[str, Any],
    *,
    issuer: str,
    client_ids: Collection[str],
    nonces: Collection[str],
    now: float,
    access_token: str | None,
    max_age: int | None = None,
) -> None:
    """Raises `TokenError` for a token of another issuer, for somebody else, of another time or another
    sign-in."""
    if claims.get("iss") != issuer:
        raise TokenError("issuer")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not any(_is_one_of(each, client_ids) for each in audiences):
        raise TokenError("audience")
    if (len(audiences) > 1 or "azp" in claims) and not _is_one_of(claims.get("azp"), client_ids):
        raise TokenError("authorized party")
    if now >= _moment(claims, "exp") + LEEWAY:
        raise TokenError("expired")
    if _moment(claims, "iat") > now + LEEWAY:
        raise TokenError("issued in the future")
    if "nbf" in claims and _moment(claims, "nbf") > now + LEEWAY:
        raise TokenError("not good yet")
    if not _is_one_of(claims.get("nonce"), nonces):
        raise TokenError("nonce")
    if "at_hash" in claims and access_token is not None and not _is_hash(claims["at_hash"], access_token):
        raise TokenError("hash of the access token")
    if max_age is not None and now - _moment(claims, "auth_time") > max_age + LEEWAY:
        raise TokenError("signed in too long ago")
    subject = claims.get("sub")
    if not (isinstance(subject, str) and 0 < len(subject) <= 255):
        raise TokenError("subject")


def _is_one_of(said: object, allowed: Collection[str]) -> bool:
    if not isinstance(said, str):
        return False
    known = said.encode("utf-8", "replace")
    return any(hmac.compare_digest(known, each.encode()) for each in allowed)


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _LAST:
        raise TokenError(name)  # also for what JSON in Python has beside numbers, such as NaN
    return value


def _is_hash(said: object, access_token: str) -> bool:
    """The left half of the digest, of the size that goes with the signature (section 3.1.3.6)."""
    halves = []
    for algorithm in ("sha256", "sha384", "sha512"):
        digest = hashlib.new(algorithm, access_token.encode()).digest()
        halves.append(base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode())
    return said in halves


def signed(claims: Mapping[str, Any], private_key: str, key_id: str) -> str:
    """A token of ours that ES256 signs. Raises `ValueError` for what is not such a key."""
    key = jwk.import_key(private_key, "EC")
    return jwt.encode({"alg": "ES256", "kid": key_id}, {**claims}, key, algorithms=["ES256"])


def new_key() -> Any:
    """A key that ES256 signs with, for tests."""
    return jwk.ECKey.generate_key("P-256", {"use": "sig"}, auto_kid=True)


def public_half(key: Any) -> dict[str, Any]:
    """What is published of it."""
    return {**key.as_dict(private=False)}


def signed_by(key: Any, claims: Mapping[str, Any]) -> str:
    """A token that this key signs, whatever its claims are, as long as JSON has it."""
    header = {"alg": "ES256", "kid": key.kid}
    return jws.serialize_compact(header, json.dumps(claims).encode(), key, algorithms=["ES256"])
