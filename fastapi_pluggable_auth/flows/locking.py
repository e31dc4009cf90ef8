"""Accounts that no other request changes for a while."""

from __future__ import annotations

from uuid import UUID

from tortoise.expressions import F

from ..auth import Auth
from ..models import AbstractUser, exact


async def locked_account(auth: Auth, user_id: UUID) -> AbstractUser | None:
    """The account as it is now, which no other request changes until the transaction ends. Belongs inside
    one."""
    await auth.tables.user.filter(id=user_id).update(access_epoch=F("access_epoch"))
    return await exact(auth.tables.user.all(), id=user_id)
