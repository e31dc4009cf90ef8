"""The keys that sign and verify: JSON Web Signatures (RFC 7515) under one configured algorithm (RFC 8725)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk, jws
from jose.exceptions import JOSEError

from ..config import DEFAULT_SECRET, AuthSettings

MAXIMUM_TOKEN_BYTES: Final = 8192
MINIMUM_RSA_BITS: Final = 2048
RSA_BITS: Final = 3072
"""Of new keys: NIST SP 800-57 part 1, table 2, for use after 2030."""
SECRET_BYTES: Final = 64
"""Of new secrets, for every algorithm: RFC 7518 section 3.2 asks for as many as the hash has."""
CURVE_BITS: Final = {"ES256": 256, "ES384": 384, "ES512": 521}
_CURVES: Final = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
THUMBPRINT_MEMBERS: Final = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}
"""RFC 7638 section 3.2."""

_COMPACT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


class KeyConfigurationError(ValueError):
    """The keys in the settings cannot sign."""


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
        hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose.encode())
        return hkdf.derive(self.material)

    def sign(self, claims: dict[str, Any]) -> str:
        """A compact token whose header names the key."""
        headers = {"kid": self.signing_id}
        token: str = jws.sign(claims, self.signing_key, headers=headers, algorithm=self.algorithm)
        return token

    def open(self, token: str) -> Mapping[str, Any]:
        """The claims of a token; raises `SignatureError`.

        The key is looked up by `kid` in the configured set and never taken from the token: `jwk`, `jku`,
        `x5u` and `x5c` mean nothing. A token without `kid` is tried with the signing key alone.
        """
        if not isinstance(token, str) or len(token) > MAXIMUM_TOKEN_BYTES or not _COMPACT.fullmatch(token):
            raise SignatureError
        return _open(self, token)


# An access token comes many times. What it says, and that these keys signed it, never changes and takes 40 us
# to find out; whether it is still good is looked up every time.
@lru_cache(maxsize=4096)
def _open(keys: KeySet, token: str) -> Mapping[str, Any]:
    try:
        header = jws.get_unverified_header(token)
        # python-jose skips critical extensions that it does not know (RFC 7515 section 4.1.11).
        key_id = header.get("kid", keys.signing_id)
        key = keys.verifying.get(key_id) if isinstance(key_id, str) and "crit" not in header else None
        if key is None:
            raise SignatureError
        claims = json.loads(jws.verify(token, key, algorithms=[keys.algorithm]))
    except (JOSEError, ValueError, RecursionError) as error:
        raise SignatureError from error
    if not isinstance(claims, dict):
        raise SignatureError
    return MappingProxyType(claims)


def key_set(settings: AuthSettings) -> KeySet:
    """The keys of the settings, built once for each set of values. Raises `KeyConfigurationError`."""
    return _build(
        settings.jwt_algorithm,
        settings.jwt_secret,
        settings.jwt_private_key,
        tuple(settings.jwt_previous_keys),
    )


def rotated_keys(settings: AuthSettings, *, keep: int = 1) -> dict[str, str]:
    """The names and new values of the settings after a rotation: a new signing key for the algorithm, and the
    present one as the first of `keep` previous ones, a key pair with its public half alone. The placeholder
    secret is not kept. Raises `KeyConfigurationError`."""
    keys = key_set(settings)
    if settings.jwt_algorithm.startswith("HS"):
        name, new = "JWT_SECRET", secrets.token_urlsafe(SECRET_BYTES)
        previous = [settings.jwt_secret, *settings.jwt_previous_keys]
        if settings.jwt_secret == DEFAULT_SECRET:
            previous.pop(0)
    else:
        name, new = "JWT_PRIVATE_KEY", _one_line(_new_private_key(settings.jwt_algorithm))
        public = keys.verifying[keys.signing_id].to_pem()
        previous = [*map(_one_line, (public, *settings.jwt_previous_keys))]
    kept = previous[:keep]
    if any("," in key or key != key.strip() for key in kept):
        raise KeyConfigurationError(
            "A key has a comma or a space at an end: JWT_PREVIOUS_KEYS cannot hold it."
        )
    return {name: new, "JWT_PREVIOUS_KEYS": ",".join(kept)}


def _new_private_key(algorithm: str) -> bytes:
    curve = _CURVES.get(algorithm)
    key = rsa.generate_private_key(65537, RSA_BITS) if curve is None else ec.generate_private_key(curve)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _one_line(key: str | bytes) -> str:
    """As a `.env` file holds it: `_pem` puts the line breaks back."""
    return _text(key).strip().replace("\n", "\\n")


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
        members = {name: _text(value) for name, value in public_key.to_dict().items()}
        key_id = _thumbprint(members)
        verifying[key_id] = public_key
        public.append({**members, "kid": key_id, "use": "sig", "alg": algorithm})
    material = _pem(private_key).encode()
    return KeySet(algorithm, next(iter(verifying)), signing_key, verifying, tuple(public), material)


def _construct(key: str, algorithm: str) -> Any:
    try:
        return jwk.construct(key, algorithm)
    except JOSEError as error:
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


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
