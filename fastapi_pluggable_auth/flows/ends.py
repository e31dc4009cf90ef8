"""Ending access: one function, and the table of what each kind of end takes with it."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from tortoise.expressions import F, Q

from ..auth import Auth
from ..models import AbstractUser, PersonalToken


class End(Enum):
    """Why access ends."""

    LOGOUT = auto()
    OTHERS = auto()
    """All sessions but the one that asks."""
    SESSION = auto()
    """These sessions alone."""
    SECOND_FACTOR = auto()
    """Two-factor was switched on or off."""
    EMAIL_CHANGED = auto()
    PASSWORD_CHANGED = auto()
    REUSE = auto()
    """A refresh token was stolen."""
    RIGHTS_TAKEN = auto()
    RESET = auto()
    """A new password was set by mail."""
    CLAIM = auto()
    """The owner of the mailbox takes over what somebody else may have begun."""
    ADMINISTRATOR = auto()
    """An administrator ended all sessions, or asked for a new password."""
    DISABLED = auto()
    DELETED = auto()


class Reach(Enum):
    """Which of something end, by the session that they belong to."""

    NONE = auto()
    THESE = auto()
    """Those of the sessions that are named."""
    OTHERS = auto()
    """All but those; also what belongs to no session that is known."""
    ALL = auto()


class Takes(NamedTuple):
    """A row of the table. `begun` is a pending address and a pending second factor; where all of it ends, so
    do the challenges of logins under way. `impersonations` are those that the user has begun: those of the
    user are sessions."""

    sessions: Reach
    begun: Reach
    impersonations: Reach
    devices: Reach
    personal_tokens: Reach


_NONE, _THESE, _OTHERS, _ALL = Reach.NONE, Reach.THESE, Reach.OTHERS, Reach.ALL
# fmt: off
ENDS: Final = {
    #                           sessions begun    impers.  devices  personal tokens
    End.LOGOUT:           Takes(_ALL,    _ALL,    _ALL,    _NONE,   _NONE),
    End.OTHERS:           Takes(_OTHERS, _OTHERS, _OTHERS, _NONE,   _NONE),
    End.SESSION:          Takes(_THESE,  _THESE,  _THESE,  _NONE,   _NONE),
    End.SECOND_FACTOR:    Takes(_OTHERS, _ALL,    _ALL,    _OTHERS, _NONE),
    End.EMAIL_CHANGED:    Takes(_OTHERS, _ALL,    _ALL,    _OTHERS, _NONE),
    End.PASSWORD_CHANGED: Takes(_ALL,    _ALL,    _ALL,    _OTHERS, _NONE),
    End.REUSE:            Takes(_THESE,  _THESE,  _THESE,  _THESE,  _NONE),
    End.RIGHTS_TAKEN:     Takes(_NONE,   _NONE,   _ALL,    _NONE,   _NONE),
    End.RESET:            Takes(_ALL,    _ALL,    _ALL,    _ALL,    _ALL),
    End.CLAIM:            Takes(_ALL,    _ALL,    _ALL,    _ALL,    _ALL),
    End.ADMINISTRATOR:    Takes(_ALL,    _ALL,    _ALL,    _ALL,    _ALL),
    End.DISABLED:         Takes(_ALL,    _ALL,    _ALL,    _ALL,    _ALL),
    End.DELETED:          Takes(_ALL,    _ALL,    _ALL,    _ALL,    _ALL),
}
# fmt: on

NO_PENDING_EMAIL: Final[dict[str, Any]] = {"pending_email": None, "pending_email_session": None}
"""The account without a pending address."""
NO_PENDING_SECRET: Final[dict[str, Any]] = {
    "totp_secret": None,
    "totp_last_step": None,
    "totp_enrolled_at": None,
    "totp_pending_session": None,
}
"""The account without a pending second factor."""


async def end_access(auth: Auth, user_id: UUID, end: End, *session_ids: UUID | None) -> int:
    """Ends what this kind of end takes with it, and returns how many sessions were alive. The sessions are
    those that end or, where the others do, the one that asks; None is no session. Belongs inside the
    transaction of the change that ends access."""
    takes, tables = ENDS[end], auth.tables
    named = [session_id for session_id in session_ids if session_id is not None]
    ended = await _end_sessions(auth, user_id, takes.sessions, named)
    await _end_begun(auth, user_id, takes.begun, named)
    if takes.impersonations is not Reach.NONE:
        begun = tables.session.filter(_within(takes.impersonations, "begun_in", named))
        await begun.filter(impersonated_by=user_id, revoked_at=None).update(revoked_at=auth.clock())
    if takes.devices is not Reach.NONE:
        await tables.device.filter(_within(takes.devices, "session_id", named), user_id=user_id).delete()
    if takes.personal_tokens is Reach.ALL:
        await tables.of(PersonalToken).filter(user_id=user_id).delete()
    return ended


def without_begun(user: AbstractUser) -> dict[str, Any]:
    """What such an end, where it takes all that was begun, leaves of it in the columns of this user."""
    secret = {} if user.totp_confirmed else NO_PENDING_SECRET
    return {**NO_PENDING_EMAIL, **secret, "access_epoch": user.access_epoch + 1}


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
    else:
        address = account.filter(
            _within(reach, "pending_email_session", named), pending_email__not_isnull=True
        )
        await address.update(**NO_PENDING_EMAIL)
    secret = account.filter(_within(reach, "totp_pending_session", named), totp_secret__not_isnull=True)
    await secret.filter(totp_confirmed=False).update(**NO_PENDING_SECRET)


def _within(reach: Reach, column: str, named: list[UUID]) -> Q:
    """What belongs to these sessions, to none of them, or anything."""
    these = Q(**cast(dict[str, Any], {f"{column}__in": named}))
    if reach is Reach.THESE:
        return these
    if reach is Reach.OTHERS and named:
        return Q(Q(**cast(dict[str, Any], {column: None})), ~these, join_type=Q.OR)
    return Q()
