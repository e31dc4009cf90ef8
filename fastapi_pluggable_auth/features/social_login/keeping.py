"""Looking after identities: which there are, kept after a reset, and disconnected. Nothing here needs the
extra, so that commands work without it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from ...auth import Auth, transactional
from ...errors import AuthError
from ...events import Observation, Outcome
from ...flows.authentication import Authentication, observed, require_recent_login
from ...flows.locking import locked_account
from ...flows.notices import notify
from ...flows.ways_in import keep_way_in
from ...models import AbstractUser, exact, matching
from .app_providers import label_of
from .models import Identity
from .names import IdentityRemoved, SocialError, SocialEventKind, SocialMail


async def identities_of(auth: Auth, user_id: UUID) -> list[Identity]:
    """The identities of the user, the oldest first."""
    found = await auth.tables.of(Identity).filter(user_id=user_id).order_by("created_at", "id")
    return [*matching(found, user_id=user_id)]


async def identity_of(auth: Auth, user_id: UUID, identity_id: UUID) -> Identity:
    """One identity of the user. Raises `AuthError(IDENTITY_NOT_FOUND)`."""
    found = await exact(auth.tables.of(Identity).all(), id=identity_id, user_id=user_id)
    if found is None:
        raise AuthError(SocialError.IDENTITY_NOT_FOUND)
    return found


def shown(identity: Identity) -> dict[str, Any]:
    """What its owner sees of it."""
    return {
        "id": identity.id,
        "provider": identity.provider,
        "email": identity.email,
        "held": identity.held_since is not None,
        "created_at": identity.created_at,
        "last_used_at": identity.last_used_at,
    }


async def keep(auth: Auth, authentication: Authentication, identity_id: UUID) -> Identity:
    """Lets an identity sign in again that was held when all access ended. Raises `AuthError`:
    REAUTHENTICATION_REQUIRED, IDENTITY_NOT_FOUND."""
    async with observed(auth, SocialEventKind.IDENTITY_KEPT, authentication):
        require_recent_login(auth, authentication)
        own = auth.tables.of(Identity).filter(id=identity_id, user_id=authentication.user.id)
        await own.update(held_since=None)
        return await identity_of(auth, authentication.user.id, identity_id)


async def remove(auth: Auth, authentication: Authentication, identity_id: UUID) -> None:
    """Disconnects an identity and tells its owner by mail. Raises `AuthError`: REAUTHENTICATION_REQUIRED,
    IDENTITY_NOT_FOUND, LAST_WAY_IN."""
    user = authentication.user
    async with observed(auth, SocialEventKind.IDENTITY_REMOVED, authentication):
        require_recent_login(auth, authentication)
        removed = await _remove(auth, user.id, [identity_id], last=False)
        if not removed:
            raise AuthError(SocialError.IDENTITY_NOT_FOUND)
    await auth.hooks.fire(IdentityRemoved, user, identity_id, removed[0].provider)


async def remove_for(auth: Auth, user: AbstractUser, *identity_ids: UUID) -> list[Identity]:
    """Disconnects identities of a user, all unless some are named, in the place of the owner, who is told by
    mail; also the last way in, as a mailed link lets an owner in who has lost all. Gives those that were
    there."""
    seen = Observation(user.id)
    ids = identity_ids or [identity.id for identity in await identities_of(auth, user.id)]
    removed = await _remove(auth, user.id, ids, last=True)
    for identity in removed:
        await auth.events.emit(SocialEventKind.IDENTITY_REMOVED, Outcome.SUCCESS, seen)
        await auth.hooks.fire(IdentityRemoved, user, identity.id, identity.provider)
    return removed


@transactional
async def _remove(auth: Auth, user_id: UUID, identity_ids: Collection[UUID], *, last: bool) -> list[Identity]:
    user = await locked_account(auth, user_id)
    removed = [each for each in await identities_of(auth, user_id) if each.id in identity_ids]
    if user is None or not removed:
        return []
    await auth.tables.of(Identity).filter(user_id=user_id, id__in=[each.id for each in removed]).delete()
    if not last:
        await keep_way_in(auth, user)
    for identity in removed:
        await notify(auth, SocialMail.IDENTITY_REMOVED, user, provider=label_of(auth, identity.provider))
    return removed
