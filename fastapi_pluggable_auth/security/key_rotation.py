"""New signing keys in place of the present ones."""

from __future__ import annotations

import secrets
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ..config import AuthSettings
from .keys import KeyConfigurationError, as_text, is_refused, key_set

RSA_BITS: Final = 3072
"""NIST SP 800-57 part 1, table 2, for use after 2030."""
SECRET_BYTES: Final = 64
"""For every algorithm: RFC 7518 section 3.2 asks for as many as the hash has."""
_CURVES: Final = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


def rotated_keys(settings: AuthSettings, *, keep: int = 1) -> dict[str, str]:
    """The names (without the prefix) and new values of the settings after a rotation: a new signing key for
    the algorithm, and the present one as the first of `keep` previous ones. A secret that others may know is
    not kept. Raises `KeyConfigurationError`."""
    if settings.jwt_algorithm.startswith("HS"):
        name, new = "JWT_SECRET", secrets.token_urlsafe(SECRET_BYTES)
        present = (settings.jwt_secret, *settings.jwt_previous_keys)
        previous = [each for each in present if not is_refused(each, settings.public_base_url)]
    else:
        keys = key_set(settings)
        name, new = "JWT_PRIVATE_KEY", _one_line(_new_private_key(settings.jwt_algorithm))
        # With its private half: mailed links are checked by what only that gives.
        previous = [*map(_one_line, (keys.signing_key.to_pem(), *settings.jwt_previous_keys))]
    kept = previous[:keep]
    if any("," in key or key != key.strip() for key in kept):
        raise KeyConfigurationError(
            "A key has a comma or a space at an end: AUTH_JWT_PREVIOUS_KEYS cannot hold it."
        )
    return {name: new, "JWT_PREVIOUS_KEYS": ",".join(kept)}


def _new_private_key(algorithm: str) -> bytes:
    curve = _CURVES.get(algorithm)
    key = rsa.generate_private_key(65537, RSA_BITS) if curve is None else ec.generate_private_key(curve)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _one_line(key: str | bytes) -> str:
    """As a `.env` file holds it: `_pem` puts the line breaks back."""
    return as_text(key).strip().replace("\n", "\\n")
