"""The keys that sign and verify: JSON Web Signatures (RFC 7515) under one configured algorithm (RFC 8725)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import jose.jwk
import jose.jws
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ..config import AuthSettings, is_local
from .strength import is_published, weakness

MAXIMUM_TOKEN_BYTES: Final = 8192
MINIMUM_RSA_BITS: Final = 2048
CURVE_BITS: Final = {"ES256": 256, "ES384": 384, "ES512": 521}
THUMBPRINT_MEMBERS: Final = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y")}
"""RFC 7638 section 3.2."""

_FOREIGN_SECRET: Final = re.compile("-----BEGIN|ssh-|ecdsa-|@openssh")
"""What marks a key of another kind, which is not secret."""

_COMPACT: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)


_TEST_HOSTS: Final = frozenset({"test", "testserver"})
"""What tests call the app: no name of a server (RFC 6761 section 6.2), and the one of Starlette's client."""

MEND: Final = "Set one of your own: `openssl rand -base64 48`."


class KeyConfigurationError(ValueError):
    """The keys in the settings cannot sign, or others may know them. Says which setting, and no key."""


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """What is wrong with a key, in one sentence, and whether it keeps the app from starting."""

    setting: str
    sentence: str
    refused: bool


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
    materials: tuple[bytes, ...] = field(repr=False)
    """What the signing key is made of, and then each other one whose private half is there."""

    def derive(self, purpose: str) -> bytes:
        """A key for another purpose, from which nobody learns anything about the signing key (RFC 5869)."""
        return next(self.derive_each(purpose))

    def derive_each(self, purpose: str) -> Iterator[bytes]:
        """The same from the signing key, and then from each earlier one that is more than a public half."""
        for material in self.materials:
            hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose.encode())
            yield hkdf.derive(material)

    def sign(self, claims: dict[str, Any], typ: str) -> str:
        """A compact token whose header names its type and the key."""
        headers = {"typ": typ, "kid": self.signing_id}
        token: str = jose.jws.sign(claims, self.signing_key, headers=headers, algorithm=self.algorithm)
        return token

    def open(self, token: str, typ: str) -> dict[str, Any]:
        """The claims of a token of this type; raises `SignatureError`.

        The key is looked up by `kid` in the configured set and never taken from the token: `jwk`, `jku`,
        `x5u` and `x5c` mean nothing. A token without `kid`, as 0.1 signed them, is tried with each of them.
        """
        if len(token) > MAXIMUM_TOKEN_BYTES or not _COMPACT.fullmatch(token):
            raise SignatureError
        try:
            header = jose.jws.get_unverified_header(token)
            # python-jose skips critical extensions that it does not know (RFC 7515 section 4.1.11).
            if "crit" in header or _media_type(header.get("typ")) != typ:
                raise SignatureError
            claims = json.loads(self._verified(token, self._keys_for(header)))
        except (jose.exceptions.JOSEError, ValueError, RecursionError) as error:
            raise SignatureError from error
        if not isinstance(claims, dict):
            raise SignatureError
        return claims

    def _keys_for(self, header: dict[str, Any]) -> list[Any]:
        if "kid" not in header:
            return [*self.verifying.values()]
        key_id = header["kid"]
        return [self.verifying[key_id]] if isinstance(key_id, str) and key_id in self.verifying else []

    def _verified(self, token: str, keys: list[Any]) -> bytes:
        """The payload of a token that one of these keys signed. Raises `SignatureError`."""
        for key in keys:
            with suppress(jose.exceptions.JWSError):
                payload: bytes = jose.jws.verify(token, key, algorithms=[self.algorithm])
                return payload
        raise SignatureError


def _media_type(typ: object) -> str | None:
    """The header `typ` in one spelling: case does not count, and `application/` may be left out (RFC 7515
    section 4.1.9)."""
    return typ.lower().removeprefix("application/") if isinstance(typ, str) else None


def check_keys(settings: AuthSettings) -> None:
    """Raises `KeyConfigurationError` where the keys of the settings cannot sign. Makes no key of a plain
    secret, of which any will do."""
    if not settings.jwt_algorithm.startswith("HS") or _has_foreign_secret(settings):
        key_set(settings)


def _has_foreign_secret(settings: AuthSettings) -> bool:
    return any(map(_FOREIGN_SECRET.search, (settings.jwt_secret, *settings.jwt_previous_keys)))


def key_problems(settings: AuthSettings) -> Iterator[KeyProblem]:
    """What is wrong with each secret that signs, verifies or encrypts: of a key pair nobody chose a bit."""
    base_url, totp_key = settings.public_base_url, settings.totp_encryption_key
    if settings.jwt_algorithm.startswith("HS"):
        yield from _problem("AUTH_JWT_SECRET", settings.jwt_secret, base_url, _signing_mend)
        for key in settings.jwt_previous_keys:
            yield from _problem("AUTH_JWT_PREVIOUS_KEYS", key, base_url, _previous_mend)
    if totp_key is not None:
        yield from _problem("AUTH_TOTP_ENCRYPTION_KEY", totp_key, base_url, _sealing_mend)
    for key in settings.totp_previous_keys:
        yield from _problem("AUTH_TOTP_PREVIOUS_KEYS", key, base_url, _sealing_mend)


def secret_problem(settings: AuthSettings) -> str | None:
    """What is wrong with the keys that sign and verify, in one sentence."""
    return next((each.sentence for each in key_problems(settings) if "JWT" in each.setting), None)


def is_refused(secret: str, base_url: str) -> bool:
    """Whether this secret must not sign or verify where users reach the app at this address. On this machine
    a weak one may; a published one never does: there the process draws another in its place."""
    if is_published(secret):
        return True
    lenient = is_local(base_url) or _is_of_tests(base_url)
    return not lenient and weakness(secret) is not None


def sharing_problem(settings: AuthSettings) -> str | None:
    """Why no other process could verify what this one signs, in one sentence."""
    if settings.jwt_algorithm.startswith("HS") and is_published(settings.jwt_secret):
        return (
            "AUTH_JWT_SECRET is not set, or is a placeholder: the app would refuse what is signed here. "
            + MEND
        )
    try:
        key_set(settings)
    except KeyConfigurationError as error:
        return str(error)
    return None


def _is_of_tests(base_url: str) -> bool:
    url = urlsplit(base_url)
    return url.scheme == "http" and url.hostname in _TEST_HOSTS


def _problem(
    setting: str, secret: str, base_url: str, mend: Callable[[bool, bool], str]
) -> Iterator[KeyProblem]:
    weak = weakness(secret)
    if weak is not None:
        local, published = is_local(base_url), is_published(secret)
        refused = not local and is_refused(secret, base_url)
        yield KeyProblem(setting, f"{setting} {weak}. {mend(local, published)}", refused)


def _signing_mend(local: bool, published: bool) -> str:
    if not (local and published):
        return MEND
    return (
        "This process signs with a random one instead: a restart or a second worker refuses its tokens. "
        + MEND.replace("one of your own", "AUTH_JWT_SECRET")
    )


def _previous_mend(local: bool, published: bool) -> str:
    return "It is ignored; remove it." if local and published else "Remove it: its tokens end."


def _sealing_mend(local: bool, published: bool) -> str:
    return (
        "Set another, name this one in AUTH_TOTP_PREVIOUS_KEYS, run `fastapi-pluggable-auth keys seal`, and "
        "remove this one before the app starts."
    )


@cache
def _secret_of_process() -> str:
    """Signs where the settings have no secret, for this process and as long as it runs."""
    return secrets.token_urlsafe(64)


def key_set(settings: AuthSettings) -> KeySet:
    """The keys of the settings, built once for each set of values. Raises `KeyConfigurationError`, also for
    secrets that others may know: what they sign is refused however the settings came here."""
    made = _built(
        settings.jwt_algorithm,
        settings.jwt_secret,
        settings.jwt_private_key,
        tuple(settings.jwt_previous_keys),
        settings.public_base_url,
    )
    if isinstance(made, str):
        raise KeyConfigurationError(made)
    return made


@lru_cache(maxsize=16)
def _built(*values: Any) -> KeySet | str:
    """The keys, or what is wrong with them: no frame of the error that is raised has one among its variables,
    which error trackers keep."""
    try:
        return _build(*values)
    except KeyConfigurationError as error:
        return str(error)


def _build(
    algorithm: str, secret: str, private_key: str | None, previous: tuple[str, ...], base_url: str
) -> KeySet:
    if algorithm.startswith("HS"):
        return _of_secrets(algorithm, *_usable(secret, previous, base_url))
    if private_key is None:
        raise KeyConfigurationError(
            f"AUTH_JWT_ALGORITHM is {algorithm}, but AUTH_JWT_PRIVATE_KEY is not set."
        )
    pem = _pem("AUTH_JWT_PRIVATE_KEY", private_key)
    signing_key = _construct("AUTH_JWT_PRIVATE_KEY", pem, algorithm)
    if signing_key.is_public():
        raise KeyConfigurationError("AUTH_JWT_PRIVATE_KEY is a public key.")
    name = "AUTH_JWT_PREVIOUS_KEYS"
    others = [(name, _construct(name, _pem(name, each), algorithm)) for each in previous]
    verifying, public, materials = {}, [], []
    for setting, key in (("AUTH_JWT_PRIVATE_KEY", signing_key), *others):
        _check_strength(setting, key, algorithm)
        public_key = key if key.is_public() else key.public_key()
        if not key.is_public():
            materials.append(_private_bytes(key))
        members = {name: as_text(value) for name, value in public_key.to_dict().items()}
        key_id = _thumbprint(members)
        verifying[key_id] = public_key
        public.append({**members, "kid": key_id, "use": "sig", "alg": algorithm})
    return KeySet(algorithm, next(iter(verifying)), signing_key, verifying, tuple(public), tuple(materials))


def _usable(secret: str, previous: tuple[str, ...], base_url: str) -> tuple[str, tuple[str, ...]]:
    """The secrets that sign and verify at this address. Raises `KeyConfigurationError`."""
    if is_local(base_url):
        good = tuple(each for each in previous if not is_published(each))
        return (_secret_of_process() if is_published(secret) else secret), good
    for setting, each in (
        ("AUTH_JWT_SECRET", secret),
        *(("AUTH_JWT_PREVIOUS_KEYS", key) for key in previous),
    ):
        if is_refused(each, base_url):
            raise KeyConfigurationError(f"{setting} {weakness(each)}. {MEND}")
    return secret, previous


def _of_secrets(algorithm: str, secret: str, previous: tuple[str, ...]) -> KeySet:
    named = (("AUTH_JWT_SECRET", secret), *(("AUTH_JWT_PREVIOUS_KEYS", each) for each in previous))
    keys = {_secret_id(each): _construct(setting, each, algorithm) for setting, each in named}
    signing_id = _secret_id(secret)
    materials = tuple(each.encode() for _, each in named)
    return KeySet(algorithm, signing_id, keys[signing_id], keys, (), materials)


def _construct(setting: str, key: str, algorithm: str) -> Any:
    # Raised outside the handler: what the libraries say of a key may hold it.
    with suppress(jose.exceptions.JOSEError, ValueError, TypeError):
        return jose.jwk.construct(key, algorithm)
    raise KeyConfigurationError(f"{setting} does not fit AUTH_JWT_ALGORITHM {algorithm}, or is damaged.")


def _pem(setting: str, text: str) -> str:
    """PEM text (in which `\\n` may stand for line breaks), or what is in the file of this path."""
    if text.lstrip().startswith("-----BEGIN"):
        return text.replace("\\n", "\n").strip()
    with suppress(OSError, ValueError):  # both name the path, which may be a key
        return Path(text).read_text("ascii")
    raise KeyConfigurationError(f"{setting} is neither PEM text nor the path of a readable PEM file.")


def _check_strength(setting: str, key: Any, algorithm: str) -> None:
    bits = key.prepared_key.key_size
    if algorithm.startswith("RS") and bits < MINIMUM_RSA_BITS:
        raise KeyConfigurationError(
            f"{setting}: an RSA key has {bits} bits; {MINIMUM_RSA_BITS} is the least."
        )
    if algorithm in CURVE_BITS and bits != CURVE_BITS[algorithm]:
        raise KeyConfigurationError(
            f"{setting}: {algorithm} needs a curve of {CURVE_BITS[algorithm]} bits, not {bits}."
        )


def _secret_id(secret: str) -> str:
    """A name for a secret that tells nothing about a random one."""
    return hmac.new(secret.encode(), b"kid", hashlib.sha256).hexdigest()[:16]


def _private_bytes(key: Any) -> bytes:
    """The same for a key however its PEM file spells it."""
    encoded: bytes = key.prepared_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return encoded


def _thumbprint(members: dict[str, str]) -> str:
    """RFC 7638."""
    required = {name: members[name] for name in THUMBPRINT_MEMBERS[members["kty"]]}
    digest = hashlib.sha256(json.dumps(required, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def as_text(value: str | bytes) -> str:
    """PEM and the members of a JSON Web Key are ASCII; python-jose gives some as bytes."""
    return value.decode() if isinstance(value, bytes) else value
