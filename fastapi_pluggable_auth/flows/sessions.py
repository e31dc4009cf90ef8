"""Sessions: started by a login, kept alive by rotation, ended at once by revocation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from tortoise.exceptions import IntegrityError
from tortoise.expressions import Q

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, Origin, Outcome, origin
from ..hooks import LoggedOut, OtherSessionsEnded, SessionEnded
from ..models import AbstractSession, AbstractUser
from ..security.clock import as_utc
from ..security.identifiers import time_ordered_id
from ..security.jwt import (
    ACCESS,
    REFRESH,
    Claims,
    actor_claim,
    actor_of,
    issued_at_of,
    new_token_id,
    session_of,
    subject_of,
)
from .notices import notify

_StoredToken: TypeAlias = Mapping[str, Any]
"""A refresh token, with what its user and session say of it: a row of `queries.refresh_token`."""


@dataclass(frozen=True, slots=True)
class TokenSet:
    """The two tokens of a session."""

    access_token: str
    refresh_token: str
    session_id: UUID


@dataclass(frozen=True, slots=True)
class Authentication:
    """Who is asking. `session_id` is None for a token that the host app minted on the user alone, and for a
    personal access token, whose `scopes` are not None; `live` is whether the session has not ended;
    `impersonated_by` is the administrator who acts as the user."""

    user: AbstractUser
    session_id: UUID | None
    authenticated_at: datetime
    live: bool = True
    scopes: frozenset[str] | None = None
    impersonated_by: UUID | None = None


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


def observed(
    auth: Auth, kind: EventKind, authentication: Authentication
) -> AbstractAsyncContextManager[Observation]:
    """`Events.observe` for what a signed-in user does."""
    return auth.events.observe(kind, user_id=authentication.user.id, session_id=authentication.session_id)


async def start_session(auth: Auth, user: AbstractUser) -> TokenSet:
    """Stores a new session with its first refresh token, ends the oldest beyond `max_sessions`, and tells of
    an unknown device. Belongs inside the transaction of a login, which has locked the account."""
    now, device = auth.clock(), origin.get()()
    if auth.settings.notify_new_device:
        await _tell_of_new_device(auth, user, device)
    session = await _open(auth, user.id, device, now, auth.settings.session_max_age)
    if auth.settings.max_sessions:
        await _end_oldest(auth, user.id, now)
    return await _issue(auth, user.id, session.id, session.expires_at, new_token_id(), now)


async def start_impersonation(auth: Auth, user_id: UUID, administrator_id: UUID) -> TokenSet:
    """Stores a session in which an administrator acts as the user. It ends after `impersonation_max_age` and
    is none of those that the user has by signing in. Belongs inside a transaction that has locked both."""
    now, lifetime = auth.clock(), auth.settings.impersonation_max_age
    session = await _open(auth, user_id, origin.get()(), now, lifetime, impersonated_by=administrator_id)
    ends, jti = session.expires_at, new_token_id()
    return await _issue(auth, user_id, session.id, ends, jti, now, administrator_id)


async def end_impersonations(auth: Auth, administrator_id: UUID) -> None:
    """Ends the sessions in which this administrator acts as somebody else. Belongs after the change that
    takes the right to, in the same transaction or after its commit."""
    sessions = auth.tables.session.filter(impersonated_by=administrator_id, revoked_at=None)
    await sessions.update(revoked_at=auth.clock())


async def authenticate(auth: Auth, token: str, *, allow_ended: bool = False) -> Authentication:
    """Who an access token stands for, in one query. Raises `AuthError(INVALID_TOKEN)` when the token, the
    session or the account is not valid; `allow_ended` accepts a session that has ended."""
    claims = auth.signer.verify(token, ACCESS)
    user_id, session_id = subject_of(claims), session_of(claims)
    if session_id is None:
        user = await auth.tables.user.get_or_none(id=user_id, is_active=True)
        if user is None or _outdated(claims, user):
            raise AuthError(ErrorCode.INVALID_TOKEN)
        return Authentication(user, None, issued_at_of(claims))
    return await authenticate_session(auth, user_id, session_id, allow_ended=allow_ended)


async def authenticate_session(
    auth: Auth, user_id: UUID, session_id: UUID, *, allow_ended: bool = False
) -> Authentication:
    """The same for who is known to have had this session. Raises `AuthError(INVALID_TOKEN)`."""
    found = await auth.queries.session.first(session_id=session_id, user_id=user_id)
    if found is None:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    session, user = found
    live = _is_live(auth, session["revoked_at"], session["expires_at"])
    if not (user.is_active and (live or allow_ended)):
        raise AuthError(ErrorCode.INVALID_TOKEN)
    authenticated_at = as_utc(session["authenticated_at"])
    by = session["impersonated_by"]
    return Authentication(user, session_id, authenticated_at, live, impersonated_by=by)


def is_recent(auth: Auth, authentication: Authentication) -> bool:
    """Whether the user's login is younger than `reauth_ttl`."""
    if authentication.impersonated_by is not None:
        return False
    return auth.clock() - authentication.authenticated_at <= auth.settings.reauth_ttl


def require_recent_login(auth: Auth, authentication: Authentication) -> None:
    """Raises `AuthError(REAUTHENTICATION_REQUIRED)` unless the login is younger than `reauth_ttl`, and
    IMPERSONATION_FORBIDDEN in any case where an administrator acts as the user."""
    refuse_impersonation(authentication)
    if not is_recent(auth, authentication):
        raise AuthError(ErrorCode.REAUTHENTICATION_REQUIRED)


def refuse_impersonation(authentication: Authentication) -> None:
    """Raises `AuthError(IMPERSONATION_FORBIDDEN)` where an administrator acts as the user."""
    if authentication.impersonated_by is not None:
        raise AuthError(ErrorCode.IMPERSONATION_FORBIDDEN)


async def rotate(auth: Auth, raw_token: str, *, idempotent: bool = False) -> TokenSet:
    """Spends a refresh token for a new pair: one mint per token, ever (RFC 9700 section 4.14.2). `idempotent`
    answers a retry within the leeway with the same successor, as the setting `refresh_idempotent` does.

    Raises `AuthError`: REFRESH_RACED when another request has just spent it, INVALID_TOKEN otherwise. A
    token that was spent longer ago than the leeway was stolen from someone: its session ends.
    """
    async with auth.events.observe(EventKind.TOKEN_REFRESH) as observation:
        # An expired token may still be one that was stolen and spent; the database knows its end as well.
        claims = auth.signer.verify(raw_token, REFRESH, allow_expired=True)
        observation.user_id, observation.session_id = subject_of(claims), session_of(claims)
        observation.actor_id = actor_of(claims)
        return await _rotate(auth, raw_token, idempotent or auth.settings.refresh_idempotent)


async def _rotate(auth: Auth, raw_token: str, idempotent: bool) -> TokenSet:
    now = auth.clock()
    try:
        spent, tokens = await _spend(auth, raw_token, now)
    except IntegrityError as error:  # the account was deleted meanwhile
        raise AuthError(ErrorCode.INVALID_TOKEN) from error
    if tokens is not None:
        return tokens
    if spent is None or not _alive_but_spent(auth, spent):
        raise AuthError(ErrorCode.INVALID_TOKEN)
    return await _spent_again(auth, spent, now, idempotent)


@transactional
async def _spend(auth: Auth, raw_token: str, now: datetime) -> tuple[_StoredToken | None, TokenSet | None]:
    """The stored token, and its successors where this request is the one that spends it."""
    successor = new_token_id()
    # One conditional UPDATE decides the race, and writes before anything is read.
    won = await auth.queries.spend.run(digest=raw_token, now=now, successor=successor)
    spent = await auth.queries.refresh_token.first(digest=raw_token)
    if not won or spent is None:
        return spent, None
    return None, await _successor(auth, spent, successor, now)


async def list_sessions(auth: Auth, authentication: Authentication) -> list[SessionInfo]:
    """The live sessions of the user, the latest used first."""
    return await live_sessions(auth, authentication.user.id, current=authentication.session_id)


async def live_sessions(auth: Auth, user_id: UUID, *, current: UUID | None = None) -> list[SessionInfo]:
    """The live sessions of a user, the latest used first; the `current` one is marked."""
    now = auth.clock()
    tokens = (
        await auth.tables.refresh_token.filter(
            user_id=user_id,
            revoked=False,
            expires_at__gt=now,
            session__revoked_at=None,
            session__expires_at__gt=now,
        )
        .select_related("session")
        .order_by("-created_at")
    )
    return [
        SessionInfo(token.session, as_utc(token.created_at), token.session.id == current)
        for token in tokens
        if token.session is not None
    ]


async def end_session(auth: Auth, user_id: UUID, session_id: UUID) -> None:
    """Ends one session of the user; raises `AuthError(SESSION_NOT_FOUND)` for any other."""
    async with auth.events.observe(EventKind.SESSION_END, user_id=user_id, session_id=session_id):
        if not await _end_in_transaction(auth, user_id, session_id=session_id):
            raise AuthError(ErrorCode.SESSION_NOT_FOUND)
    await auth.hooks.fire(SessionEnded, user_id, session_id)


async def end_all_sessions(auth: Auth, user_id: UUID, *, keep: UUID | None = None) -> None:
    """Ends every session of the user, except the one to keep; without one, also those in which the user acts
    as others. Belongs inside a transaction."""
    await _end(auth, user_id=user_id, keep=keep)
    if keep is None:
        await end_impersonations(auth, user_id)


async def end_all_access(auth: Auth, user_id: UUID) -> None:
    """Ends every session and every personal access token of the user. Belongs inside a transaction."""
    await end_all_sessions(auth, user_id)
    await auth.tables.personal_token.filter(user_id=user_id).delete()


async def logout(auth: Auth, authentication: Authentication) -> None:
    """Ends all sessions of the user; doing so again changes nothing. An administrator who acts as the user
    leaves, and ends that session alone."""
    user_id, session_id = authentication.user.id, authentication.session_id
    if authentication.impersonated_by is not None and session_id is not None:
        async with observed(auth, EventKind.SESSION_END, authentication):
            await _end_in_transaction(auth, user_id, session_id=session_id)
        await auth.hooks.fire(SessionEnded, user_id, session_id)
        return
    async with observed(auth, EventKind.LOGOUT, authentication):
        await _end_in_transaction(auth, user_id)
    await auth.hooks.fire(LoggedOut, user_id)


async def logout_others(auth: Auth, authentication: Authentication) -> None:
    """Ends all sessions of the user but the one that asks."""
    async with observed(auth, EventKind.OTHER_SESSIONS_END, authentication):
        await _end_in_transaction(auth, authentication.user.id, keep=authentication.session_id)
    await auth.hooks.fire(OtherSessionsEnded, authentication.user.id, authentication.session_id)


@transactional
async def _end_in_transaction(
    auth: Auth, user_id: UUID, *, session_id: UUID | None = None, keep: UUID | None = None
) -> int:
    ended = await _end(auth, user_id=user_id, session_id=session_id, keep=keep)
    if session_id is None:
        await end_impersonations(auth, user_id)
    return ended


async def _end_oldest(auth: Auth, user_id: UUID, now: datetime) -> None:
    own = auth.tables.session.filter(user_id=user_id, impersonated_by=None)
    live = own.filter(revoked_at=None, expires_at__gt=now)
    newest_first = live.order_by("-created_at").values_list("id", flat=True)
    for session_id in (await newest_first)[auth.settings.max_sessions :]:
        await _end(auth, user_id=user_id, session_id=session_id)  # type: ignore[arg-type]  # flat lists are typed as tuples


async def _tell_of_new_device(auth: Auth, user: AbstractUser, device: Origin) -> None:
    """Mails about a browser that none of the account's sessions had; the very first sign-in is no news."""
    sessions = auth.tables.session.filter(user_id=user.id, impersonated_by=None)
    if await sessions.exists() and not await sessions.filter(user_agent=device.user_agent).exists():
        await notify(auth, MailKind.NEW_DEVICE, user, agent=device.user_agent, address=device.address)


async def _end(auth: Auth, *, user_id: UUID, session_id: UUID | None = None, keep: UUID | None = None) -> int:
    """Ends sessions and returns how many were alive. Tokens go first: a rotation locks its token before it
    looks at the session, and two transactions that lock in the same order never deadlock."""
    tokens = auth.tables.refresh_token.filter(user_id=user_id, revoked=False)
    sessions = auth.tables.session.filter(user_id=user_id, revoked_at=None)
    if session_id is not None:
        tokens, sessions = tokens.filter(session_id=session_id), sessions.filter(id=session_id)
    if keep is not None:
        tokens, sessions = tokens.filter(Q(session_id=None) | ~Q(session_id=keep)), sessions.exclude(id=keep)
    await tokens.update(revoked=True)
    return await sessions.update(revoked_at=auth.clock())


async def _open(
    auth: Auth,
    user_id: UUID,
    device: Origin,
    now: datetime,
    lifetime: timedelta,
    *,
    impersonated_by: UUID | None = None,
) -> AbstractSession:
    return await auth.tables.session.create(
        id=time_ordered_id(now),
        user_id=user_id,
        authenticated_at=now,
        expires_at=now + lifetime,
        user_agent=device.user_agent,
        address=device.address,
        impersonated_by=impersonated_by,
        created_at=now,
    )


async def _issue(
    auth: Auth,
    user_id: UUID,
    session_id: UUID,
    session_ends: datetime,
    jti: str,
    now: datetime,
    impersonated_by: UUID | None = None,
) -> TokenSet:
    expires_at = min(now + auth.settings.refresh_token_expires, as_utc(session_ends))
    refresh_token = _sign_refresh(auth, user_id, session_id, jti, now, expires_at, impersonated_by)
    await auth.queries.store_token.run(
        id=time_ordered_id(now),
        user_id=user_id,
        session_id=session_id,
        token=refresh_token,
        jti=jti,
        expires_at=expires_at,
        revoked=False,
        created_at=now,
    )
    access_token = auth.signer.access_token(user_id, session_id, actor_id=impersonated_by)
    return TokenSet(access_token, refresh_token, session_id)


def _sign_refresh(
    auth: Auth,
    user_id: UUID,
    session_id: UUID,
    jti: str,
    issued_at: datetime,
    expires_at: datetime,
    impersonated_by: UUID | None,
) -> str:
    claims = {"sid": str(session_id), **actor_claim(impersonated_by)}
    return auth.signer.sign(REFRESH, user_id, issued_at=issued_at, expires_at=expires_at, jti=jti, **claims)


async def _successor(auth: Auth, spent: _StoredToken, jti: str, now: datetime) -> TokenSet | None:
    """The pair that replaces a spent token, or None where its session or account has ended."""
    if not spent["active"]:
        return None
    user_id, session_id, session_ends = spent["user_id"], spent["session_id"], spent["session_ends"]
    if session_id is None:
        session = await _adopt(auth, spent, now)
        session_id, session_ends = session.id, session.expires_at
    elif not _is_live(auth, spent["session_ended"], session_ends):
        return None
    by = spent["impersonated_by"]
    if auth.settings.single_session and by is None:
        await end_all_sessions(auth, user_id, keep=session_id)
    return await _issue(auth, user_id, session_id, session_ends, jti, now, by)


async def _adopt(auth: Auth, token: _StoredToken, now: datetime) -> AbstractSession:
    """Gives a token that the host app stored a session of its own."""
    session = await auth.tables.session.create(
        user_id=token["user_id"],
        authenticated_at=token["created_at"],
        expires_at=now + auth.settings.session_max_age,
        created_at=now,
    )
    await auth.tables.refresh_token.filter(id=token["id"]).update(session_id=session.id)
    return session


def _alive_but_spent(auth: Auth, token: _StoredToken) -> bool:
    """Whether a token that did not win was spent before, in a session that still lives."""
    return (
        token["rotated_at"] is not None
        and token["session_id"] is not None
        and token["active"]
        and _is_live(auth, token["session_ended"], token["session_ends"])
    )


async def _spent_again(auth: Auth, spent: _StoredToken, now: datetime, idempotent: bool) -> TokenSet:
    if now - as_utc(spent["rotated_at"]) > auth.settings.refresh_reuse_leeway:
        await _punish_reuse(auth, spent)
        raise AuthError(ErrorCode.INVALID_TOKEN)
    repeated = await _repeat(auth, spent) if idempotent else None
    if repeated is None:
        raise AuthError(ErrorCode.REFRESH_RACED)
    return repeated


async def _repeat(auth: Auth, spent: _StoredToken) -> TokenSet | None:
    """The same successor once more, signed again from its stored claims, unless it has been spent."""
    token = await auth.tables.refresh_token.get_or_none(jti=spent["replaced_by"], revoked=False)
    if token is None or token.session_id is None:
        return None
    user_id, session_id, by = token.user_id, token.session_id, spent["impersonated_by"]
    issued_at, expires_at = as_utc(token.created_at), as_utc(token.expires_at)
    refresh_token = _sign_refresh(auth, user_id, session_id, token.jti, issued_at, expires_at, by)
    access_token = auth.signer.access_token(user_id, session_id, actor_id=by)
    return TokenSet(access_token, refresh_token, session_id)


async def _punish_reuse(auth: Auth, spent: _StoredToken) -> None:
    """Ends the session, committed before the refusal is raised: a rollback would keep the thief in."""
    if await _end_stolen(auth, spent):
        by = spent["impersonated_by"]
        stolen = Observation(spent["user_id"], spent["session_id"], actor_id=by)
        await auth.events.emit(EventKind.REFRESH_REUSE, Outcome.FAILURE, stolen)
        await auth.hooks.fire(SessionEnded, spent["user_id"], spent["session_id"])


@transactional
async def _end_stolen(auth: Auth, spent: _StoredToken) -> bool:
    user_id = spent["user_id"]
    if not await _end(auth, user_id=user_id, session_id=spent["session_id"]):
        return False
    await notify(auth, MailKind.SESSION_REUSE, await auth.tables.user.get(id=user_id))
    return True


def _is_live(auth: Auth, revoked_at: datetime | None, expires_at: datetime) -> bool:
    """Whether a session of these columns has not ended."""
    return revoked_at is None and auth.clock() < as_utc(expires_at)


def _outdated(claims: Claims, user: AbstractUser) -> bool:
    """Whether a token without session was signed before the password changed."""
    changed = user.password_changed_at
    return changed is not None and issued_at_of(claims) < as_utc(changed).replace(microsecond=0)
