"""An authenticator in software, for tests: it makes passkeys and signs with them, as a browser hands that
on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from .credentials import decoded, encoded

PRESENT: Final = 0x01
VERIFIED: Final = 0x04
ELIGIBLE: Final = 0x08
BACKED_UP: Final = 0x10
_ATTESTED: Final = 0x40


@dataclass(slots=True)
class Credential:
    """A passkey with its private key."""

    rp_id: str
    user_handle: bytes
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )
    id: bytes = field(default_factory=lambda: os.urandom(16))
    counter: int = 0

    @property
    def public_key(self) -> dict[int, Any]:
        """As COSE has it (RFC 9053 section 7.1.1)."""
        numbers = self.key.public_key().public_numbers()
        return {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}


@dataclass(slots=True)
class SoftwareAuthenticator:
    """Makes and keeps passkeys, for pages of this `origin`. `flags` are what it says of its user, and of
    backups (WebAuthn Level 3 section 6.1)."""

    origin: str
    flags: int = PRESENT | VERIFIED | ELIGIBLE | BACKED_UP
    aaguid: bytes = bytes(16)
    credentials: dict[bytes, Credential] = field(default_factory=dict)

    def create(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What `navigator.credentials.create()` gives for these options, in JSON. Raises `ValueError` where
        it has one of those that are excluded."""
        if any(decoded(each["id"]) in self.credentials for each in options.get("excludeCredentials", ())):
            raise ValueError("InvalidStateError: there is a passkey of this account here.")
        made = Credential(options["rp"]["id"], decoded(options["user"]["id"]))
        self.credentials[made.id] = made
        length = len(made.id).to_bytes(2)
        attested = self.aaguid + length + made.id + cbor(made.public_key)
        statement: dict[str, Any] = {}
        data = self._authenticator_data(made, self.flags | _ATTESTED) + attested
        response = {
            "clientDataJSON": encoded(self._client_data("webauthn.create", options)),
            "attestationObject": encoded(cbor({"fmt": "none", "attStmt": statement, "authData": data})),
            "transports": ["internal"],
        }
        return _credential(made, response) | {"clientExtensionResults": {"credProps": {"rk": True}}}

    def get(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What `navigator.credentials.get()` gives for these options, in JSON: by one that is allowed or,
        where none is named, the newest. Raises `LookupError` where it has none."""
        allowed = [decoded(each["id"]) for each in options.get("allowCredentials") or ()]
        theirs = [each for each in self.credentials.values() if each.rp_id == options["rpId"]]
        found = [each for each in theirs if each.id in allowed or not allowed]
        if not found:
            raise LookupError("NotAllowedError: there is no such passkey here.")
        client = self._client_data("webauthn.get", options)
        data = self._authenticator_data(found[-1], self.flags)
        signed = data + hashlib.sha256(client).digest()
        response = {
            "clientDataJSON": encoded(client),
            "authenticatorData": encoded(data),
            "signature": encoded(found[-1].key.sign(signed, ec.ECDSA(hashes.SHA256()))),
            "userHandle": encoded(found[-1].user_handle),
        }
        return _credential(found[-1], response)

    def _client_data(self, kind: str, options: Mapping[str, Any]) -> bytes:
        said = {"type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": False}
        return json.dumps(said).encode()

    def _authenticator_data(self, credential: Credential, flags: int) -> bytes:
        hashed = hashlib.sha256(credential.rp_id.encode()).digest()
        return hashed + bytes([flags]) + credential.counter.to_bytes(4)


def _credential(credential: Credential, response: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": encoded(credential.id),
        "rawId": encoded(credential.id),
        "type": "public-key",
        "response": {**response},
        "clientExtensionResults": {},
        "authenticatorAttachment": "platform",
    }


def cbor(value: Any) -> bytes:
    """A number, bytes, a text or a mapping of these (RFC 8949)."""
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        return _head(3, len(value.encode())) + value.encode()
    return _head(5, len(value)) + b"".join(cbor(each) for pair in value.items() for each in pair)


def _head(kind: int, number: int) -> bytes:
    if number < 24:
        return bytes([kind << 5 | number])
    size = next(size for size in (1, 2, 4) if number < 1 << 8 * size)
    return bytes([kind << 5 | 24 + size.bit_length() - 1]) + number.to_bytes(size)
