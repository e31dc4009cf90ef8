"""Who may do what to the accounts of others; the events say who did it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ...auth import Auth
from ...errors import AuthError, ErrorCode, ErrorTable
from ...events import EventKind, EventTable, Observation, Outcome, actor
from ...flows import authorization
from ...flows.acting import covers, may_act_on
from ...flows.sessions import SessionInfo, live_sessions
from ...models import AbstractUser
from ..two_factor.flows import remaining_recovery_codes
from . import users


class AdministrationError(ErrorTable):
    """Codes of administration."""

    OWN_ACCOUNT = (409, "Administrators cannot do that to their own account.")
    ACCOUNT_DISABLED = (409, "This account is disabled.")


class AdministrationEventKind(EventTable):
    """Security events of administration."""

    ACCOUNT_IMPORT = "account_import"
    IMPERSONATION = "impersonation"
    """An administrator began to act as the user."""


@dataclass(frozen=True, slots=True)
class Account:
    """What an administrator sees of an account: no secret, and nothing that is made from one. The sessions
    are the hundred that were used last."""

    user: AbstractUser
    sessions: list[SessionInfo]
    recovery_codes: int


async def read_account(auth: Auth, user_id: UUID) -> Account:
    """An account, where it is signed in, and how many recovery codes are left. Raises
    `AuthError(USER_NOT_FOUND)`."""
    user = await users.find_user(auth, user_id)
    sessions = (await live_sessions(auth, user_id)).sessions
    return Account(user, sessions, await remaining_recovery_codes(auth, user))


@asynccontextmanager
async def acting_on(
    auth: Auth, administrator: AbstractUser, user_id: UUID, *, oneself: bool = True
) -> AsyncIterator[AbstractUser]:
    """What is done inside is done by this administrator, as its events tell; gives the account.

    Raises `AuthError`: OWN_ACCOUNT for what nobody does to `oneself`, USER_NOT_FOUND, and PERMISSION_DENIED
    where the account has a right that the administrator lacks.
    """
    if user_id == administrator.id and not oneself:
        raise AuthError(AdministrationError.OWN_ACCOUNT)
    user = await users.find_user(auth, user_id)
    if not may_act_on(auth, administrator, user):
        await refuse(auth, administrator)
    reset = actor.set(administrator.id)
    try:
        yield user
    finally:
        actor.reset(reset)


async def invite(
    auth: Auth,
    administrator: AbstractUser,
    email: str,
    *,
    roles: Iterable[str] = (),
    columns: Mapping[str, Any] | None = None,
) -> AbstractUser:
    """Invites by mail, with roles that the administrator has. Raises like `users.invite_user`, and
    `AuthError(PERMISSION_DENIED)` for a right that the administrator lacks, also where the account of an
    earlier invitation has it."""

    async def check(user: AbstractUser) -> None:
        if not may_act_on(auth, administrator, user):
            await refuse(auth, administrator)

    await _require_own(auth, administrator, roles, (), superuser=False)
    reset = actor.set(administrator.id)
    try:
        return await users.invite_user(auth, email, roles=roles, columns=columns, check=check)
    finally:
        actor.reset(reset)


async def grant(
    auth: Auth,
    administrator: AbstractUser,
    user_id: UUID,
    *,
    roles: Iterable[str] = (),
    permissions: Iterable[str] = (),
    superuser: bool = False,
) -> AbstractUser:
    """Gives what the administrator has, and returns the user as it is now. Raises like `acting_on` and
    `authorization.grant`, and `AuthError(PERMISSION_DENIED)` for more than the administrator has."""
    async with acting_on(auth, administrator, user_id):
        await _require_own(auth, administrator, roles, permissions, superuser)
        return await authorization.grant(
            auth, user_id, roles=roles, permissions=permissions, superuser=superuser
        )


async def revoke(
    auth: Auth,
    administrator: AbstractUser,
    user_id: UUID,
    *,
    roles: Iterable[str] = (),
    permissions: Iterable[str] = (),
    superuser: bool = False,
) -> AbstractUser:
    """Takes what the administrator could give, and returns the user as it is now. Raises like `grant`; nobody
    stops being a superuser by oneself, so that there is one left."""
    async with acting_on(auth, administrator, user_id, oneself=not superuser):
        await _require_own(auth, administrator, roles, permissions, superuser)
        return await authorization.revoke(
            auth, user_id, roles=roles, permissions=permissions, superuser=superuser
        )


async def _require_own(
    auth: Auth,
    administrator: AbstractUser,
    roles: Iterable[str],
    permissions: Iterable[str],
    superuser: bool,
) -> None:
    allowed = administrator.is_superuser or not superuser
    if not (allowed and covers(auth, administrator, roles, permissions)):
        await refuse(auth, administrator)


async def refuse(auth: Auth, administrator: AbstractUser) -> None:
    """Raises `AuthError(PERMISSION_DENIED)`, and tells who tried."""
    denied = ErrorCode.PERMISSION_DENIED
    tried = Observation(administrator.id)
    await auth.events.emit(EventKind.ACCESS, Outcome.FAILURE, tried, reason=denied.code)
    raise AuthError(denied)
