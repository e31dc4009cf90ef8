"""Bodies of the routes for passkeys. What browsers send is as WebAuthn Level 3 section 5.1 has it in JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

from ...schemas import Body, DeviceValue, Email, Flag, Schema, Text, documented, single_line
from .models import CREDENTIAL_LENGTH

TRANSPORTS: Final = frozenset({"ble", "hybrid", "internal", "nfc", "smart-card", "usb"})


def _decodable(value: str) -> str:
    if len(value) % 4 == 1:
        raise PydanticCustomError("base64url", "String is not base64url")
    return value


Encoded = Annotated[
    str,
    Strict(),
    Field(pattern=r"^[A-Za-z0-9_-]*$", max_length=16384, examples=["AAEC"]),
    AfterValidator(_decodable),
]
"""Bytes in base64url, without the signs that fill it up (RFC 4648 section 5)."""

CredentialId = Annotated[
    str,
    Strict(),
    Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=CREDENTIAL_LENGTH, examples=["the-id-of-the-credential"]),
]
PasskeyName = Annotated[
    Text,
    Field(max_length=64, examples=["My phone"]),
    AfterValidator(single_line),
    Field(min_length=1),
    documented(
        pattern=r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*[^\u0000-\u0020\u007f-\u00a0\u2028\u2029]"
    ),
]


class _FromBrowser(Schema):
    """What `PublicKeyCredential.toJSON()` gives; browsers may say more."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class RegistrationResponse(_FromBrowser):
    """The `response` of a new credential."""

    clientDataJSON: Encoded
    attestationObject: Encoded
    transports: Annotated[
        list[Annotated[str, Strict(), Field(max_length=32)]], Field(max_length=16, default_factory=list)
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


class PasskeyLogin(Body):
    """A login by a passkey; `device` and `remember` are like those of a login by password."""

    credential: Assertion
    device: DeviceValue | None = Field(default=None, repr=False)
    remember: Flag = True


class PasskeyProof(Body):
    """A passkey, shown once more."""

    credential: Assertion


class PasskeyOptions(Body):
    """What the passkey is for: with `second_factor`, beside a password and never alone. An `upgrade` is one
    that the browser may make by itself, after a login."""

    second_factor: Flag = False
    upgrade: Flag = False


class PasskeySignUpOptions(Body):
    """The address that is to sign up with a passkey."""

    email: Email


class PasskeyCreate(Body):
    """A passkey to add. Without a name it has that of its maker."""

    name: PasskeyName | None = None
    credential: Registration


class PasskeyUpdate(Body):
    """What to change. With `keep`, one that was held when all access ended signs in again."""

    name: PasskeyName | None = None
    keep: Flag = False


class LinkProof(Body):
    """The token of a mailed link."""

    token: Annotated[Text, Field(max_length=8192, repr=False, examples=["the-token-of-the-mailed-link"])]


class LinkPasskey(LinkProof):
    """The token of a mailed link, and a passkey of the account."""

    credential: Assertion


class PasskeyOut(Schema):
    """A passkey. Times are UTC. One with `signs_in` is enough by itself; any other is a second factor. One
    that is `held` does not sign in until it is kept. `synced` is whether it is on more than one device."""

    id: UUID
    name: str
    signs_in: bool
    held: bool
    synced: bool
    transports: list[str]
    created_at: datetime
    last_used_at: datetime | None


class RelatedOrigins(Schema):
    """Origins that use the passkeys of this domain (WebAuthn Level 3 section 5.11)."""

    origins: list[str]


class PasskeyEndpoints(Schema):
    """Where users add passkeys and manage them (W3C, A Well-Known URL for Relying Party Passkey
    Endpoints)."""

    enroll: str
    manage: str
