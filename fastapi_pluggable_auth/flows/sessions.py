"""Sessions: opened by a login, listed, and ended at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast
from uuid import UUID

from tortoise.queryset import QuerySet

from ..auth import Auth, autonomous, transactional
from ..email.kinds import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Origin, origin
from ..hooks import LoggedOut, OtherSessionsEnded, SessionEnded
from ..models import AbstractRefreshToken, AbstractSession, AbstractUser, exact, matching
from ..security.identifiers import time_ordered_id
from ..security.jwt import Transport
from ..security.user_agents import device_of
from .authentication import Authentication, observed, require_write
from .ends import End, end_access
from .notices import notify
from .session_tokens import TokenSet, first_pair, issue_tokens

PAGE: Final = 100
"""How many sessions a list has at most."""
END_BATCH: Final = 1000
"""How many sessions one statement ends at most: databases limit its parameters."""
LOGINS_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A live session, for its owner to look at."""

    session: AbstractSession
    last_used_at: datetime
    current: bool

    @property
    def impersonated(self) -> bool:
        """Whether an administrator acts as the user in it."""
        return self.session.impersonated_by is not None

    def shown(self) -> dict[str, Any]:
        """What the user is told of it: of an administrator not from where."""
        return {
            "id": self.session.id,
            "created_at": self.session.created_at,
            "last_used_at": self.last_used_at,
            "expires_at": self.session.expires_at,
            "user_agent": "" if self.impersonated else self.session.user_agent,
            "address": "" if self.impersonated else self.session.address,
            "current": self.current,
            "impersonated": self.impersonated,
        }


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions, and what the next page comes `after`: None on the last one."""

    sessions: list[SessionInfo]
    next: UUID | None


async def start_session(
    auth: Auth,
    user: AbstractUser,
    *,
    factors: Iterable[str] = (),
    transport: Transport = Transport.BEARER,
) -> TokenSet:
    """Stores a new session, which these factors have opened, with its first refresh token, ends the oldest
    beyond `max_sessions`, and mails about an unknown device. Belongs inside the transaction of a login, which
    has locked the account."""
    now, device = auth.clock(), origin.get()()
    if auth.settings.notify_new_device:
        await _tell_of_new_device(auth, user, device)
    session = await _open(auth, user.id, device, now, auth.settings.session_max_age, factors=factors)
    if _may_be_too_many(auth, user):
        await _end_oldest(auth, user.id, now)
    return await issue_tokens(auth, first_pair(auth, session, transport))


async def start_impersonation(
    auth: Auth,
    user_id: UUID,
    administrator_id: UUID,
    *,
    begun_in: UUID | None = None,
    transport: Transport = Transport.BEARER,
) -> TokenSet:
    """Stores a session in which an administrator acts as the user. It ends after `impersonation_max_age` and
    is not one of those that the user has opened. Belongs inside a transaction that has locked both."""
    now, lifetime = auth.clock(), auth.settings.impersonation_max_age
    session = await _open(auth, user_id, origin.get()(), now, lifetime, administrator_id, begun_in)
    return await issue_tokens(auth, first_pair(auth, session, transport))


async def add_factors(
    auth: Auth, session_id: UUID, factors: Iterable[str], *, without: Iterable[str] = (), **changes: Any
) -> None:
    """Writes what was shown in a session after it was opened, which takes the place of what it is `without`
    from now on, and further changes. Belongs inside a transaction that has locked the account."""
    session = await exact(auth.tables.session.all(), id=session_id)
    if session is not None:
        before = [name for name in session.factors.split() if name not in without]
        all_shown = dict.fromkeys([*before, *factors])
        same = auth.tables.session.filter(id=session_id)
        await same.update(factors=" ".join(all_shown), **changes)


async def list_sessions(
    auth: Auth, authentication: Authentication, *, after: UUID | None = None, limit: int = PAGE
) -> SessionPage:
    """A page of the live sessions of the user who asks; see `live_sessions`."""
    user_id, current = authentication.user.id, authentication.session_id
    return await live_sessions(auth, user_id, current=current, after=after, limit=limit)


async def live_sessions(
    auth: Auth, user_id: UUID, *, current: UUID | None = None, after: UUID | None = None, limit: int = PAGE
) -> SessionPage:
    """A page of the live sessions of a user, the latest used first; the `current` one is marked. `after` is
    the `next` of the page before: one that is used meanwhile moves to the front, and no other is moved."""
    tokens = _live_tokens(auth, user_id).select_related("session")
    if after is not None:
        tokens = tokens.filter(id__lt=after)
    found = matching(await tokens.order_by("-id").limit(limit + 1), user_id=user_id, revoked=False)
    matching([token.session for token in found], user_id=user_id, revoked_at=None)
    shown = [
        SessionInfo(token.session, token.created_at, token.session.id == current) for token in found[:limit]
    ]
    return SessionPage(shown, found[limit - 1].id if len(found) > limit else None)


async def count_sessions(auth: Auth, user_id: UUID) -> int:
    """How many live sessions a user has."""
    return await _live_tokens(auth, user_id).count()


def _live_tokens(auth: Auth, user_id: UUID) -> QuerySet[AbstractRefreshToken]:
    """The one live token of each live session, whose id is ordered by the time of its last use."""
    now = auth.clock()
    return auth.tables.refresh_token.filter(
        user_id=user_id,
        revoked=False,
        expires_at__gt=now,
        session_id__not_isnull=True,
        session__revoked_at=None,
        session__expires_at__gt=now,
    )


async def end_session(auth: Auth, user_id: UUID, session_id: UUID, *, refusing: bool = False) -> None:
    """Ends one session of the user; raises `AuthError(SESSION_NOT_FOUND)` for any other. Where the request is
    being refused, the end outlives a transaction of the host."""
    end = _end_anyway if refusing else _end
    async with auth.events.observe(EventKind.SESSION_END, user_id=user_id, session_id=session_id):
        if not await end(auth, user_id, End.SESSION, session_id):
            raise AuthError(ErrorCode.SESSION_NOT_FOUND)
    await auth.hooks.fire(SessionEnded, user_id, session_id)


async def end_own_session(auth: Auth, authentication: Authentication, session_id: UUID) -> None:
    """`end_session` for the user who asks. Raises `AuthError`: SESSION_NOT_FOUND, and IMPERSONATION_FORBIDDEN
    where an administrator acts as the user, for other sessions than this one, as `logout_others`."""
    if session_id != authentication.session_id:
        require_write(auth, authentication)
    await end_session(auth, authentication.user.id, session_id)


async def logout(auth: Auth, authentication: Authentication, *, everywhere: bool = True) -> None:
    """Ends all sessions of the user or, not `everywhere`, the one that asks; with a session that has ended it
    does nothing. An administrator who acts as the user leaves, and ends that session alone."""
    user_id, session_id = authentication.user.id, authentication.session_id
    everywhere = everywhere and authentication.impersonated_by is None
    if not (authentication.live and (everywhere or session_id is not None)):
        return
    if session_id is not None and not everywhere:
        async with observed(auth, EventKind.SESSION_END, authentication):
            await _end(auth, user_id, End.SESSION, session_id)
        await auth.hooks.fire(SessionEnded, user_id, session_id)
        return
    async with observed(auth, EventKind.LOGOUT, authentication):
        await _end(auth, user_id, End.LOGOUT)
    await auth.hooks.fire(LoggedOut, user_id)


async def logout_others(auth: Auth, authentication: Authentication) -> None:
    """Ends all sessions of the user but the one that asks. Raises `AuthError(IMPERSONATION_FORBIDDEN)` where
    an administrator acts as the user who may not do that to an account."""
    require_write(auth, authentication)
    async with observed(auth, EventKind.OTHER_SESSIONS_END, authentication):
        await _end(auth, authentication.user.id, End.OTHERS, authentication.session_id)
    await auth.hooks.fire(OtherSessionsEnded, authentication.user.id, authentication.session_id)


async def _ended(auth: Auth, user_id: UUID, end: End, session_id: UUID | None = None) -> int:
    return await end_access(auth, user_id, end, session_id)


_end, _end_anyway = transactional(_ended), autonomous(_ended)


def _may_be_too_many(auth: Auth, user: AbstractUser) -> bool:
    """Whether to count: not where the account, as it was read, is so far from the limit that logins at the
    same time cannot reach it either. That saves most logins a query."""
    most, opened = auth.settings.max_sessions, user.sessions_opened
    return most > 0 and (opened is None or opened + LOGINS_AT_ONCE >= most)


async def _end_oldest(auth: Auth, user_id: UUID, now: datetime) -> None:
    own = auth.tables.session.filter(user_id=user_id, impersonated_by=None)
    live = own.filter(revoked_at=None, expires_at__gt=now)
    count, most = await live.count(), auth.settings.max_sessions
    for beyond in range(count - most, 0, -END_BATCH):
        oldest = live.order_by("created_at").limit(min(beyond, END_BATCH))
        ids = cast(list[UUID], await oldest.values_list("id", flat=True))
        await end_access(auth, user_id, End.SESSION, *ids)
    await auth.tables.user.filter(id=user_id).update(sessions_opened=min(count, most))


async def _tell_of_new_device(auth: Auth, user: AbstractUser, device: Origin) -> None:
    """Mails about a browser that none of the account's sessions had; the very first sign-in is not worth a
    mail."""
    sessions = auth.tables.session.filter(user_id=user.id, impersonated_by=None)
    if await sessions.exists() and not await sessions.filter(user_agent=device.user_agent).exists():
        await notify(
            auth, MailKind.NEW_DEVICE, user, agent=device_of(device.user_agent), address=device.address
        )


async def _open(
    auth: Auth,
    user_id: UUID,
    device: Origin,
    now: datetime,
    lifetime: timedelta,
    impersonated_by: UUID | None = None,
    begun_in: UUID | None = None,
    factors: Iterable[str] = (),
) -> AbstractSession:
    return await auth.tables.session.create(
        id=time_ordered_id(now),
        user_id=user_id,
        authenticated_at=now,
        expires_at=now + lifetime,
        user_agent=device.user_agent,
        address=device.address,
        impersonated_by=impersonated_by,
        begun_in=begun_in,
        factors=" ".join(factors),
        created_at=now,
    )
