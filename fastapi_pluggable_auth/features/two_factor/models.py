"""Codes that stand in for a lost device, and what becomes of these and of secrets when access ends."""

from __future__ import annotations

import uuid
from typing import Any, Final

from tortoise import Model, fields
from tortoise.expressions import Q
from tortoise.fields.base import OnDelete

from ...models.lifetimes import BEGUN_CHANGES, AccessEnded, End, Reach
from ...models.moments import MomentField
from ...models.outward import Outward
from ...models.user import User

_NO_SECRET: Final[dict[str, Any]] = {
    "totp_secret": None,
    "totp_last_step": None,
    "totp_enrolled_at": None,
    "totp_pending_session": None,
}

SWITCHED_OFF: Final[dict[str, Any]] = {**_NO_SECRET, "totp_confirmed": False, "recovery_codes_at": None}
"""The account without a second factor; its recovery codes are deleted beside this."""


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


ACCESS_ENDED: Final = (
    AccessEnded(
        User,
        BEGUN_CHANGES,
        user="id",
        session="totp_pending_session",
        where=Q(totp_secret__not_isnull=True, totp_confirmed=False),
        change=lambda _: _NO_SECRET,
    ),
    AccessEnded(RecoveryCode, dict.fromkeys((End.CLAIM, End.VERIFIED), Reach.ALL)),
)
"""A pending secret ends with the session that it was begun in. Whatever switches two-factor off deletes the
recovery codes with it."""
