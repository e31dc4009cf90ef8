"""What waits between two requests."""

from __future__ import annotations

import uuid
from typing import Any

from tortoise import Model, fields
from tortoise.fields.base import OnDelete

from .moments import MomentField
from .outward import Outward
from .user import User


class AbstractPending(Outward, Model):
    """Something that one request has begun, and another one finishes, once. The id is the digest of a random
    value that the client holds, `binding` that of what else it has to show. `data` is sealed; `attempts`
    counts the tries."""

    _withheld = frozenset({"id", "binding", "data"})

    id = fields.CharField(max_length=64, primary_key=True)
    user: Any
    user_id: uuid.UUID | None
    kind = fields.CharField(max_length=32)
    binding = fields.CharField(max_length=64, null=True)
    data = fields.TextField()
    attempts = fields.IntField(default=0)
    expires_at = MomentField(db_index=True)
    spent_at = MomentField(null=True)

    class Meta:
        abstract = True


class Pending(AbstractPending):
    """What waits for a `User`, or for somebody who has yet to sign in."""

    user: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_pending", null=True, on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_pending"
