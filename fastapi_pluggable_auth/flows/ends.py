"""Ending access: one function, and the table of what each kind of end takes with it; features add theirs."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from tortoise.expressions import F, Q

from ..auth import Auth
from ..models import AbstractUser, AccessEnded, Reach
from ..models import End as End


class Takes(NamedTuple):
    """A row of the table. `begun` is a pending address; where all of it ends, so do the challenges of logins
    under way."""

    sessions: Reach
    begun: Reach
    devices: Reach


_NONE, _THESE, _OTHERS, _ALL = Reach.NONE, Reach.THESE, Reach.OTHERS, Reach.ALL
# fmt: off
ENDS: Final = {
    #                           sessions begun    devices
    End.LOGOUT:           Takes(_ALL,    _ALL,    _NONE),
    End.OTHERS:           Takes(_OTHERS, _OTHERS, _NONE),
    End.SESSION:          Takes(_THESE,  _THESE,  _NONE),
    End.SECOND_FACTOR:    Takes(_OTHERS, _ALL,    _OTHERS),
    End.EMAIL_CHANGED:    Takes(_OTHERS, _ALL,    _OTHERS),
    End.PASSWORD_CHANGED: Takes(_ALL,    _ALL,    _OTHERS),
    End.REUSE:            Takes(_THESE,  _THESE,  _THESE),
    End.RIGHTS_TAKEN:     Takes(_NONE,   _NONE,   _NONE),
    End.RESET:            Takes(_ALL,    _ALL,    _ALL),
    End.CLAIM:            Takes(_ALL,    _ALL,    _ALL),
    End.VERIFIED:         Takes(_ALL,    _ALL,    _ALL),
    End.ADMINISTRATOR:    Takes(_ALL,    _ALL,    _ALL),
    End.DISABLED:         Takes(_ALL,    _ALL,    _ALL),
    End.DELETED:          Takes(_ALL,    _ALL,    _ALL),
}
# fmt: on

NO_PENDING_EMAIL: Final[dict[str, Any]] = {"pending_email": None, "pending_email_session": None}
"""The account without a pending address."""


async def end_access(auth: Auth, user_id: UUID, end: End, *session_ids: UUID | None) -> int:
    """Ends what this kind of end takes with it, and returns how many sessions were alive. The sessions are
    those that end or, where the others do, the one that asks; None counts as no session. Belongs inside the
    transaction of the change that ends access."""
    takes, tables = ENDS[end], auth.tables
    named = [session_id for session_id in session_ids if session_id is not None]
    ended = await _end_sessions(auth, user_id, takes.sessions, named)
    await _end_begun(auth, user_id, takes.begun, named)
    for ending in auth.access_ended:
        await _end_rows(auth, user_id, ending, end, named)
    if takes.devices is not Reach.NONE:
        await tables.device.filter(_within(takes.devices, "session_id", named), user_id=user_id).delete()
    return ended


async def without_begun(auth: Auth, user: AbstractUser) -> dict[str, Any]:
    """What such an end, where it takes all that was begun, leaves of it in the columns of this user."""
    columns = {**NO_PENDING_EMAIL, "access_epoch": user.access_epoch + 1}
    for factor in auth.features.factors:
        if not await factor.enrolled(auth, user):
            columns.update(factor.removed)
    return columns


async def _end_rows(auth: Auth, user_id: UUID, ending: AccessEnded, end: End, named: list[UUID]) -> None:
    reach = ending.reach.get(end, Reach.NONE)
    if reach is Reach.NONE or (ending.session is None and reach is not Reach.ALL):
        return
    theirs: Any = {ending.user: user_id}
    rows = auth.tables.of(ending.table).filter(ending.where, **theirs)
    if ending.session is not None:
        rows = rows.filter(_within(reach, ending.session, named))
    if ending.change is None:
        await rows.delete()
    else:
        await rows.update(**ending.change(auth.clock()))


async def _end_sessions(auth: Auth, user_id: UUID, reach: Reach, named: list[UUID]) -> int:
    """Tokens go first: a rotation locks its token before it looks at the session, and two transactions that
    lock in the same order never deadlock. The account comes after both, as a rotation's new token locks it on
    MariaDB."""
    if reach is Reach.NONE:
        return 0
    tokens = auth.tables.refresh_token.filter(_within(reach, "session_id", named), user_id=user_id)
    await tokens.filter(revoked=False).update(revoked=True)
    sessions = auth.tables.session.filter(_within(reach, "id", named), user_id=user_id)
    return await sessions.filter(revoked_at=None).update(revoked_at=auth.clock())


async def _end_begun(auth: Auth, user_id: UUID, reach: Reach, named: list[UUID]) -> None:
    if reach is Reach.NONE:
        return
    account = auth.tables.user.filter(id=user_id)
    if reach is Reach.ALL:
        await account.update(**NO_PENDING_EMAIL, access_epoch=F("access_epoch") + 1)
        await auth.tables.pending.filter(user_id=user_id).delete()
    else:
        address = account.filter(
            _within(reach, "pending_email_session", named), pending_email__not_isnull=True
        )
        await address.update(**NO_PENDING_EMAIL)


def _within(reach: Reach, column: str, named: list[UUID]) -> Q:
    """What belongs to these sessions, to none of them, or anything."""
    these = Q(**cast(dict[str, Any], {f"{column}__in": named}))
    if reach is Reach.THESE:
        return these
    if reach is Reach.OTHERS and named:
        return Q(Q(**cast(dict[str, Any], {column: None})), ~these, join_type=Q.OR)
    return Q()
