"""The outbox."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from tortoise import Model, fields
from tortoise.fields.base import OnDelete

from .columns import EmailField
from .moments import MomentField
from .outward import Outward
from .user import User

MAXIMUM_KIND_LENGTH: Final = 32


class MailState(StrEnum):
    """Where a mail is on its way."""

    WAITING = "waiting"
    SENDING = "sending"
    """A process has it, until `next_attempt_at`."""
    HANDED_OVER = "handed_over"
    """The task queue of the host app has it, until `next_attempt_at`."""
    SENT = "sent"
    DEAD = "dead"
    """Given up: refused for good, or older than `email_max_age`."""


class AbstractMail(Outward, Model):
    """One mail to send. It names its kind and address, not its link: that is made when the mail is sent."""

    id = fields.UUIDField(primary_key=True, default=uuid.uuid4)
    user: Any
    user_id: uuid.UUID | None
    kind = fields.CharField(max_length=MAXIMUM_KIND_LENGTH)
    recipient = EmailField()
    context: Any = fields.JSONField(default=dict)
    state = fields.CharEnumField(MailState, max_length=16, default=MailState.WAITING)
    attempts = fields.IntField(default=0)
    next_attempt_at: datetime | None = MomentField(null=True, db_index=True)
    give_up_at = MomentField()
    sent_at = MomentField(null=True)
    last_error = fields.CharField(max_length=255, default="")
    created_at = MomentField(auto_now_add=True)

    class Meta:
        abstract = True


class Mail(AbstractMail):
    """A mail to or about a `User`."""

    user: fields.ForeignKeyNullableRelation[User] = fields.ForeignKeyField(
        User, related_name="auth_mails", null=True, on_delete=OnDelete.CASCADE, db_index=True
    )

    class Meta:
        table = "auth_mail"
        indexes: ClassVar = [("state", "created_at")]
