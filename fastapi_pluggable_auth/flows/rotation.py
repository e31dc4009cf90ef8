"""Rotation: a refresh token is spent for a new pair, once (RFC 9700 section 4.14.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from tortoise.exceptions import IntegrityError

from ..auth import Auth, autonomous
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, Outcome
from ..failures import WrongRowError
from ..models import AbstractRefreshToken, AbstractSession, exact, token_digest
from ..models.session import SUPERSEDED_LENGTH
from ..security.generations import as_ranges
from ..security.identifiers import time_ordered_id
from ..security.jwt import (
    LEEWAY_SECONDS,
    REFRESH,
    Transport,
    actor_of,
    new_token_id,
    session_of,
    subject_of,
    transport_of,
)
from ..security.plaintext import Plaintext
from .acting import acting_administrator, end_impersonation
from .authentication import is_live
from .ends import End, end_access
from .generations import end_family
from .sessions import Pair, TokenSet, issue_tokens, refresh_token_end, sign_pair

_StoredToken: TypeAlias = Mapping[str, Any]
"""A refresh token, with what its user and session say of it: a row of `queries.refresh_token`."""

_LOOKS: Final = 5
"""How often a request that others overtake looks again at what has become of its token."""


class _Fresh(NamedTuple):
    """What is made once for a rotation, which may run twice."""

    now: datetime
    jti: str
    session_id: UUID


class _Spent(NamedTuple):
    """A token that was spent before, and what it was spent for, where that is still there."""

    token: _StoredToken
    successor: AbstractRefreshToken | None


class _OvertakenError(Exception):
    """What was to be replaced was spent, shown, replaced or ended meanwhile."""


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
        try:
            return await _rotate(
                auth,
                token_digest(raw_token.take()),
                answer or transport,
                repeats=transport is Transport.COOKIE or auth.settings.refresh_idempotent,
                bound=transport_of(claims) is not None,
            )
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


async def _rotate(auth: Auth, digest: str, answer: Transport, *, repeats: bool, bound: bool) -> TokenSet:
    """`repeats` is whether a retry gets a pair, `bound` whether the token names its transport."""
    now = auth.clock()
    found = await _spend(auth, digest, answer, _Fresh(now, new_token_id(), time_ordered_id(now)))
    for _ in range(_LOOKS):
        if isinstance(found, TokenSet):
            return found
        if found is None or not await _lives_on(auth, found.token):
            raise AuthError(ErrorCode.INVALID_TOKEN)
        try:
            return await _spent_before(auth, found, answer, repeats=repeats, bound=bound)
        except _OvertakenError:
            found = await _look(auth, digest)
    raise AuthError(ErrorCode.REFRESH_RACED)


@autonomous
async def _spend(auth: Auth, digest: str, answer: Transport, fresh: _Fresh) -> TokenSet | _Spent | None:
    """The successors of a token where this request is the one that spends it, or what is known of it."""
    # One conditional UPDATE decides the race, and writes before anything is read.
    won = await auth.queries.spend.run(token=digest, rotated_at=fresh.now, replaced_by=fresh.jti)
    token = await auth.queries.refresh_token.first(token=digest)
    if token is None:
        return None
    if won and token["replaced_by"] != fresh.jti:  # a pooler ran another statement
        raise WrongRowError(auth.tables.refresh_token._meta.db_table)
    tokens = await _successor(auth, token, answer, fresh) if won else None
    return tokens or await _spent(auth, token)


@autonomous
async def _look(auth: Auth, digest: str) -> _Spent | None:
    token = await auth.queries.refresh_token.first(token=digest)
    return None if token is None else await _spent(auth, token)


async def _spent(auth: Auth, token: _StoredToken) -> _Spent:
    replaced_by = token["replaced_by"]
    if replaced_by is None:
        return _Spent(token, None)
    return _Spent(token, await exact(auth.tables.refresh_token.all(), jti=replaced_by))


async def _successor(auth: Auth, spent: _StoredToken, answer: Transport, fresh: _Fresh) -> TokenSet | None:
    """The pair that replaces a spent token, or None where its session or account has ended."""
    if not spent["active"]:
        return None
    if spent["session_id"] is None:
        session = await _adopt(auth, spent, fresh)
        spent = {**spent, "session_id": session.id, "session_ends": session.expires_at}
    elif not is_live(auth, spent["session_ended"], spent["session_ends"]) or await _fallen(auth, spent):
        return None
    if auth.settings.single_session and spent["impersonated_by"] is None:
        await end_access(auth, spent["user_id"], End.OTHERS, spent["session_id"])
    # Releases before do not count, and may have rotated meanwhile: a number is never given twice.
    gen = max(spent["gen"], spent["confirmed_gen"] or 0)
    return await issue_tokens(auth, _next_pair(auth, spent, gen, answer, fresh))


async def _fallen(auth: Auth, spent: _StoredToken) -> bool:
    """Whether it belongs to an impersonation that does not stand any more."""
    if spent["impersonated_by"] is None:
        return False
    sessions = auth.tables.session.all().select_related("user")
    session = await exact(sessions, id=spent["session_id"], user_id=spent["user_id"])
    if session is None or session.user.id != session.user_id:
        return True
    by, begun_in = spent["impersonated_by"], session.begun_in
    return await acting_administrator(auth, session.user, by, begun_in) is None


def _next_pair(auth: Auth, spent: _StoredToken, gen: int, answer: Transport, fresh: _Fresh) -> Pair:
    """What follows on a spent token and this generation."""
    return Pair(
        user_id=spent["user_id"],
        session_id=spent["session_id"],
        impersonated_by=spent["impersonated_by"],
        transport=answer,
        jti=fresh.jti,
        gen=gen + 1,
        issued_at=fresh.now,
        expires_at=refresh_token_end(auth, fresh.now, spent["session_ends"]),
        factors=spent["factors"] or "",
    )


async def _adopt(auth: Auth, token: _StoredToken, fresh: _Fresh) -> AbstractSession:
    """Gives a token that the host app stored a session of its own."""
    session = await auth.tables.session.create(
        id=fresh.session_id,
        user_id=token["user_id"],
        authenticated_at=token["created_at"],
        expires_at=fresh.now + auth.settings.session_max_age,
        created_at=fresh.now,
    )
    await auth.tables.refresh_token.filter(id=token["id"]).update(session_id=session.id)
    return session


async def _lives_on(auth: Auth, token: _StoredToken) -> bool:
    """Whether a token that is good no more was spent, or replaced, in a session that still lives. That of an
    impersonation that does not stand any more ends."""
    lives = (
        (token["rotated_at"] is not None or token["superseded"])
        and token["session_id"] is not None
        and token["active"]
        and is_live(auth, token["session_ended"], token["session_ends"])
    )
    if lives and await _fallen(auth, token):
        await end_impersonation(auth, token["user_id"], token["session_id"])
        return False
    return lives


async def _spent_before(
    auth: Auth, found: _Spent, answer: Transport, *, repeats: bool, bound: bool
) -> TokenSet:
    """The answer to a token that was spent before. Raises `_OvertakenError` where to look again."""
    spent, successor = found
    if spent["superseded"]:
        raise await _stolen(auth, spent)
    if successor is not None and successor.superseded:
        # Revoked, as its answer was lost, or replaced between the two reads.
        raise _OvertakenError if repeats else AuthError(ErrorCode.REFRESH_RACED)
    now = auth.clock()
    minted = spent["rotated_at"] if successor is None else successor.created_at
    raced = now - minted <= auth.settings.refresh_reuse_leeway
    if successor is None or successor.revoked:
        raise AuthError(ErrorCode.REFRESH_RACED) if raced else await _stolen(auth, spent)
    again = sign_pair(auth, _repeated_pair(successor, spent, answer))
    same = token_digest(again.refresh_token) == successor.token  # not where it went out another way
    if raced:
        if repeats and same:
            return again
        raise AuthError(ErrorCode.REFRESH_RACED)
    if not auth.settings.signs_with_secret or successor.gen <= spent["confirmed_gen"]:
        raise await _stolen(auth, spent)
    if spent["expires_at"] <= now:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    return await _lost(auth, spent, successor, answer if repeats and (bound or same) else None, now)


async def _stolen(auth: Auth, spent: _StoredToken) -> AuthError:
    """The refusal of a token that two have, after its session has ended."""
    await end_family(auth, spent["user_id"], spent["session_id"], spent["impersonated_by"])
    return AuthError(ErrorCode.INVALID_TOKEN)


def _repeated_pair(token: AbstractRefreshToken, spent: _StoredToken, answer: Transport) -> Pair:
    return Pair(
        user_id=token.user_id,
        session_id=spent["session_id"],
        impersonated_by=spent["impersonated_by"],
        transport=answer,
        jti=token.jti,
        gen=token.gen,
        issued_at=token.created_at,
        expires_at=token.expires_at,
        factors=spent["factors"],
    )


async def _lost(
    auth: Auth, spent: _StoredToken, unseen: AbstractRefreshToken, answer: Transport | None, now: datetime
) -> TokenSet:
    """The pair that replaces one whose answer was lost; REFRESH_RACED where retries get no `answer`."""
    fresh = _Fresh(now, new_token_id(), spent["session_id"])
    pair = None if answer is None else _next_pair(auth, spent, unseen.gen, answer, fresh)
    if not await _replace(auth, spent, unseen, pair, now):
        raise _OvertakenError
    seen = Observation(spent["user_id"], spent["session_id"], actor_id=spent["impersonated_by"])
    await auth.events.emit(EventKind.REFRESH_LOST, Outcome.SUCCESS, seen)
    if pair is None:
        raise AuthError(ErrorCode.REFRESH_RACED)
    return sign_pair(auth, pair)


@autonomous
async def _replace(
    auth: Auth, spent: _StoredToken, unseen: AbstractRefreshToken, pair: Pair | None, now: datetime
) -> bool:
    """Supersedes a pair that nobody has shown, by another where there is one. False, or `_OvertakenError`,
    where somebody has."""
    tokens, sessions = auth.tables.refresh_token, auth.tables.session
    if not await tokens.filter(id=unseen.id, revoked=False).update(revoked=True, superseded=True):
        return False
    if pair is not None:
        await tokens.filter(id=spent["id"]).update(replaced_by=pair.jti)
    unconfirmed = sessions.filter(id=spent["session_id"], revoked_at=None, confirmed_gen__lt=unseen.gen)
    # Confirmed as well: a request that is about to confirm it finds that it cannot, and looks again.
    superseded = await _superseded(auth, spent, now)
    if not await unconfirmed.update(confirmed_gen=unseen.gen, superseded=superseded):
        raise _OvertakenError
    if pair is not None:
        await issue_tokens(auth, pair)
    return True


async def _superseded(auth: Auth, spent: _StoredToken, now: datetime) -> str:
    """The superseded generations whose access tokens have not expired. A pair is repeated, and its access
    token so signed again, as long as a race may last."""
    settings = auth.settings
    lifetime = settings.access_token_expires + settings.refresh_reuse_leeway
    newer = now - lifetime - timedelta(seconds=LEEWAY_SECONDS)
    tokens = auth.tables.refresh_token.filter(session_id=spent["session_id"], superseded=True)
    generations = await tokens.filter(created_at__gt=newer).values_list("gen", flat=True)
    return as_ranges([int(gen) for gen in generations], SUPERSEDED_LENGTH)  # type: ignore[call-overload]  # flat lists are typed as tuples
