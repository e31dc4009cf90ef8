"""Looking after passkeys: which there are, kept after a reset, and removed. Nothing here needs fido2, so that
commands work without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ...auth import Auth, transactional
from ...errors import AuthError
from ...events import Observation, Outcome
from ...flows.authentication import (
    Authentication,
    observed,
    refuse_impersonation,
    require_recent_login,
)
from ...flows.ends import End, end_access
from ...flows.locking import locked_account
from ...flows.notices import notify
from ...flows.ways_in import keep_way_in
from ...models import AbstractUser, exact, matching
from .models import Passkey
from .names import (
    FACTOR,
    SECOND_FACTOR_ONLY,
    PasskeyError,
    PasskeyEventKind,
    PasskeyMail,
    PasskeyRemoved,
)


async def passkeys_of(auth: Auth, user_id: UUID) -> list[Passkey]:
    """The passkeys of the user, the oldest first."""
    found = await auth.tables.of(Passkey).filter(user_id=user_id).order_by("created_at", "id")
    return [*matching(found, user_id=user_id)]


async def passkey_of(auth: Auth, user_id: UUID, passkey_id: UUID) -> Passkey:
    """One passkey of the user. Raises `AuthError(PASSKEY_NOT_FOUND)`."""
    found = await exact(auth.tables.of(Passkey).all(), id=passkey_id, user_id=user_id)
    if found is None:
        raise AuthError(PasskeyError.PASSKEY_NOT_FOUND)
    return found


def shown(passkey: Passkey) -> dict[str, Any]:
    """What its owner sees of it."""
    return {
        "id": passkey.id,
        "name": passkey.name,
        "signs_in": passkey.verifies_user,
        "held": passkey.held_since is not None,
        "synced": passkey.backed_up,
        "transports": sorted(passkey.transports),
        "created_at": passkey.created_at,
        "last_used_at": passkey.last_used_at,
    }


async def change(
    auth: Auth,
    authentication: Authentication,
    passkey_id: UUID,
    *,
    name: str | None = None,
    keep: bool = False,
) -> Passkey:
    """Renames a passkey of the user; to `keep` one that is held, so that it signs in again, needs a recent
    login. Raises `AuthError`: PASSKEY_NOT_FOUND, REAUTHENTICATION_REQUIRED, IMPERSONATION_FORBIDDEN."""
    async with observed(auth, PasskeyEventKind.PASSKEY_CHANGED, authentication):
        refuse_impersonation(authentication)
        if keep:
            require_recent_login(auth, authentication)
        changes: dict[str, Any] = {} if name is None else {"name": name}
        if keep:
            changes["held_since"] = None
        if changes:
            own = auth.tables.of(Passkey).filter(id=passkey_id, user_id=authentication.user.id)
            await own.update(**changes)
        return await passkey_of(auth, authentication.user.id, passkey_id)


async def remove(auth: Auth, authentication: Authentication, passkey_id: UUID) -> None:
    """Removes a passkey of the user and tells the owner by mail. Where a login asked for a second factor for
    it alone, all other sessions end. Raises `AuthError`: REAUTHENTICATION_REQUIRED, PASSKEY_NOT_FOUND,
    LAST_WAY_IN."""
    user = authentication.user
    async with observed(auth, PasskeyEventKind.PASSKEY_REMOVED, authentication):
        require_recent_login(auth, authentication)
        removed = await _remove(auth, user.id, [passkey_id], authentication.session_id, last=False)
        if not removed:
            raise AuthError(PasskeyError.PASSKEY_NOT_FOUND)
    await auth.hooks.fire(PasskeyRemoved, user, passkey_id, removed[0].name)


async def remove_for(auth: Auth, user: AbstractUser, *passkey_ids: UUID) -> list[Passkey]:
    """Removes passkeys of a user, all unless some are named, in the place of the owner, who is told by mail;
    also the last way in, as a mailed link lets an owner in who has lost all. Gives those that were there."""
    seen = Observation(user.id)
    ids = passkey_ids or [passkey.id for passkey in await passkeys_of(auth, user.id)]
    removed = await _remove(auth, user.id, ids, None, last=True)
    for passkey in removed:
        await auth.events.emit(PasskeyEventKind.PASSKEY_REMOVED, Outcome.SUCCESS, seen)
        await auth.hooks.fire(PasskeyRemoved, user, passkey.id, passkey.name)
    return removed


@transactional
async def _remove(
    auth: Auth, user_id: UUID, passkey_ids: Sequence[UUID], session_id: UUID | None, *, last: bool
) -> list[Passkey]:
    user = await locked_account(auth, user_id)
    passkeys = await passkeys_of(auth, user_id)
    removed = [passkey for passkey in passkeys if passkey.id in passkey_ids]
    if user is None or not removed:
        return []
    gone = [passkey.id for passkey in removed]
    await auth.tables.of(Passkey).filter(user_id=user_id, id__in=gone).delete()
    await write_factors(auth, user, [passkey for passkey in passkeys if passkey.id not in gone])
    if not last:
        await keep_way_in(auth, user)
    asked_before = SECOND_FACTOR_ONLY in user.second_factors and not user.two_factor_active
    if asked_before and all(passkey.verifies_user for passkey in passkeys if passkey.id not in gone):
        await end_access(auth, user_id, End.SECOND_FACTOR, session_id)
    for passkey in removed:
        await notify(auth, PasskeyMail.PASSKEY_REMOVED, user, name=passkey.name)
    return removed


async def write_factors(auth: Auth, user: AbstractUser, passkeys: Sequence[Passkey]) -> None:
    """What the account says of its passkeys, which logins read without a look at them."""
    ours = {FACTOR} if passkeys else set[str]()
    if not all(passkey.verifies_user for passkey in passkeys):
        ours.add(SECOND_FACTOR_ONLY)
    factors = (user.second_factors - {FACTOR, SECOND_FACTOR_ONLY}) | ours
    await auth.tables.user.filter(id=user.id).update(second_factors=factors)
