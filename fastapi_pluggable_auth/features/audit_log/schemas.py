"""Bodies of the routes that show what was done."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from ...schemas import Schema

AfterEvent = Annotated[UUID | None, Field(description="The `next` of the page before.")]


class ActivityEvent(Schema):
    """Something that happened to the account. The time is UTC. Address and browser are those of the user."""

    id: UUID
    time: datetime
    event: str
    outcome: str
    reason: str | None
    factors: list[str]
    session_id: UUID | None
    by_administrator: bool
    address: str
    user_agent: str


class Activity(Schema):
    """A page of what happened, the newest first. `next` is `after` of the next page, null on the last."""

    events: list[ActivityEvent]
    next: UUID | None


class AuditEventOut(Schema):
    """A security event. `actor_id` is the administrator who did it, null where it was the user. The time is
    UTC. Address and browser are the actor's."""

    id: UUID
    time: datetime
    event: str
    outcome: str
    reason: str | None
    factors: list[str]
    user_id: UUID
    actor_id: UUID | None
    session_id: UUID | None
    address: str
    user_agent: str


class AuditPage(Schema):
    """A page of events, the newest first. `next` is `after` of the next page, null on the last."""

    events: list[AuditEventOut]
    next: UUID | None
