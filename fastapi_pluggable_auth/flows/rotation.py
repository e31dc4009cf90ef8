"""Rotation: a refresh token is spent for a new pair, once (RFC 9700 section 4.14.2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from tortoise.exceptions import IntegrityError

from ..auth import Auth, autonomous
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..failures import WrongRowError
from ..models import AbstractSession, exact, token_digest
from ..security.identifiers import time_ordered_id
from ..security.jwt import (
    REFRESH,
    Claims,
    Transport,
    actor_of,
    new_token_id,
    session_of,
    subject_of,
    transport_of,
)
from ..security.plaintext import Plaintext
from .authentication import is_live
from .ends import End, end_access
from .reuse import Client, Spent, StoredToken, answer_spent, has_fallen, next_pair, spent
from .session_tokens import TokenSet, issue_tokens
from .spent_tokens import DROPPED_EVERY, drop_spent, dropped

_LOOKS: Final = 5
"""How often a request that others overtake looks again at what has become of its token."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """This request has spent the token, for these."""

    tokens: TokenSet


@dataclass(frozen=True, slots=True)
class _Fresh:
    """What is made once for a rotation, whose transaction may run twice."""

    now: datetime
    jti: str
    session_id: UUID


async def rotate(
    auth: Auth,
    raw_token: str | Plaintext,
    *,
    transport: Transport = Transport.BEARER,
    answer: Transport | None = None,
) -> TokenSet:
    """Spends a refresh token for a new pair: one live token a session, ever (RFC 9700 section 4.14.2).
    `transport` is how the token came, `answer` how the pair goes out, the same way where that is None.

    A spent token that comes back within the leeway is a race: by cookie, or with the setting
    `refresh_idempotent`, it gets the same pair again. Later, where nobody has shown that pair, the answer was
    lost: the pair is replaced, or else revoked. In any other case two have the tokens, and the session ends.

    Raises `AuthError`: REFRESH_RACED where another request has spent the token and its answer is not
    repeated, INVALID_TOKEN otherwise.
    """
    raw_token = Plaintext.of(raw_token)
    async with auth.events.observe(EventKind.TOKEN_REFRESH) as observation:
        # An expired token may still be one that was stolen and spent; the database knows its end as well.
        claims = auth.signer.verify(raw_token.look(), REFRESH, transport=transport, allow_expired=True)
        observation.user_id, observation.session_id = subject_of(claims), session_of(claims)
        observation.actor_id = actor_of(claims)
        client = Client(
            answer or transport,
            repeats=transport is Transport.COOKIE or auth.settings.refresh_idempotent,
            bound=transport_of(claims) is not None,
        )
        try:
            return await _rotate(auth, token_digest(raw_token.take()), claims, client)
        except IntegrityError as error:  # the account was deleted meanwhile
            raise AuthError(ErrorCode.INVALID_TOKEN) from error


async def is_newest(auth: Auth, tokens: TokenSet) -> bool:
    """Whether a pair is still the one of its session: neither spent nor replaced, nor the session ended."""
    digest = token_digest(tokens.refresh_token)

    async def look() -> tuple[bool]:  # not inside a transaction of the host's, which may see the past
        live = auth.tables.refresh_token.filter(session__revoked_at=None)
        return (await exact(live, token=digest, revoked=False) is not None,)

    (newest,) = await auth.autonomous.run_statement(look)
    return newest


async def _rotate(auth: Auth, digest: str, claims: Claims, client: Client) -> TokenSet:
    now = auth.clock()
    fresh = _Fresh(now, new_token_id(), time_ordered_id(now))
    found: Rotated | Spent | None = await _spend(auth, digest, claims, client.transport, fresh)
    for _ in range(_LOOKS):
        match found:
            case Rotated(tokens):
                return tokens
            case Spent():
                tokens_again = await answer_spent(auth, found, client)
                if tokens_again is not None:
                    return tokens_again
            case None:
                raise AuthError(ErrorCode.INVALID_TOKEN)
        found = await _look(auth, digest, claims)
    raise AuthError(ErrorCode.REFRESH_RACED)


@autonomous
async def _spend(
    auth: Auth, digest: str, claims: Claims, transport: Transport, fresh: _Fresh
) -> Rotated | Spent | None:
    """Spends a token, where this request is the one that does; None where there never was such a token."""
    # One conditional UPDATE decides the race, and writes before anything is read.
    won = await auth.queries.spend.run(token=digest, rotated_at=fresh.now, replaced_by=fresh.jti)
    token = await auth.queries.refresh_token.first(token=digest)
    if token is None:
        return await dropped(auth, claims)
    if won and token["replaced_by"] != fresh.jti:  # a pooler ran another statement
        raise WrongRowError(auth.tables.refresh_token._meta.db_table)
    rotated = await _rotated(auth, token, transport, fresh) if won else None
    return rotated or await spent(auth, token)


@autonomous
async def _look(auth: Auth, digest: str, claims: Claims) -> Spent | None:
    token = await auth.queries.refresh_token.first(token=digest)
    return await (dropped(auth, claims) if token is None else spent(auth, token))


async def _rotated(auth: Auth, token: StoredToken, transport: Transport, fresh: _Fresh) -> Rotated | None:
    """The pair that replaces a token, None where its session or account has ended."""
    if not token["active"]:
        return None
    if token["session_id"] is None:
        session = await _adopt(auth, token, fresh)
        token = {**token, "session_id": session.id, "session_ends": session.expires_at}
    elif not is_live(auth, token["session_ended"], token["session_ends"]) or await has_fallen(auth, token):
        return None
    if auth.settings.single_session and token["impersonated_by"] is None:
        await end_access(auth, token["user_id"], End.OTHERS, token["session_id"])
    # Releases before do not count, and may have rotated meanwhile: a number is never given twice.
    gen = max(token["gen"], token["confirmed_gen"] or 0)
    pair = next_pair(auth, token, gen, transport, fresh.jti, fresh.now)
    tokens = await issue_tokens(auth, pair)
    if pair.gen % DROPPED_EVERY == 0:
        await drop_spent(auth, token, fresh.now)
    return Rotated(tokens)


async def _adopt(auth: Auth, token: StoredToken, fresh: _Fresh) -> AbstractSession:
    """Gives a session to a token that the host app stored without one."""
    session = await auth.tables.session.create(
        id=fresh.session_id,
        user_id=token["user_id"],
        authenticated_at=token["created_at"],
        expires_at=fresh.now + auth.settings.session_max_age,
        created_at=fresh.now,
    )
    await auth.tables.refresh_token.filter(id=token["id"]).update(session_id=session.id)
    return session
