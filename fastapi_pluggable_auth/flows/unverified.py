"""Deleting accounts that somebody signed up for and whose address was never verified."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from tortoise.expressions import Q

from ..auth import Auth
from ..errors import Refused
from ..events import EventKind
from ..hooks import AccountDeleted, HookError
from .account import AccountInUseError, erase

BATCH: Final = 100


async def purge_unverified(auth: Auth) -> int:
    """Deletes the accounts that a signup has made, `unverified_account_ttl` ago, and that nobody has verified
    or signed in to; returns how many. None that an administrator has made, invited, disabled or made a
    superuser. Where rows of the host, or a hook, keep one, the others are deleted, and then the refusal is
    raised."""
    if not auth.settings.unverified_account_ttl:
        return 0
    forgotten = _forgotten(auth)
    deleted, last = 0, UUID(int=0)
    refusal: Exception | None = None
    while batch := await auth.tables.user.filter(forgotten, id__gt=last).order_by("id").limit(BATCH):
        for user in batch:
            try:
                async with auth.events.observe(EventKind.ACCOUNT_EXPIRED, user_id=user.id) as observation:
                    erased = await erase(auth, user, only=forgotten)
                    if not erased:
                        observation.kind = None
            except (AccountInUseError, Refused, HookError) as error:
                refusal = error
                continue
            if erased:
                deleted += 1
                await auth.hooks.fire(AccountDeleted, user.id, user.email)
        last = batch[-1].id
    if refusal is not None:
        raise refusal
    return deleted


def _forgotten(auth: Auth) -> Q:
    return Q(
        created_at__lt=auth.clock() - auth.settings.unverified_account_ttl,
        signup_binding__not_isnull=True,
        is_verified=False,
        verified_at=None,
        last_login_at=None,
        is_active=True,
        is_superuser=False,
    )
