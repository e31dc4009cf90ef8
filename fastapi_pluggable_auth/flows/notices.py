"""Telling the owner of an account what was changed (ASVS 6.3.7)."""

from __future__ import annotations

from ..auth import Auth
from ..email.outbox import MailKind
from ..models import AbstractUser


async def notify(auth: Auth, kind: MailKind, user: AbstractUser, **context: str | None) -> None:
    """Queues a notice to the address that was in force before the change, with the time and no secret.
    Belongs inside the transaction of the change."""
    when = f"{auth.clock():%Y-%m-%d %H:%M} UTC"
    await auth.outbox.add(kind, user.email, user_id=user.id, when=when, **context)
