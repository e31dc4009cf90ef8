"""Codes that stand in for a lost device."""

from __future__ import annotations

import uuid
from typing import Any, Final

from tortoise import Model, fields
from tortoise.fields.base import OnDelete

from .lifetimes import AccessEnded, End, Reach
from .moments import MomentField
from .outward import Outward
from .user import User


class AbstractRecoveryCode(Outward, Model):
    """One unused recovery code, as its digest; using it deletes it."""

    _withheld = frozenset({"digest"})

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    digest = fields.CharField(max_length=64, unique=True)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class RecoveryCode(AbstractRecoveryCode):
    """A recovery code of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_recovery_codes", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_recovery_code"


ACCESS_ENDED: Final = AccessEnded(RecoveryCode, {End.CLAIM: Reach.ALL})
"""Whoever ends two-factor deletes them with it."""
