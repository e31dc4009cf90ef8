"""The table of identities: who a user is at a provider, and what becomes of them when access ends."""

from __future__ import annotations

import hashlib
import uuid
from datetime import datetime
from typing import Any, Final

from tortoise import Model, fields
from tortoise.fields.base import OnDelete

from ...models.columns import EmailField
from ...models.lifetimes import HELD, AccessEnded, End, Reach
from ...models.moments import MomentField
from ...models.outward import Outward
from ...models.user import User


def digest_of(issuer: str, subject: str) -> str:
    """What finds an identity."""
    return hashlib.sha256(f"{issuer}\0{subject}".encode()).hexdigest()


class AbstractIdentity(Outward, Model):
    """An account elsewhere by which a user signs in here: the issuer and the subject, which `digest` keeps
    unique, and never the address. `email` is what the provider last said, and `vouched` whether it says that
    the address is the user's. `held_since` is when all access ended: it does not sign in until its owner has
    kept it. `tokens` are those of the provider, sealed, where the app keeps them; until `renewing_until` one
    request gets new ones."""

    _withheld = frozenset({"digest", "tokens", "renewing_until"})

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    provider = fields.CharField(max_length=32)
    issuer = fields.CharField(max_length=255)
    subject = fields.CharField(max_length=255)
    digest = fields.CharField(max_length=64, unique=True)
    email = EmailField(null=True)
    vouched = fields.BooleanField(default=False)
    held_since: datetime | None = MomentField(null=True)
    tokens = fields.TextField(null=True)
    renewing_until: datetime | None = MomentField(null=True)
    last_used_at: datetime | None = MomentField(null=True)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class Identity(AbstractIdentity):
    """An identity of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_identities", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_identity"


ACCESS_ENDED: Final = (
    AccessEnded(Identity, {End.CLAIM: Reach.ALL}),
    AccessEnded(Identity, HELD, change=lambda now: {"held_since": now}),
)
"""As with passkeys: a claim drops them, any other end of all access keeps them and lets none sign in before
the owner has looked at them."""
