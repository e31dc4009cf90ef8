"""The table of personal access tokens."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from tortoise import Model, fields
from tortoise.expressions import Q
from tortoise.fields.base import OnDelete

from ...models.columns import NamesField
from ...models.lifetimes import ALL_ACCESS, AccessEnded, Expired
from ...models.moments import MomentField
from ...models.outward import Outward
from ...models.user import User


class AbstractPersonalToken(Outward, Model):
    """One personal access token, as its digest. `expires_at` is null where it never does."""

    _withheld = frozenset({"digest"})

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    name = fields.CharField(max_length=64)
    digest = fields.CharField(max_length=64, unique=True)
    scopes = NamesField()
    expires_at: datetime | None = MomentField(null=True, db_index=True)
    last_used_at = MomentField(null=True)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class PersonalToken(AbstractPersonalToken):
    """A personal access token of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_personal_tokens", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_personal_token"


EXPIRED: Final = Expired(PersonalToken, lambda now, _: Q(expires_at__lt=now))
ACCESS_ENDED: Final = AccessEnded(PersonalToken, ALL_ACCESS)
