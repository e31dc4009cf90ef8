"""Bodies of the routes for passkeys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from ...schemas import Body, DeviceValue, Email, Flag, OwnName, Schema, Text
from .credentials import Assertion, Registration

PasskeyName = Annotated[OwnName, Field(examples=["My phone"])]


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
