"""What was done, kept to be read."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import ClassVar, Final

from tortoise import Model, fields
from tortoise.expressions import Q

from ...errors import MAXIMUM_CODE_LENGTH
from ...events import MAXIMUM_KIND_LENGTH
from ...models.lifetimes import AccessEnded, End, Expired, Reach
from ...models.moments import MomentField
from ...models.outward import Outward
from ...security.clock import utc_now
from ...security.identifiers import first_id_at, time_ordered_id


def new_event_id() -> uuid.UUID:
    """The id of an event of this moment: ids are in the order of time."""
    return time_ordered_id(utc_now())


class AbstractAuditEvent(Outward, Model):
    """A security event that is kept: who did what to whose account, from where, and how it ended.

    It refers to accounts and sessions by their bare ids, as it outlives them. `actor_id` is the administrator
    who did it, null where it was the user, or somebody posing as one. Address and browser are the actor's.
    """

    id = fields.UUIDField(primary_key=True, default=new_event_id)
    time = MomentField()
    user_id = fields.UUIDField()
    actor_id = fields.UUIDField(null=True, db_index=True)
    session_id = fields.UUIDField(null=True)
    kind = fields.CharField(max_length=MAXIMUM_KIND_LENGTH)
    outcome = fields.CharField(max_length=16)
    reason = fields.CharField(max_length=MAXIMUM_CODE_LENGTH, null=True)
    factors = fields.CharField(max_length=32, default="")
    address = fields.CharField(max_length=45, default="")
    user_agent = fields.CharField(max_length=255, default="")

    class Meta:
        abstract = True


class AuditEvent(AbstractAuditEvent):
    """A security event that is kept."""

    class Meta:
        table = "auth_audit_event"
        indexes: ClassVar = [("user_id", "id")]


EXPIRED: Final = Expired(
    AuditEvent, lambda now, settings: Q(id__lt=first_id_at(now - settings.audit_retention))
)


def _nowhere(_: datetime) -> dict[str, str]:
    return {"address": "", "user_agent": ""}


ACCESS_ENDED: Final = (
    AccessEnded(AuditEvent, {End.DELETED: Reach.ALL}, where=Q(actor_id=None), change=_nowhere),
    AccessEnded(AuditEvent, {End.DELETED: Reach.ALL}, user="actor_id", change=_nowhere),
)
"""With an account it is forgotten from where it was used; what was done to it stays."""
