"""Rotation: a refresh token is spent for a new pair, once (RFC 9700 section 4.14.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from tortoise.exceptions import IntegrityError

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, Outcome
from ..hooks import SessionEnded
from ..models import AbstractSession
from ..security.clock import as_utc
from ..security.jwt import REFRESH, actor_of, new_token_id, session_of, subject_of
from .authentication import is_live
from .ends import End, end_access
from .notices import notify
from .sessions import TokenSet, issue_tokens, sign_refresh_token

_StoredToken: TypeAlias = Mapping[str, Any]
"""A refresh token, with what its user and session say of it: a row of `queries.refresh_token`."""


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


async def _successor(auth: Auth, spent: _StoredToken, jti: str, now: datetime) -> TokenSet | None:
    """The pair that replaces a spent token, or None where its session or account has ended."""
    if not spent["active"]:
        return None
    user_id, session_id, session_ends = spent["user_id"], spent["session_id"], spent["session_ends"]
    if session_id is None:
        session = await _adopt(auth, spent, now)
        session_id, session_ends = session.id, session.expires_at
    elif not is_live(auth, spent["session_ended"], session_ends):
        return None
    by = spent["impersonated_by"]
    if auth.settings.single_session and by is None:
        await end_access(auth, user_id, End.OTHERS, session_id)
    return await issue_tokens(auth, user_id, session_id, session_ends, jti, now, by)


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
        and is_live(auth, token["session_ended"], token["session_ends"])
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
    refresh_token = sign_refresh_token(auth, user_id, session_id, token.jti, issued_at, expires_at, by)
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
    if not await end_access(auth, user_id, End.REUSE, spent["session_id"]):
        return False
    await notify(auth, MailKind.SESSION_REUSE, await auth.tables.user.get(id=user_id))
    return True
