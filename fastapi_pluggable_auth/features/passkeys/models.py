"""The table of passkeys, and what becomes of them when access ends."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from tortoise import Model, fields
from tortoise.fields.base import OnDelete

from ...models.columns import NamesField
from ...models.lifetimes import HELD, AccessEnded, End, Reach
from ...models.moments import MomentField
from ...models.outward import Outward
from ...models.user import User

CREDENTIAL_LENGTH: Final = 1364
"""Characters of the longest credential id, of 1,023 bytes, in base64 (WebAuthn Level 3 section 4)."""


class AbstractPasskey(Outward, Model):
    """One passkey. The id that its authenticator knows it by is `credential_id`, in base64url, which `digest`
    keeps unique; `public_key` is a COSE key (RFC 9052) in base64url.

    One that `verifies_user`, by biometrics or a PIN, signs in by itself; any other is a second factor only.
    With `backup_eligible` it may be on several devices, and `backed_up` says whether it is. `held_since` is
    when all access ended: it does not sign in until its owner has kept it.
    """

    _withheld = frozenset({"digest", "credential_id", "public_key"})

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    digest = fields.CharField(max_length=64, unique=True)
    credential_id = fields.CharField(max_length=CREDENTIAL_LENGTH)
    public_key = fields.TextField()
    counter = fields.BigIntField(default=0)
    transports = NamesField(max_length=255)
    aaguid = fields.UUIDField()
    backup_eligible = fields.BooleanField()
    backed_up = fields.BooleanField()
    discoverable = fields.BooleanField(null=True)
    verifies_user = fields.BooleanField()
    held_since: datetime | None = MomentField(null=True)
    name = fields.CharField(max_length=64)
    last_used_at: datetime | None = MomentField(null=True)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class Passkey(AbstractPasskey):
    """A passkey of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_passkeys", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_passkey"


ACCESS_ENDED: Final = (
    AccessEnded(User, {End.CLAIM: Reach.ALL}, user="id", change=lambda _: {"second_factors": frozenset()}),
    AccessEnded(Passkey, {End.CLAIM: Reach.ALL}),
    AccessEnded(Passkey, HELD, change=lambda now: {"held_since": now}),
)
"""A claim drops what may be a stranger's. Any other end of all access keeps them, as they may be all that the
owner has, and lets none sign in before the owner has looked at them."""
