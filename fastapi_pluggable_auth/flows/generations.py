"""Generations: the pairs of a session are counted, so that a lost answer is not taken for a stolen one.

A pair is confirmed once a token of it is shown. One that replaced a spent token, and that nobody has shown,
may be replaced in turn: its answer was lost. It is superseded then, and no longer good for anything. Where
a token of it is shown all the same, two had the answer, and the session ends.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from ..auth import Auth, autonomous
from ..email.kinds import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, Outcome
from ..failures import failure_of, log_failure
from ..hooks import SessionEnded
from ..models import exact
from ..security.generations import includes
from .ends import End, end_access
from .notices import notify

logger = logging.getLogger(__name__)


async def note_shown(
    auth: Auth, user_id: UUID, session_id: UUID, session: Mapping[str, Any], gen: int, *, confirm: bool
) -> None:
    """Confirms the generation of an access token of a live session, unless that is known or not to be noted.
    Raises `AuthError(INVALID_TOKEN)` for a superseded one, after the session has ended."""
    superseded = session["superseded"]
    if gen > session["confirmed_gen"]:
        if not (confirm and auth.settings.signs_with_secret):
            return
        superseded = await _confirm(auth, session_id, gen)
    if superseded and includes(superseded, gen):
        await end_family(auth, user_id, session_id, session["impersonated_by"])
        raise AuthError(ErrorCode.INVALID_TOKEN)


async def _confirm(auth: Auth, session_id: UUID, gen: int) -> str:
    """The generations that are superseded, where another request was quicker: it may have replaced this one.
    A request goes on where it cannot be noted."""

    async def confirm() -> tuple[str] | None:
        if await auth.queries.confirm.run(id=session_id, confirmed_gen=gen):
            return ("",)
        session = await exact(auth.tables.session.all(), id=session_id)
        return None if session is None else (session.superseded,)

    try:
        found = await auth.autonomous.run_statement(confirm)
    except Exception as error:
        if failure_of(error) is None:
            raise
        log_failure(error, "That a token was shown could not be noted", logger)
        return ""
    return "" if found is None else found[0]


async def end_family(auth: Auth, user_id: UUID, session_id: UUID, impersonated_by: UUID | None) -> None:
    """Ends a session whose tokens two have, and tells the owner; committed before the refusal is raised, as
    a rollback would keep the thief in."""
    if await _end_family(auth, user_id, session_id):
        stolen = Observation(user_id, session_id, actor_id=impersonated_by)
        await auth.events.emit(EventKind.REFRESH_REUSE, Outcome.FAILURE, stolen)
        await auth.hooks.fire(SessionEnded, user_id, session_id)


@autonomous
async def _end_family(auth: Auth, /, user_id: UUID, session_id: UUID) -> bool:
    if not await end_access(auth, user_id, End.REUSE, session_id):
        return False
    user = await exact(auth.tables.user.all(), id=user_id)
    if user is not None:
        await notify(auth, MailKind.SESSION_REUSE, user)
    return True
