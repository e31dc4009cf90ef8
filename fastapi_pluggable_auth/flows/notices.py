"""The mails of the flows: those that somebody asks for, and those that tell an owner of a change."""

from __future__ import annotations

from ..auth import Auth
from ..email.kinds import MailKind
from ..models import AbstractUser
from .throttle import may_mail


async def mail_on_request(auth: Auth, kind: MailKind, email: str) -> None:
    """Queues a mail that anybody may ask for, unless the address has had too many. Never tells."""
    if await may_mail(auth, kind, email):
        await auth.outbox.add(kind, email)


async def notify(auth: Auth, kind: MailKind, user: AbstractUser, **context: object) -> None:
    """Queues a notice to the address that was in force before the change, with the time and no secret.
    Belongs inside the transaction of the change (ASVS 6.3.7)."""
    when = f"{auth.clock():%Y-%m-%d %H:%M} UTC"
    await auth.outbox.add(kind, user.email, user_id=user.id, when=when, **context)
