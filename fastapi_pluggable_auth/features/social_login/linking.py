"""A new identity of somebody who has an account: it is connected once the sign-in is complete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from ...auth import Auth
from ...events import Observation, Outcome
from ...flows.notices import notify
from ...models import AbstractUser, exact
from ..feature import Completion
from .app_providers import label_of
from .models import Identity
from .names import IdentityLinked, SocialEventKind, SocialMail


async def _connect(auth: Auth, user: AbstractUser, new: Mapping[str, Any]) -> bool:
    """Whether the account has the identity now, and still the address that the provider vouches for. Of many
    at once one connects it."""
    same = {"id": user.id, "email": new["email"], "is_verified": True}
    if await exact(auth.tables.user.all(), **same) is None:
        return False
    table, now = auth.tables.of(Identity), auth.clock()
    identity = table(**new, user_id=user.id, created_at=now, last_used_at=now)
    await table.bulk_create([identity], ignore_conflicts=True)
    found = await exact(table.filter(user_id=user.id, held_since=None), digest=identity.digest)
    if found is not None and found.id == identity.id:
        await notify(auth, SocialMail.IDENTITY_LINKED, user, provider=label_of(auth, identity.provider))
    return found is not None


async def _report(auth: Auth, user: AbstractUser, new: Mapping[str, Any]) -> None:
    identity = await exact(auth.tables.of(Identity).filter(user_id=user.id), id=UUID(new["id"]))
    if identity is not None:
        await auth.events.emit(SocialEventKind.IDENTITY_LINKED, Outcome.SUCCESS, Observation(user.id))
        await auth.hooks.fire(IdentityLinked, user, identity.id, identity.provider)


LINKING: Final = Completion(write=_connect, report=_report)
