"""The mails of the flows: those that somebody asks for, and those that tell an owner of a change."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from ..auth import Auth, autonomous
from ..features.feature import MailTable
from ..models import AbstractUser
from .throttle import may_mail


async def mail_on_request(auth: Auth, kind: MailTable, email: str) -> None:
    """Queues a mail that anyone may ask for, unless the address has had too many. Never says whether it
    did."""
    if await may_mail(auth, kind, email):
        await mail_anyway(auth, kind, email)


async def mail_anyway(auth: Auth, kind: MailTable, recipient: str, **options: Any) -> None:
    """Queues a mail that goes out even when a transaction of the host rolls back, as what it is about stays.
    The options are those of `Outbox.add`."""
    await _queue(auth, kind, recipient, {"mail_id": uuid4(), **options})


@autonomous
async def _queue(auth: Auth, /, kind: MailTable, recipient: str, options: dict[str, Any]) -> bool:
    await auth.outbox.add(kind, recipient, **options)
    return True


async def notify(auth: Auth, kind: MailTable, user: AbstractUser, **context: Any) -> None:
    """Queues a notice to the address that was in force before the change, with the time and no secret.
    Belongs inside the transaction of the change (ASVS 6.3.7)."""
    await auth.outbox.add(kind, user.email, user_id=user.id, when=_now(auth), **context)


async def notify_former_address(auth: Auth, kind: MailTable, user: AbstractUser, **context: Any) -> None:
    """The same to an address that was the account's: the mail is not one of its rows, as a thief who has the
    account may delete it, and so it carries its language itself."""
    await auth.outbox.add(kind, user.email, language=user.language, when=_now(auth), **context)


async def notify_anyway(auth: Auth, kind: MailTable, user: AbstractUser, **context: Any) -> None:
    """The same about what a refusal has ended, by `mail_anyway`."""
    await mail_anyway(auth, kind, user.email, user_id=user.id, when=_now(auth), **context)


def _now(auth: Auth) -> str:
    return f"{auth.clock():%Y-%m-%d %H:%M} UTC"
