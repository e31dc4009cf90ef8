"""Its tables, under a label of the host."""

from __future__ import annotations

import uuid
from typing import Any

from tortoise import Model, fields
from tortoise.fields.base import OnDelete

from fastapi_pluggable_auth.models import MomentField, User


class Door(Model):
    """What passes are for."""

    id = fields.IntField(primary_key=True)
    name = fields.CharField(max_length=40)

    class Meta:
        table = "door"


class AbstractPass(Model):
    """A pass, as its digest."""

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID
    digest = fields.CharField(max_length=64, unique=True)
    session_id = fields.UUIDField(null=True)
    expires_at = MomentField(db_index=True)

    class Meta:
        abstract = True


class Pass(AbstractPass):
    """A pass of a `User`."""

    user: fields.ForeignKeyRelation[User] = fields.ForeignKeyField(
        User, related_name="passes", on_delete=OnDelete.CASCADE, db_index=True
    )
    door: fields.ForeignKeyNullableRelation[Door] = fields.ForeignKeyField(
        Door, related_name="passes", null=True, on_delete=OnDelete.CASCADE
    )

    class Meta:
        table = "door_pass"
