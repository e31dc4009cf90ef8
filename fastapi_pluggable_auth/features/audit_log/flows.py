"""Reading the audit log, the newest events first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ...auth import Auth
from ...flows.authentication import Authentication
from ...flows.export import PIECE
from ...models import matching
from .models import AuditEvent
from .recording import AuditLog


@dataclass(frozen=True, slots=True)
class AuditEventPage:
    """Some events, and the id after which the next page begins: None on the last one."""

    events: list[AuditEvent]
    next: UUID | None


async def list_events(
    auth: Auth,
    *,
    user_id: UUID | None = None,
    actor_id: UUID | None = None,
    after: UUID | None = None,
    limit: int = 50,
) -> AuditEventPage:
    """The events of a user, of an administrator, or all, from after this event on. What is written meanwhile
    is newer and comes on no later page; no event comes twice."""
    await auth.service(AuditLog).written()
    events = auth.tables.of(AuditEvent).all()
    if user_id is not None:
        events = events.filter(user_id=user_id)
    if actor_id is not None:
        events = events.filter(actor_id=actor_id)
    if after is not None:
        events = events.filter(id__lt=after)
    of = {"user_id": user_id, "actor_id": actor_id}
    asked = {name: value for name, value in of.items() if value is not None}
    found = matching(await events.order_by("-id").limit(limit + 1), **asked)
    more = len(found) > limit
    return AuditEventPage([*found[:limit]], found[limit - 1].id if more else None)


async def export_events(auth: Auth, authentication: Authentication) -> AsyncIterator[dict[str, Any]]:
    """All events of the user who asks, the newest first."""
    user_id = authentication.user.id
    page = await list_events(auth, user_id=user_id, limit=PIECE)
    while True:
        for event in page.events:
            yield shown(event)
        if page.next is None:
            return
        page = await list_events(auth, user_id=user_id, after=page.next, limit=PIECE)


def shown(event: AuditEvent) -> dict[str, Any]:
    """What the user is told of it: where an administrator did it, not who and from where."""
    return {
        "id": event.id,
        "time": event.time,
        "event": event.kind,
        "outcome": event.outcome,
        "reason": event.reason,
        "factors": event.factors.split(),
        "session_id": event.session_id,
        "by_administrator": event.actor_id is not None,
        "address": "" if event.actor_id else event.address,
        "user_agent": "" if event.actor_id else event.user_agent,
    }
