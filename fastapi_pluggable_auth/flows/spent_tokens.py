"""Spent refresh tokens are not kept as long as their session: a later one of the same session that was spent
says as much of each of them (RFC 9700 section 4.14.2)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, cast
from uuid import UUID

from tortoise.expressions import Q

from ..auth import Auth
from ..models import matching
from ..security.jwt import LEEWAY_SECONDS, Claims, generation_of, session_of, subject_of
from .reuse import Spent, StoredToken

DROPPED_EVERY: Final = 8
"""Generations, so that most rotations need no statement more."""
_MOST: Final = 1000
"""How many are dropped at a time: databases limit the parameters of a statement."""


async def drop_spent(auth: Auth, token: StoredToken, now: datetime) -> None:
    """Deletes what is older than the token that is spent just now, which stays. Rows of generation 0 stay as
    well: tokens of 0.1 name neither their session nor a generation."""
    old = now - _kept_for(auth)
    tokens = auth.tables.refresh_token
    earlier = tokens.filter(session_id=token["session_id"], revoked=True, gen__gt=0, gen__lt=token["gen"])
    spent = earlier.filter(Q(rotated_at__lt=old) | Q(superseded=True, created_at__lt=old))
    # By their keys: MariaDB locks what lies between the rows of an index, where others store theirs.
    if ids := cast(list[UUID], await spent.limit(_MOST).values_list("id", flat=True)):
        await tokens.filter(id__in=ids).delete()


async def dropped(auth: Auth, claims: Claims) -> Spent | None:
    """A signed token of which nothing is stored, where it was dropped: of its session, a later one was spent.
    None where that is not known, as after a database was restored."""
    user_id, session_id, gen = subject_of(claims), session_of(claims), generation_of(claims)
    if session_id is None or not gen:
        return None
    asked = {"user_id": user_id, "session_id": session_id}
    spent = auth.tables.refresh_token.filter(**asked, gen__gt=gen, rotated_at__not_isnull=True)
    for later in matching(await spent.limit(1), **asked):
        token = await auth.queries.refresh_token.first(token=later.token)
        if token is not None:
            return Spent({**token, "gen": gen, "superseded": True}, None)
    return None


def _kept_for(auth: Auth) -> timedelta:
    """At least for as long as retries are answered, and access tokens of the same pair are good."""
    settings = auth.settings
    shown = settings.access_token_expires + settings.refresh_reuse_leeway + timedelta(seconds=LEEWAY_SECONDS)
    return max(settings.spent_token_retention, shown)
