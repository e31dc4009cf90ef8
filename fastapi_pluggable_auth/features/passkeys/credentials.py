"""Credentials as browsers send them: JSON as WebAuthn Level 3 section 5.1 has it."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, Strict

from ...schemas import Schema
from .models import CREDENTIAL_LENGTH

TRANSPORTS: Final = frozenset({"ble", "hybrid", "internal", "nfc", "smart-card", "usb"})


Encoded = Annotated[
    str,
    Strict(),
    Field(pattern=r"^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2,3})?$", max_length=16384, examples=["AAEC"]),
]
"""Bytes in base64url, without the signs that fill it up (RFC 4648 section 5)."""

CredentialId = Annotated[
    str,
    Strict(),
    Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=CREDENTIAL_LENGTH, examples=["the-id-of-the-credential"]),
]


class _FromBrowser(Schema):
    """What `PublicKeyCredential.toJSON()` gives; browsers may say more."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class RegistrationResponse(_FromBrowser):
    """The `response` of a new credential."""

    clientDataJSON: Encoded
    attestationObject: Encoded
    transports: Annotated[
        list[Annotated[str, Strict(), Field(max_length=32, examples=["internal"])]],
        Field(max_length=16, default_factory=list),
    ]


class AssertionResponse(_FromBrowser):
    """The `response` of a credential that signs."""

    clientDataJSON: Encoded
    authenticatorData: Encoded
    signature: Encoded
    userHandle: Encoded | None = None


class Registration(_FromBrowser):
    """A new credential, as `navigator.credentials.create()` gives it."""

    id: CredentialId
    type: Literal["public-key"]
    response: RegistrationResponse
    clientExtensionResults: dict[str, Any] = Field(default_factory=dict)


class Assertion(_FromBrowser):
    """A credential that has signed, as `navigator.credentials.get()` gives it."""

    id: CredentialId
    type: Literal["public-key"]
    response: AssertionResponse


def encoded(value: bytes) -> str:
    """In base64url, without what fills it up."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """What was encoded so."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
