"""What the tests of mail delivery share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi_pluggable_auth import Auth
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.models import Mail, MailState, User

from .conftest import Mailbox


@asynccontextmanager
async def dispatching(auth: Auth) -> AsyncIterator[None]:
    """The dispatcher of a running app."""
    auth.dispatcher.start()
    try:
        yield
    finally:
        await auth.dispatcher.stop()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def queue(auth: Auth, count: int = 1) -> list[str]:
    """Mails to as many new accounts; gives their addresses."""
    addresses = [f"u{number:03}@example.com" for number in range(count)]
    for address in addresses:
        user = await User.create(email=address, hashed_password="")
        await auth.outbox.add(MailKind.VERIFY, address, user_id=user.id)
    return addresses


async def all_sent() -> bool:
    return not await Mail.exclude(state=MailState.SENT).exists()


def recipients(mailbox: Mailbox) -> list[str]:
    return sorted(str(message["To"]) for message in mailbox.messages)
