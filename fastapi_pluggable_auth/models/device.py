"""Browsers and apps that an account knows."""

from __future__ import annotations

import uuid
from typing import Any

from tortoise import Model, fields
from tortoise.fields.base import OnDelete

from .moments import MomentField
from .outward import Outward
from .user import User


class AbstractDevice(Outward, Model):
    """One device that has signed in with all factors, by the digest of a random value that it holds.
    `session_id` is the session in which it was seen last, `trusted_at` since when it spares its user the
    second factor."""

    _withheld = frozenset({"digest"})

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    digest = fields.CharField(max_length=64, unique=True)
    session_id = fields.UUIDField(null=True, db_index=True)
    user_agent = fields.CharField(max_length=255, default="")
    expires_at = MomentField(db_index=True)
    last_used_at = MomentField()
    trusted_at = MomentField(null=True)
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class Device(AbstractDevice):
    """A device that a `User` has signed in with."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_devices", on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_device"
