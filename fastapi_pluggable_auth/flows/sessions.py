"""Sessions: started by a login, kept alive by rotation, ended at once by revocation."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid4

from tortoise.exceptions import IntegrityError
from tortoise.expressions import Q

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, Origin, Outcome, origin
from ..models import AbstractSession, AbstractUser
from ..security.clock import as_utc
from ..security.jwt import ACCESS, REFRESH, Claims, issued_at_of, new_token_id, session_of, subject_of
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
    """Who is asking. `session_id` is None for a token that the host app minted on the user alone; `live` is
    whether the session has not ended."""

    user: AbstractUser
    session_id: UUID | None
    authenticated_at: datetime
    live: bool = True


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A live session, for its owner to look at."""

    session: AbstractSession
    last_used_at: datetime
    current: bool


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
    session = await auth.tables.session.create(
        user_id=user.id,
        authenticated_at=now,
        expires_at=now + auth.settings.session_max_age,
        user_agent=device.user_agent,
        address=device.address,
        created_at=now,
    )
    if auth.settings.max_sessions:
        await _end_oldest(auth, user.id, now)
    return await _issue(auth, user.id, session.id, session.expires_at, new_token_id(), now)


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
    found = await auth.queries.session.first(session_id=session_id, user_id=user_id)
    if found is None:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    session, user = found
    live = _is_live(auth, session["revoked_at"], session["expires_at"])
    if not (user.is_active and (live or allow_ended)):
        raise AuthError(ErrorCode.INVALID_TOKEN)
    return Authentication(user, session_id, as_utc(session["authenticated_at"]), live)


def is_recent(auth: Auth, authentication: Authentication) -> bool:
    """Whether the login is younger than `reauth_ttl`."""
    return auth.clock() - authentication.authenticated_at <= auth.settings.reauth_ttl


def require_recent_login(auth: Auth, authentication: Authentication) -> None:
    """Raises `AuthError(REAUTHENTICATION_REQUIRED)` unless the login is younger than `reauth_ttl`."""
    if not is_recent(auth, authentication):
        raise AuthError(ErrorCode.REAUTHENTICATION_REQUIRED)


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
    now = auth.clock()
    tokens = (
        await auth.tables.refresh_token.filter(
            user_id=authentication.user.id,
            revoked=False,
            expires_at__gt=now,
            session__revoked_at=None,
            session__expires_at__gt=now,
        )
        .select_related("session")
        .order_by("-created_at")
    )
    current = authentication.session_id
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


async def end_all_sessions(auth: Auth, user_id: UUID, *, keep: UUID | None = None) -> None:
    """Ends every session of the user, except the one to keep. Belongs inside a transaction."""
    await _end(auth, user_id=user_id, keep=keep)


async def logout(auth: Auth, authentication: Authentication) -> None:
    """Ends all sessions of the user; doing so again changes nothing."""
    async with observed(auth, EventKind.LOGOUT, authentication):
        await _end_in_transaction(auth, authentication.user.id)


async def logout_others(auth: Auth, authentication: Authentication) -> None:
    """Ends all sessions of the user but the one that asks."""
    async with observed(auth, EventKind.OTHER_SESSIONS_END, authentication):
        await _end_in_transaction(auth, authentication.user.id, keep=authentication.session_id)


@transactional
async def _end_in_transaction(
    auth: Auth, user_id: UUID, *, session_id: UUID | None = None, keep: UUID | None = None
) -> int:
    return await _end(auth, user_id=user_id, session_id=session_id, keep=keep)


@transactional
async def require_password_reset(auth: Auth, user_id: UUID) -> None:
    """Ends every session of a user whose password may be known to others, and refuses logins until it is
    reset by mail (ASVS 6.2.10). For scripts and administrators."""
    await auth.tables.user.filter(id=user_id).update(password_reset_required=True)
    await end_all_sessions(auth, user_id)


async def _end_oldest(auth: Auth, user_id: UUID, now: datetime) -> None:
    live = auth.tables.session.filter(user_id=user_id, revoked_at=None, expires_at__gt=now)
    newest_first = live.order_by("-created_at").values_list("id", flat=True)
    for session_id in (await newest_first)[auth.settings.max_sessions :]:
        await _end(auth, user_id=user_id, session_id=session_id)  # type: ignore[arg-type]  # flat lists are typed as tuples


async def _tell_of_new_device(auth: Auth, user: AbstractUser, device: Origin) -> None:
    """Mails about a browser that none of the account's sessions had; the very first sign-in is no news."""
    sessions = auth.tables.session.filter(user_id=user.id)
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


async def _issue(
    auth: Auth, user_id: UUID, session_id: UUID, session_ends: datetime, jti: str, now: datetime
) -> TokenSet:
    expires_at = min(now + auth.settings.refresh_token_expires, as_utc(session_ends))
    refresh_token = _sign_refresh(auth, user_id, session_id, jti, now, expires_at)
    await auth.queries.store_token.run(
        id=uuid4(),
        user_id=user_id,
        session_id=session_id,
        token=refresh_token,
        jti=jti,
        expires_at=expires_at,
        revoked=False,
        created_at=now,
    )
    return TokenSet(auth.signer.access_token(user_id, session_id), refresh_token, session_id)


def _sign_refresh(
    auth: Auth, user_id: UUID, session_id: UUID, jti: str, issued_at: datetime, expires_at: datetime
) -> str:
    return auth.signer.sign(
        REFRESH, user_id, issued_at=issued_at, expires_at=expires_at, jti=jti, sid=str(session_id)
    )


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
    if auth.settings.single_session:
        await end_all_sessions(auth, user_id, keep=session_id)
    return await _issue(auth, user_id, session_id, session_ends, jti, now)


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
    issued_at, expires_at = as_utc(token.created_at), as_utc(token.expires_at)
    refresh_token = _sign_refresh(auth, token.user_id, token.session_id, token.jti, issued_at, expires_at)
    access_token = auth.signer.access_token(token.user_id, token.session_id)
    return TokenSet(access_token, refresh_token, token.session_id)


async def _punish_reuse(auth: Auth, spent: _StoredToken) -> None:
    """Ends the session, committed before the refusal is raised: a rollback would keep the thief in."""
    if await _end_stolen(auth, spent):
        stolen = Observation(spent["user_id"], spent["session_id"])
        await auth.events.emit(EventKind.REFRESH_REUSE, Outcome.FAILURE, stolen)


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
