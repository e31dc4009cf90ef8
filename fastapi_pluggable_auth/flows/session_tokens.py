"""The two tokens of a session: what they say, and how they are signed and stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from ..auth import Auth
from ..models import AbstractSession
from ..security.identifiers import time_ordered_id
from ..security.jwt import REFRESH, Transport, actor_claim, new_token_id


@dataclass(frozen=True, slots=True)
class TokenSet:
    """The two tokens of a session, for the `transport` that they name, with when the pair was issued and when
    each of them expires, and the value by which a device that asked for one is known again."""

    access_token: str = field(repr=False)
    access_expires_at: datetime
    refresh_token: str = field(repr=False)
    refresh_expires_at: datetime
    session_id: UUID
    transport: Transport
    issued_at: datetime
    device: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What the two tokens of a session say; `expires_at` is the end of the refresh token. Signed again, that
    token is the same one. `factors` are those of the session, divided by blanks."""

    user_id: UUID
    session_id: UUID
    impersonated_by: UUID | None
    transport: Transport
    jti: str
    gen: int
    issued_at: datetime
    expires_at: datetime
    factors: str


def first_pair(auth: Auth, session: AbstractSession, transport: Transport) -> Pair:
    """What the tokens of a session say that was just opened."""
    return Pair(
        user_id=session.user_id,
        session_id=session.id,
        impersonated_by=session.impersonated_by,
        transport=transport,
        jti=new_token_id(),
        gen=0,  # which needs no confirmation: nobody has a token that it replaces
        issued_at=session.created_at,
        expires_at=refresh_token_end(auth, session.created_at, session.expires_at),
        factors=session.factors,
    )


async def issue_tokens(auth: Auth, pair: Pair) -> TokenSet:
    """Signs a pair, and stores its refresh token."""
    tokens = sign_pair(auth, pair)
    await auth.queries.store_token.run(
        id=time_ordered_id(pair.issued_at),
        user_id=pair.user_id,
        session_id=pair.session_id,
        token=tokens.refresh_token,
        jti=pair.jti,
        expires_at=pair.expires_at,
        revoked=False,
        gen=pair.gen,
        created_at=pair.issued_at,
    )
    return tokens


def sign_pair(auth: Auth, pair: Pair) -> TokenSet:
    """The tokens of a pair: the refresh token that was stored for it, and an access token signed now."""
    user_id, session_id, by = pair.user_id, pair.session_id, pair.impersonated_by
    claims = {"gen": pair.gen, "transport": pair.transport.value}
    refresh_token = auth.signer.sign(
        REFRESH,
        user_id,
        issued_at=pair.issued_at,
        expires_at=pair.expires_at,
        jti=pair.jti,
        sid=str(session_id),
        **actor_claim(by),
        **claims,
    )
    shown = {"amr": pair.factors.split()} if pair.factors else {}
    now = auth.clock()
    access_token = auth.signer.access_token(
        user_id, session_id, actor_id=by, issued_at=now, **claims, **shown
    )
    return TokenSet(
        access_token=access_token,
        access_expires_at=auth.signer.access_token_end(now),
        refresh_token=refresh_token,
        refresh_expires_at=pair.expires_at,
        session_id=session_id,
        transport=pair.transport,
        issued_at=pair.issued_at,
    )


def refresh_token_end(auth: Auth, now: datetime, session_ends: datetime) -> datetime:
    """When a refresh token that is signed now expires: never after its session."""
    return min(now + auth.settings.refresh_token_expires, session_ends)
