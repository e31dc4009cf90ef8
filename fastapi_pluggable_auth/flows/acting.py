"""Who may act on others, and as them: never with more rights than one has.

Such sessions are started by a feature, administration. Each request checks here whether its session still
stands, also in an app that shares the database and does not have the feature."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from ..auth import Auth, autonomous
from ..models import AbstractUser, exact, matching
from .ends import End, end_access

READ: Final = "accounts:read"
"""The permission to see accounts and their activity."""
WRITE: Final = "accounts:write"
"""The permission to change accounts. A superuser has this and every other one."""
IMPERSONATE: Final = "accounts:impersonate"
"""The permission to act as another user."""


def covers(auth: Auth, administrator: AbstractUser, roles: Iterable[str], permissions: Iterable[str]) -> bool:
    """Whether the administrator has all of these."""
    if administrator.is_superuser:
        return True
    own = auth.permissions_of(administrator)
    return administrator.roles.issuperset(roles) and own.issuperset(permissions)


def may_act_on(auth: Auth, administrator: AbstractUser, user: AbstractUser) -> bool:
    """Whether the user has no right that the administrator lacks."""
    if user.is_superuser and not administrator.is_superuser:
        return False
    return covers(auth, administrator, user.roles, auth.permissions_of(user))


def may_act_as(auth: Auth, administrator: AbstractUser, user: AbstractUser) -> bool:
    """Whether the administrator may impersonate the user: nobody gains rights by it."""
    if user.is_superuser or not covers(auth, administrator, (), (IMPERSONATE,)):
        return False
    return may_act_on(auth, administrator, user)


async def acting_administrator(
    auth: Auth, user: AbstractUser, administrator_id: UUID, begun_in: UUID | None
) -> AbstractUser | None:
    """The administrator of an impersonation, while it stands: while the account is there and active, may act
    as the user as both are now, and while the session that it was begun in lives."""
    if begun_in is None:
        administrator = await exact(auth.tables.user.all(), id=administrator_id)
    else:
        session = await auth.queries.session.first(id=begun_in, user_id=administrator_id)
        if session is None:
            return None
        administrator = session["user"]
        if session["revoked_at"] is not None or session["expires_at"] <= auth.clock():
            return None
    if administrator is None or not administrator.is_active or not may_act_as(auth, administrator, user):
        return None
    return administrator


async def end_fallen(auth: Auth, user: AbstractUser) -> None:
    """Ends the impersonations of this user, with the rights of now, that no longer stand."""
    sessions = auth.tables.session.filter(user_id=user.id, impersonated_by__not_isnull=True, revoked_at=None)
    for session in matching(await sessions, user_id=user.id, revoked_at=None):
        if session.impersonated_by is None:
            continue
        if await acting_administrator(auth, user, session.impersonated_by, session.begun_in) is None:
            await end_impersonation(auth, user.id, session.id)


@autonomous
async def end_impersonation(auth: Auth, user_id: UUID, session_id: UUID) -> int:
    """Ends one that no longer stands, for good: rights that come back do not bring it back."""
    return await end_access(auth, user_id, End.SESSION, session_id)
