"""What an authenticator has made or signed, checked as WebAuthn Level 3 sections 7.1 and 7.2 say."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

from cryptography.exceptions import InvalidSignature

try:
    from fido2 import cbor
    from fido2.cose import CoseKey
    from fido2.rpid import verify_rp_id
    from fido2.webauthn import AttestationObject, AuthenticatorData, CollectedClientData
except ImportError as error:
    raise ImportError("Passkeys need fido2: pip install 'fastapi-pluggable-auth[passkeys]'") from error

T = TypeVar("T")

ALGORITHMS: Final = (-7, -8, -257)
"""ES256, EdDSA and RS256 (RFC 9053, RFC 8812), in the order in which they are asked for."""

MAXIMUM_KEY_BYTES: Final = 1100
"""Of an RSA key of 8,192 bits."""

MAXIMUM_ID_BYTES: Final = 1023


class CeremonyError(Exception):
    """What was sent is not what was asked for. Says why, for the log."""


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """The domain that passkeys are for, and the origins of the pages that may use them."""

    id: str
    name: str
    origins: frozenset[str]


@dataclass(frozen=True, slots=True)
class Policy:
    """What one kind of ceremony asks of the authenticator, and is checked: that it verifies the user, and
    that the user is present, which may be left out where the browser makes one by itself."""

    verifies_user: bool
    present: bool = True


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential that was made just now."""

    credential_id: bytes
    public_key: bytes = field(repr=False)
    counter: int
    aaguid: UUID
    backup_eligible: bool
    backed_up: bool


@dataclass(frozen=True, slots=True)
class Use:
    """What an authenticator says of itself when it signs."""

    counter: int
    backup_eligible: bool
    backed_up: bool


def may_be_rp_id(rp_id: str, host: str) -> bool:
    """Whether passkeys of this domain can be used on this host: it is the domain, or below it, and the domain
    is not one under which anybody may register."""
    return bool(verify_rp_id(rp_id, f"https://{host}"))


def challenge_in(client_data: bytes) -> bytes:
    """The challenge that was signed. Raises `CeremonyError`."""
    return _parsed(CollectedClientData, client_data).challenge


def check_registration(
    party: RelyingParty, policy: Policy, challenge: bytes, client_data: bytes, attestation: bytes
) -> NewCredential:
    """The new credential (section 7.1). The attestation is not looked at, as none is asked for. Raises
    `CeremonyError`."""
    _check_client(party, "webauthn.create", challenge, client_data)
    data = _parsed(AttestationObject, attestation).auth_data
    _check_authenticator(party, policy, data)
    made = data.credential_data
    if made is None:
        raise CeremonyError("no credential")
    if not 0 < len(made.credential_id) <= MAXIMUM_ID_BYTES:
        raise CeremonyError("length of the credential id")
    public_key = _parsed(cbor.encode, made.public_key)
    if len(public_key) > MAXIMUM_KEY_BYTES:
        raise CeremonyError("length of the public key")
    if _verifies(public_key, b"", b""):  # raises for a key that none can be
        raise CeremonyError("a key that takes any signature")
    return NewCredential(
        credential_id=made.credential_id,
        public_key=public_key,
        counter=data.counter,
        aaguid=UUID(bytes=bytes(made.aaguid)),
        backup_eligible=data.is_backup_eligible(),
        backed_up=data.is_backed_up(),
    )


def check_assertion(
    party: RelyingParty,
    policy: Policy,
    challenge: bytes,
    client_data: bytes,
    authenticator_data: bytes,
    signature: bytes,
    public_key: bytes,
) -> Use:
    """What the credential of this key says (section 7.2). Whose it is, and its counter, are left to the
    caller. Raises `CeremonyError`."""
    _check_client(party, "webauthn.get", challenge, client_data)
    data = _parsed(AuthenticatorData, authenticator_data)
    _check_authenticator(party, policy, data)
    if not _verifies(public_key, authenticator_data + hashlib.sha256(client_data).digest(), signature):
        raise CeremonyError("signature")
    return Use(data.counter, data.is_backup_eligible(), data.is_backed_up())


def _check_client(
    party: RelyingParty, kind: Literal["webauthn.create", "webauthn.get"], challenge: bytes, sent: bytes
) -> None:
    client = _parsed(CollectedClientData, sent)
    if client.type != kind:
        raise CeremonyError("type")
    if not hmac.compare_digest(client.challenge, challenge):
        raise CeremonyError("challenge")
    if (
        not isinstance(client.origin, str) or client.origin not in party.origins
    ):  # exactly: a subdomain may be anybody's
        raise CeremonyError("origin")
    if client.cross_origin is not False:
        raise CeremonyError("inside a page of another site")


def _check_authenticator(party: RelyingParty, policy: Policy, data: AuthenticatorData) -> None:
    if not hmac.compare_digest(data.rp_id_hash, hashlib.sha256(party.id.encode()).digest()):
        raise CeremonyError("RP ID")
    if policy.present and not data.is_user_present():
        raise CeremonyError("user not present")
    if policy.verifies_user and not data.is_user_verified():
        raise CeremonyError("user not verified")
    if data.is_backed_up() and not data.is_backup_eligible():
        raise CeremonyError("backed up, but not eligible")


def _verifies(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is right. Raises `CeremonyError` for what is not a key of a known algorithm."""
    key = _parsed(lambda text: CoseKey.parse(_mapping(cbor.decode(text))), public_key)
    if key.ALGORITHM not in ALGORITHMS:
        raise CeremonyError("algorithm")
    try:
        key.verify(message, signature)
    except InvalidSignature:
        return False
    except Exception as error:
        raise CeremonyError("public key") from error
    return True


def _mapping(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise CeremonyError("public key")
    return value


def _parsed(parse: Callable[[Any], T], sent: Any) -> T:
    """Raises `CeremonyError` for anything that is wrong with what anybody may send."""
    try:
        return parse(sent)
    except Exception as error:
        raise CeremonyError("form") from error
