"""The keys that sign and verify: JSON Web Signatures (RFC 7515) under one configured algorithm (RFC 8725)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from ..config import AuthSettings

MAXIMUM_TOKEN_BYTES: Final = 8192
MINIMUM_RSA_BITS: Final = 2048
CURVE_BITS: Final = {"ES256": 256, "ES384": 384, "ES512": 521}
THUMBPRINT_MEMBERS: Final = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}
"""RFC 7638 section 3.2."""

_FOREIGN_SECRET: Final = re.compile("-----BEGIN|ssh-|ecdsa-|@openssh")
"""What marks a key of another kind, which is no secret."""

_COMPACT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


class KeyConfigurationError(ValueError):
    """The keys in the settings cannot sign."""


@cache
def _jose() -> Any:
    """Imported here, as it takes 25 ms with what it needs, and an app starts without a token."""
    import jose.jwk
    import jose.jws

    return jose


class SignatureError(Exception):
    """A token is not signed by one of the configured keys."""


@dataclass(frozen=True, eq=False)
class KeySet:
    """One key that signs, and those that verify, by key id."""

    algorithm: str
    signing_id: str
    signing_key: Any
    verifying: Mapping[str, Any]
    public: tuple[dict[str, str], ...]
    """The verifying keys as JSON Web Keys (RFC 7517); none where they are secrets."""
    material: bytes = field(repr=False)
    """What the signing key is made of."""

    def derive(self, purpose: str) -> bytes:
        """A key for another purpose, from which nobody learns anything about the signing key (RFC 5869)."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose.encode())
        return hkdf.derive(self.material)

    def sign(self, claims: dict[str, Any]) -> str:
        """A compact token whose header names the key."""
        headers = {"kid": self.signing_id}
        token: str = _jose().jws.sign(claims, self.signing_key, headers=headers, algorithm=self.algorithm)
        return token

    def open(self, token: str) -> dict[str, Any]:
        """The claims of a token; raises `SignatureError`.

        The key is looked up by `kid` in the configured set and never taken from the token: `jwk`, `jku`,
        `x5u` and `x5c` mean nothing. A token without `kid` is tried with the signing key alone.
        """
        if len(token) > MAXIMUM_TOKEN_BYTES or not _COMPACT.fullmatch(token):
            raise SignatureError
        jose = _jose()
        try:
            header = jose.jws.get_unverified_header(token)
            # python-jose skips critical extensions that it does not know (RFC 7515 section 4.1.11).
            key_id = header.get("kid", self.signing_id)
            key = self.verifying.get(key_id) if isinstance(key_id, str) and "crit" not in header else None
            if key is None:
                raise SignatureError
            claims = json.loads(jose.jws.verify(token, key, algorithms=[self.algorithm]))
        except (jose.exceptions.JOSEError, ValueError, RecursionError) as error:
            raise SignatureError from error
        if not isinstance(claims, dict):
            raise SignatureError
        return claims


def check_keys(settings: AuthSettings) -> None:
    """Raises `KeyConfigurationError` where the keys of the settings cannot sign. Makes no key of a plain
    secret, of which any will do."""
    secrets = (settings.jwt_secret, *settings.jwt_previous_keys)
    if not settings.jwt_algorithm.startswith("HS") or any(map(_FOREIGN_SECRET.search, secrets)):
        key_set(settings)


def key_set(settings: AuthSettings) -> KeySet:
    """The keys of the settings, built once for each set of values. Raises `KeyConfigurationError`."""
    return _build(
        settings.jwt_algorithm,
        settings.jwt_secret,
        settings.jwt_private_key,
        tuple(settings.jwt_previous_keys),
    )


@lru_cache(maxsize=16)
def _build(algorithm: str, secret: str, private_key: str | None, previous: tuple[str, ...]) -> KeySet:
    if algorithm.startswith("HS"):
        keys = {_secret_id(each): _construct(each, algorithm) for each in (secret, *previous)}
        signing_id = _secret_id(secret)
        return KeySet(algorithm, signing_id, keys[signing_id], keys, (), secret.encode())
    if private_key is None:
        raise KeyConfigurationError(f"JWT_ALGORITHM is {algorithm}, but JWT_PRIVATE_KEY is not set.")
    signing_key = _construct(_pem(private_key), algorithm)
    if signing_key.is_public():
        raise KeyConfigurationError("JWT_PRIVATE_KEY is a public key.")
    verifying, public = {}, []
    for key in (signing_key, *(_construct(_pem(each), algorithm) for each in previous)):
        _check_strength(key, algorithm)
        public_key = key if key.is_public() else key.public_key()
        members = {name: as_text(value) for name, value in public_key.to_dict().items()}
        key_id = _thumbprint(members)
        verifying[key_id] = public_key
        public.append({**members, "kid": key_id, "use": "sig", "alg": algorithm})
    material = _pem(private_key).encode()
    return KeySet(algorithm, next(iter(verifying)), signing_key, verifying, tuple(public), material)


def _construct(key: str, algorithm: str) -> Any:
    jose = _jose()
    try:
        return jose.jwk.construct(key, algorithm)
    except jose.exceptions.JOSEError as error:
        raise KeyConfigurationError(f"A key does not fit JWT_ALGORITHM {algorithm}: {error}") from error


def _pem(text: str) -> str:
    """PEM text (in which `\\n` may stand for line breaks), or what is in the file of this path."""
    if text.lstrip().startswith("-----BEGIN"):
        return text.replace("\\n", "\n").strip()
    try:
        return Path(text).read_text("ascii")
    except (OSError, ValueError) as error:
        raise KeyConfigurationError(
            "A key is neither PEM text nor the path of a readable PEM file."
        ) from error


def _check_strength(key: Any, algorithm: str) -> None:
    bits = key.prepared_key.key_size
    if algorithm.startswith("RS") and bits < MINIMUM_RSA_BITS:
        raise KeyConfigurationError(f"An RSA key has {bits} bits; {MINIMUM_RSA_BITS} is the least.")
    if algorithm in CURVE_BITS and bits != CURVE_BITS[algorithm]:
        raise KeyConfigurationError(f"{algorithm} needs a curve of {CURVE_BITS[algorithm]} bits, not {bits}.")


def _secret_id(secret: str) -> str:
    """A name for a secret that tells nothing about a random one."""
    return hmac.new(secret.encode(), b"kid", hashlib.sha256).hexdigest()[:16]


def _thumbprint(members: dict[str, str]) -> str:
    """RFC 7638."""
    required = {name: members[name] for name in THUMBPRINT_MEMBERS[members["kty"]]}
    digest = hashlib.sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def as_text(value: str | bytes) -> str:
    """PEM and the members of a JSON Web Key are ASCII; python-jose gives some as bytes."""
    return value.decode() if isinstance(value, bytes) else value
