"""Password hashes of other systems that passlib does not know: they are only checked, never made."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MAXIMUM_SCRYPT_BYTES: Final = 2**28
MAXIMUM_SCRYPT_WORK: Final = 2**22
"""N times r times p: about 4 s."""
MINIMUM_DIGEST: Final = 16
"""Bytes: shorter ones are guessed."""
_WHOLE: Final = frozenset({64})
_PHC_LENGTHS: Final = frozenset({32, 64})
"""Of scrypt's digests. What is cut off from one would still fit, so that its length has to be known."""
MAXIMUM_ITERATIONS: Final = {"sha1": 10_000_000, "sha224": 10_000_000, "sha256": 10_000_000}
OTHER_ITERATIONS: Final = 4_000_000
"""About 4 s."""

_DAMAGED: Final = "a damaged hash"
_TOO_COSTLY: Final = "a hash that takes too long to check"

_NUMBER: Final = "([1-9][0-9]{0,9})"
_BASE64: Final = "([A-Za-z0-9+/_.-]+={0,2})"
_DIGEST: Final = "(sha1|sha224|sha256|sha384|sha512)"
_WERKZEUG_SCRYPT: Final = re.compile(rf"scrypt:{_NUMBER}:{_NUMBER}:{_NUMBER}\$([^$]+)\$((?:[0-9a-f]{{2}})+)")
_WERKZEUG_PBKDF2: Final = re.compile(rf"pbkdf2:{_DIGEST}:{_NUMBER}\$([^$]+)\$((?:[0-9a-f]{{2}})+)")
_DJANGO_PBKDF2: Final = re.compile(rf"pbkdf2_(sha1|sha256)\${_NUMBER}\$([^$]+)\$([A-Za-z0-9+/]+=)")
_DJANGO_SCRYPT: Final = re.compile(
    rf"scrypt\${_NUMBER}\$([^$]+)\${_NUMBER}\${_NUMBER}\$([A-Za-z0-9+/]{{86}}==)"
)
_SCRYPT: Final = re.compile(rf"\$scrypt\$ln={_NUMBER},r={_NUMBER},p={_NUMBER}\${_BASE64}\${_BASE64}")
_PBKDF2: Final = re.compile(rf"\$pbkdf2-{_DIGEST}\$i={_NUMBER}(?:,l={_NUMBER})?\${_BASE64}\${_BASE64}")
_FIREBASE: Final = re.compile(
    rf"\$fbscrypt\$v=1,n={_NUMBER},r={_NUMBER},p={_NUMBER}(?:,ss={_BASE64})?,sk={_BASE64}\${_BASE64}\${_BASE64}"
)
_STARTS: Final = ("scrypt:", "scrypt$", "$scrypt$", "pbkdf2:", "pbkdf2_sha", "$fbscrypt$")


class ForeignHash(NamedTuple):
    """A hash that was understood: its scheme, what computes its digest for a password, and that digest."""

    scheme: str
    derive: Callable[[bytes], bytes]
    digest: bytes

    def fits(self, password: str) -> bool:
        """Whether it was made of this password."""
        return hmac.compare_digest(self.derive(password.encode()), self.digest)


def foreign_hash(hashed: str) -> ForeignHash | None:
    """What the text says: scrypt of Werkzeug, Django and Firebase, PBKDF2 of Werkzeug and Django, and both in
    PHC's form. None where it is something else. Raises `ValueError` for a damaged one, and for one that takes
    more than some 4 s or 256 MiB to check."""
    if found := _WERKZEUG_SCRYPT.fullmatch(hashed):
        n, r, p, salt, digest = found.groups()
        return _scrypt(int(n), int(r), int(p), salt.encode(), bytes.fromhex(digest), _WHOLE)
    if found := _DJANGO_SCRYPT.fullmatch(hashed):
        n, salt, r, p, digest = found.groups()
        return _scrypt(int(n), int(r), int(p), salt.encode(), _decoded(digest), _WHOLE)
    if found := _SCRYPT.fullmatch(hashed):
        logarithm, r, p, salt, digest = found.groups()
        return _scrypt(_power(logarithm), int(r), int(p), _decoded(salt), _decoded(digest), _PHC_LENGTHS)
    if found := _FIREBASE.fullmatch(hashed):
        logarithm, r, p, separator, key, salt, digest = found.groups()
        seasoning = _decoded(salt) + _decoded(separator or "")
        return _firebase(_power(logarithm), int(r), int(p), seasoning, _decoded(key), _decoded(digest))
    if found := _WERKZEUG_PBKDF2.fullmatch(hashed):
        name, iterations, salt, digest = found.groups()
        return _pbkdf2(name, int(iterations), salt.encode(), bytes.fromhex(digest))
    if found := _DJANGO_PBKDF2.fullmatch(hashed):
        name, iterations, salt, digest = found.groups()
        return _pbkdf2(name, int(iterations), salt.encode(), _decoded(digest))
    if found := _PBKDF2.fullmatch(hashed):
        name, iterations, length, salt, digest = found.groups()
        return _pbkdf2(name, int(iterations), _decoded(salt), _decoded(digest), length)
    if hashed.startswith(_STARTS):
        raise ValueError(_DAMAGED)
    return None


def _decoded(text: str) -> bytes:
    """Base64 in any of its alphabets, with or without padding; `.` is passlib's plus."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/").replace(".", "+")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError as error:
        raise ValueError(_DAMAGED) from error


def _power(logarithm: str) -> int:
    if int(logarithm) > 31:
        raise ValueError(_TOO_COSTLY)
    return 1 << int(logarithm)


def _scrypt(n: int, r: int, p: int, salt: bytes, digest: bytes, lengths: frozenset[int]) -> ForeignHash:
    if len(digest) not in lengths:
        raise ValueError(_DAMAGED)
    return ForeignHash("scrypt", _scrypt_of(n, r, p, salt, len(digest)), digest)


def _scrypt_of(n: int, r: int, p: int, salt: bytes, length: int) -> Callable[[bytes], bytes]:
    """RFC 7914."""
    if n < 2 or n & (n - 1):
        raise ValueError(_DAMAGED)
    # OpenSSL's own count of what it takes.
    if 128 * r * (n + p + 2) > MAXIMUM_SCRYPT_BYTES or n * r * p > MAXIMUM_SCRYPT_WORK:
        raise ValueError(_TOO_COSTLY)
    return lambda password: hashlib.scrypt(
        password, salt=salt, n=n, r=r, p=p, maxmem=2 * MAXIMUM_SCRYPT_BYTES, dklen=length
    )


def _firebase(n: int, r: int, p: int, salt: bytes, signer_key: bytes, digest: bytes) -> ForeignHash:
    """Firebase encrypts the project's signer key with what scrypt gives."""
    if not MINIMUM_DIGEST <= len(digest) == len(signer_key):
        raise ValueError(_DAMAGED)
    key_of = _scrypt_of(n, r, p, salt, 32)

    def derive(password: bytes) -> bytes:
        encryptor = Cipher(algorithms.AES(key_of(password)), modes.CTR(bytes(16))).encryptor()
        return encryptor.update(signer_key) + encryptor.finalize()

    return ForeignHash("firebase_scrypt", derive, digest)


def _pbkdf2(name: str, iterations: int, salt: bytes, digest: bytes, length: str | None = None) -> ForeignHash:
    """RFC 8018. Where no length is said, it is that of the hash function."""
    size = hashlib.new(name, usedforsecurity=False).digest_size
    if not MINIMUM_DIGEST <= len(digest) == int(length or size):
        raise ValueError(_DAMAGED)
    if iterations * -(-len(digest) // size) > MAXIMUM_ITERATIONS.get(name, OTHER_ITERATIONS):
        raise ValueError(_TOO_COSTLY)
    return ForeignHash(
        f"pbkdf2_{name}",
        lambda password: hashlib.pbkdf2_hmac(name, password, salt, iterations, len(digest)),
        digest,
    )
