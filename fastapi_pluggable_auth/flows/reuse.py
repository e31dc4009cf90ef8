"""A refresh token that comes back after it was spent: a race, an answer that was lost, or a theft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from ..auth import Auth, autonomous
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, Outcome
from ..models import AbstractRefreshToken, exact, token_digest
from ..models.session import SUPERSEDED_LENGTH
from ..security.generations import as_ranges
from ..security.jwt import LEEWAY_SECONDS, Transport, new_token_id
from .acting import acting_administrator, end_impersonation
from .authentication import is_live
from .generations import end_family
from .session_tokens import Pair, TokenSet, issue_tokens, refresh_token_end, sign_pair

StoredToken: TypeAlias = Mapping[str, Any]
"""A refresh token, with what its user and session say of it: a row of `queries.refresh_token`."""


@dataclass(frozen=True, slots=True)
class Client:
    """How a client refreshes: its pair goes out by `transport`, `repeats` is whether a retry gets a pair
    again, and `bound` whether the token that it sent names its transport."""

    transport: Transport
    repeats: bool
    bound: bool


@dataclass(frozen=True, slots=True)
class Spent:
    """A token that was spent before, or that is no longer good, and the token that it was spent for, where
    that is still there."""

    token: StoredToken
    successor: AbstractRefreshToken | None


class _OvertakenError(Exception):
    """What was to be replaced was shown or ended meanwhile: rolls the transaction back."""


async def spent(auth: Auth, token: StoredToken) -> Spent:
    """The token with its successor, read now."""
    replaced_by = token["replaced_by"]
    if replaced_by is None:
        return Spent(token, None)
    return Spent(token, await exact(auth.tables.refresh_token.all(), jti=replaced_by))


async def answer_spent(auth: Auth, found: Spent, client: Client) -> TokenSet | None:
    """The pair that a retry gets; None where another request has changed something meanwhile: look again.
    Raises `AuthError`: REFRESH_RACED, and INVALID_TOKEN, for a theft after the session has ended."""
    token, successor = found.token, found.successor
    if not await _lives_on(auth, token):
        raise AuthError(ErrorCode.INVALID_TOKEN)
    if token["superseded"]:
        raise await _stolen(auth, token)
    if successor is not None and successor.superseded:
        # Revoked, as its answer was lost, or replaced between the two reads.
        if client.repeats:
            return None
        raise AuthError(ErrorCode.REFRESH_RACED)
    now = auth.clock()
    minted = token["rotated_at"] if successor is None else successor.created_at
    raced = now - minted <= auth.settings.refresh_reuse_leeway
    if successor is None or successor.revoked:
        raise AuthError(ErrorCode.REFRESH_RACED) if raced else await _stolen(auth, token)
    again = sign_pair(auth, _repeated_pair(token, successor, client.transport))
    same = token_digest(again.refresh_token) == successor.token  # not where it went out another way
    if raced:
        if client.repeats and same:
            return again
        raise AuthError(ErrorCode.REFRESH_RACED)
    if not auth.settings.signs_with_secret or successor.gen <= token["confirmed_gen"]:
        raise await _stolen(auth, token)
    if token["expires_at"] <= now:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    gets_another = client.repeats and (client.bound or same)
    return await _lost(auth, token, successor, client.transport if gets_another else None, now)


def next_pair(
    auth: Auth, token: StoredToken, gen: int, transport: Transport, jti: str, now: datetime
) -> Pair:
    """What follows on a token and this generation."""
    return Pair(
        user_id=token["user_id"],
        session_id=token["session_id"],
        impersonated_by=token["impersonated_by"],
        transport=transport,
        jti=jti,
        gen=gen + 1,
        issued_at=now,
        expires_at=refresh_token_end(auth, now, token["session_ends"]),
        factors=token["factors"] or "",
    )


async def has_fallen(auth: Auth, token: StoredToken) -> bool:
    """Whether it belongs to an impersonation that no longer stands."""
    if token["impersonated_by"] is None:
        return False
    sessions = auth.tables.session.all().select_related("user")
    session = await exact(sessions, id=token["session_id"], user_id=token["user_id"])
    if session is None or session.user.id != session.user_id:
        return True
    by, begun_in = token["impersonated_by"], session.begun_in
    return await acting_administrator(auth, session.user, by, begun_in) is None


async def _lives_on(auth: Auth, token: StoredToken) -> bool:
    """Whether it was spent, or replaced, in a session that still lives. The session of an impersonation that
    no longer stands ends."""
    lives = (
        (token["rotated_at"] is not None or token["superseded"])
        and token["session_id"] is not None
        and token["active"]
        and is_live(auth, token["session_ended"], token["session_ends"])
    )
    if lives and await has_fallen(auth, token):
        await end_impersonation(auth, token["user_id"], token["session_id"])
        return False
    return lives


async def _stolen(auth: Auth, token: StoredToken) -> AuthError:
    """The refusal of a token that two have, after its session has ended."""
    await end_family(auth, token["user_id"], token["session_id"], token["impersonated_by"])
    return AuthError(ErrorCode.INVALID_TOKEN)


def _repeated_pair(token: StoredToken, successor: AbstractRefreshToken, transport: Transport) -> Pair:
    return Pair(
        user_id=successor.user_id,
        session_id=token["session_id"],
        impersonated_by=token["impersonated_by"],
        transport=transport,
        jti=successor.jti,
        gen=successor.gen,
        issued_at=successor.created_at,
        expires_at=successor.expires_at,
        factors=token["factors"],
    )


async def _lost(
    auth: Auth,
    token: StoredToken,
    unseen: AbstractRefreshToken,
    transport: Transport | None,
    now: datetime,
) -> TokenSet | None:
    """The pair that replaces one whose answer was lost, None where that was overtaken. Raises
    `AuthError(REFRESH_RACED)` where retries get no pair, and so no `transport`."""
    pair = None if transport is None else next_pair(auth, token, unseen.gen, transport, new_token_id(), now)
    try:
        replaced = await _replace(auth, token, unseen, pair, now)
    except _OvertakenError:
        replaced = False
    if not replaced:
        return None
    seen = Observation(token["user_id"], token["session_id"], actor_id=token["impersonated_by"])
    await auth.events.emit(EventKind.REFRESH_LOST, Outcome.SUCCESS, seen)
    if pair is None:
        raise AuthError(ErrorCode.REFRESH_RACED)
    return sign_pair(auth, pair)


@autonomous
async def _replace(
    auth: Auth, token: StoredToken, unseen: AbstractRefreshToken, pair: Pair | None, now: datetime
) -> bool:
    """Supersedes a pair that nobody has shown, by another where there is one. False, or `_OvertakenError`
    where something was written, where somebody has."""
    tokens, sessions = auth.tables.refresh_token, auth.tables.session
    if not await tokens.filter(id=unseen.id, revoked=False).update(revoked=True, superseded=True):
        return False
    if pair is not None:
        await tokens.filter(id=token["id"]).update(replaced_by=pair.jti)
    unconfirmed = sessions.filter(id=token["session_id"], revoked_at=None, confirmed_gen__lt=unseen.gen)
    # Confirmed as well: a request that is about to confirm it finds that it cannot, and looks again.
    superseded = await _superseded(auth, token, now)
    if not await unconfirmed.update(confirmed_gen=unseen.gen, superseded=superseded):
        raise _OvertakenError
    if pair is not None:
        await issue_tokens(auth, pair)
    return True


async def _superseded(auth: Auth, token: StoredToken, now: datetime) -> str:
    """The superseded generations whose access tokens have not expired. A pair is repeated, and its access
    token so signed again, as long as a race may last."""
    settings = auth.settings
    lifetime = settings.access_token_expires + settings.refresh_reuse_leeway
    newer = now - lifetime - timedelta(seconds=LEEWAY_SECONDS)
    tokens = auth.tables.refresh_token.filter(session_id=token["session_id"], superseded=True)
    generations = await tokens.filter(created_at__gt=newer).values_list("gen", flat=True)
    return as_ranges([int(gen) for gen in generations], SUPERSEDED_LENGTH)  # type: ignore[call-overload]  # flat lists are typed as tuples
