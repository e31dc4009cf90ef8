"""An authenticator that does whatever a test wants, and what an independent library says of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers import parse_authentication_options_json, parse_registration_options_json
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import WebAuthnException

from fastapi_pluggable_auth.features.passkeys.credentials import decoded, encoded
from fastapi_pluggable_auth.features.passkeys.testing import (
    BACKED_UP,
    ELIGIBLE,
    PRESENT,
    VERIFIED,
    SoftwareAuthenticator,
    cbor,
)

ORIGIN = "http://localhost:8000"
RP_ID = "localhost"
ATTESTED = 0x40
ORDINARY = PRESENT | VERIFIED | ELIGIBLE | BACKED_UP
ALGORITHMS = [COSEAlgorithmIdentifier(number) for number in (-7, -8, -257)]

AnyKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def p256() -> ec.EllipticCurvePrivateKey:
    """A key as nearly all are."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Forger:
    """A credential, and what is said with it: `client` goes over the client data, `sent` over the response,
    and `told` over the credential itself."""

    key: AnyKey = field(default_factory=p256)
    id: bytes = field(default_factory=lambda: os.urandom(16))
    handle: bytes | None = None
    flags: int = ORDINARY
    counter: int = 0
    rp_id: str = RP_ID
    client: dict[str, Any] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)
    told: dict[str, Any] = field(default_factory=dict)
    cose: dict[int, Any] | None = None
    attested: bool = True
    extra: bytes = b""

    @property
    def public_key(self) -> dict[int, Any]:
        """As COSE has it (RFC 9053 section 7, RFC 8230 section 4)."""
        key = self.key
        if self.cose is not None:
            return self.cose
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return {1: 1, 3: -8, -1: 6, -2: key.public_key().public_bytes_raw()}
        if isinstance(key, rsa.RSAPrivateKey):
            numbers = key.public_key().public_numbers()
            return {1: 3, 3: -257, -1: _bytes(numbers.n), -2: _bytes(numbers.e)}
        point, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
        curve, algorithm = {256: (1, -7), 384: (2, -35)}[key.key_size]
        return {1: 2, 3: algorithm, -1: curve, -2: point.x.to_bytes(size), -3: point.y.to_bytes(size)}

    def create(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """A new credential for these options."""
        self.handle = decoded(options["user"]["id"])
        data = self._data(self.flags | (ATTESTED if self.attested else 0))
        if self.attested:
            data += bytes(16) + len(self.id).to_bytes(2) + self.id + cbor(self.public_key)
        attestation = {"fmt": "none", "attStmt": {}, "authData": data + self.extra}
        response = {
            "clientDataJSON": encoded(self._said("webauthn.create", options)),
            "attestationObject": encoded(cbor(attestation)),
            "transports": ["internal"],
        }
        return self._credential(response)

    def get(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What it signs for these options."""
        said, data = self._said("webauthn.get", options), self._data(self.flags) + self.extra
        response = {
            "clientDataJSON": encoded(said),
            "authenticatorData": encoded(data),
            "signature": encoded(self._sign(data + hashlib.sha256(said).digest())),
            **({} if self.handle is None else {"userHandle": encoded(self.handle)}),
        }
        return self._credential(response)

    def _sign(self, message: bytes) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(message)
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def _said(self, kind: str, options: Mapping[str, Any]) -> bytes:
        said = {"type": kind, "challenge": options["challenge"], "origin": ORIGIN, "crossOrigin": False}
        return json.dumps(said | self.client).encode()

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags]) + self.counter.to_bytes(4)

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": encoded(self.id),
            "rawId": encoded(self.id),
            "type": "public-key",
            "response": response | self.sent,
            "clientExtensionResults": {},
            **self.told,
        }


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)


class Checked(SoftwareAuthenticator):
    """An ordinary one, of which the independent library accepts whatever it makes."""

    def create(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The same."""
        made, asked = super().create(options), options["authenticatorSelection"]["userVerification"]
        present = asked != "preferred"  # where the browser makes one by itself
        assert other_library_registers(dict(options), made, verified=asked == "required", present=present)
        return made

    def get(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The same."""
        signed = super().get(options)
        public, verified = self.credentials[decoded(signed["id"])].public_key, options["userVerification"]
        assert other_library_signs_in(dict(options), signed, public, verified=verified == "required")
        return signed


def other_library_registers(
    options: dict[str, Any], credential: dict[str, Any], *, verified: bool, present: bool = True
) -> bool:
    """Whether `webauthn` takes this new credential for an answer to these options, which it has to read."""
    asked = parse_registration_options_json(options)
    try:
        found = verify_registration_response(
            credential=credential,
            expected_challenge=asked.challenge,
            expected_rp_id=RP_ID,
            expected_origin=ORIGIN,
            require_user_presence=present,
            require_user_verification=verified,
            supported_pub_key_algs=ALGORITHMS,
        )
    except (WebAuthnException, KeyError, TypeError):  # the latter two for CBOR of another form
        return False
    return found.credential_id == decoded(credential["id"])


def other_library_signs_in(
    options: dict[str, Any],
    credential: dict[str, Any],
    public_key: dict[int, Any],
    *,
    verified: bool,
    counter: int = 0,
) -> bool:
    """Whether `webauthn` takes this for a signature of the key, in answer to these options."""
    asked = parse_authentication_options_json(options)
    try:
        verify_authentication_response(
            credential=credential,
            expected_challenge=asked.challenge,
            expected_rp_id=RP_ID,
            expected_origin=ORIGIN,
            credential_public_key=cbor(public_key),
            credential_current_sign_count=counter,
            require_user_verification=verified,
        )
    except WebAuthnException:
        return False
    return True
