"""Mail that survives: stored in the transaction of the flow, sent after the response, retried until gone."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from tortoise.expressions import F

from ..config import AuthSettings
from ..database import DATABASE_ERRORS
from ..models import AbstractMail, AbstractUser, Tables
from ..security.clock import Clock, as_utc
from .provider import MailError
from .sender import Mailer
from .tokens import LinkSigner, Purpose, link_state

logger = logging.getLogger(__name__)

LEASE: Final = timedelta(minutes=2)
"""How long a worker may take over one mail before another one tries."""
FIRST_RETRY: Final = timedelta(seconds=15)
LONGEST_RETRY: Final = timedelta(hours=1)
MAXIMUM_AGE: Final = timedelta(days=3)
POLL_SECONDS: Final = 5.0
BATCH: Final = 50


class MailKind(StrEnum):
    """The mails of the flows; each is a template of the same name."""

    VERIFY = "verify"
    RESET = "reset"
    EMAIL_CHANGE = "email_change"
    EMAIL_CHANGED = "email_changed"
    ACCOUNT_EXISTS = "account_exists"
    SESSION_REUSE = "session_reuse"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    TWO_FACTOR_ENABLED = "two_factor_enabled"
    TWO_FACTOR_DISABLED = "two_factor_disabled"
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed"
    RECOVERY_CODE_USED = "recovery_code_used"
    NEW_DEVICE = "new_device"


LINK_PATHS: Final = {
    MailKind.VERIFY: "auth/verify/{token}",
    MailKind.RESET: "auth/reset-password/{token}",
    MailKind.EMAIL_CHANGE: "auth/email-change/{token}",
}

_collected: ContextVar[list[UUID] | None] = ContextVar("collected_mails", default=None)


@contextmanager
def collect_mails() -> Iterator[list[UUID]]:
    """Gathers the ids of the mails that are added inside, so that the caller can send them afterwards."""
    ids: list[UUID] = []
    reset = _collected.set(ids)
    try:
        yield ids
    finally:
        _collected.reset(reset)


class Outbox:
    """The table of mails, and the worker that empties it."""

    def __init__(
        self, settings: AuthSettings, tables: Tables, mailer: Mailer, links: LinkSigner, clock: Clock
    ) -> None:
        self._settings = settings
        self._tables = tables
        self._mailer = mailer
        self._links = links
        self._clock = clock

    async def add(
        self, kind: MailKind, recipient: str, *, user_id: UUID | None = None, **context: Any
    ) -> None:
        """Queues a mail; inside a transaction it stands or falls with it. Without a user, the one who owns
        the address when the mail is sent is meant, and nothing is sent where nobody does."""
        now = self._clock()
        mail = await self._tables.mail.create(
            user_id=user_id,
            kind=kind.value,
            recipient=recipient,
            context=context,
            next_attempt_at=now,
            created_at=now,
        )
        collected = _collected.get()
        if collected is not None:
            collected.append(mail.id)

    async def deliver(self, ids: list[UUID]) -> None:
        """Sends these mails, each unless another worker has it. Never raises: what fails is tried later."""
        for mail_id in ids:
            try:
                await self._attempt(mail_id)
            except DATABASE_ERRORS:
                logger.exception("Mail %s could not be looked up; it stays in the outbox", mail_id)

    async def deliver_due(self) -> int:
        """Sends what is due, at most one batch; returns how many mails were tried."""
        due = self._tables.mail.filter(next_attempt_at__lte=self._clock())
        ids: list[UUID] = await due.order_by("next_attempt_at").limit(BATCH).values_list("id", flat=True)  # type: ignore[assignment]  # flat lists are typed as tuples
        await self.deliver(ids)
        return len(ids)

    async def run(self, stop: asyncio.Event) -> None:
        """Sends what is due until told to stop. Who stops it may also cancel it, to end a mail in mid-air;
        cancelling alone is not enough, as database drivers now and then swallow it."""
        while not stop.is_set():
            try:
                tried = await self.deliver_due()
            except DATABASE_ERRORS:
                logger.exception("The outbox could not be read")
                tried = 0
            if tried < BATCH:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), POLL_SECONDS)

    async def _attempt(self, mail_id: UUID) -> None:
        now = self._clock()
        mails = self._tables.mail
        # The claim: one worker moves the next attempt away, every other one then counts no row.
        claimed = await mails.filter(id=mail_id, next_attempt_at__lte=now).update(
            next_attempt_at=now + LEASE, attempts=F("attempts") + 1
        )
        if not claimed:
            return
        mail = await mails.get(id=mail_id)
        try:
            sent = await self._send(mail)
        except MailError as error:
            await self._failed(mail, str(error), permanent=error.permanent)
        except Exception as error:
            # A broken template or provider must not stop the mails behind it.
            logger.exception("Mail %s (%s) failed", mail.id, mail.kind)
            await self._failed(mail, type(error).__name__, permanent=False)
        else:
            if sent:
                await mails.filter(id=mail.id).update(
                    sent_at=self._clock(), next_attempt_at=None, last_error=""
                )
            else:
                await mails.filter(id=mail.id).delete()

    async def _send(self, mail: AbstractMail) -> bool:
        """Whether the mail was sent; a mail that makes no sense any more is not."""
        kind = MailKind(mail.kind)
        context = dict(mail.context)
        owner = {"id": mail.user_id} if mail.user_id else {"email": mail.recipient}
        user = await self._tables.user.get_or_none(**owner, is_active=True)
        if user is None or not _still_meant(kind, mail, user):
            return False
        if kind in LINK_PATHS:
            purpose = Purpose(kind.value)
            token = self._links.generate(purpose, user.id, link_state(purpose, user))
            lifetime = (
                self._settings.reset_token_ttl if kind is MailKind.RESET else self._settings.verify_token_ttl
            )
            context |= {"url": self._link(kind, token), "lifetime": _in_words(lifetime)}
        await self._mailer.send(mail.recipient, mail.kind, email=mail.recipient, **context)
        return True

    def _link(self, kind: MailKind, token: str) -> str:
        front_end = {
            MailKind.VERIFY: self._settings.verify_url,
            MailKind.RESET: self._settings.reset_url,
            MailKind.EMAIL_CHANGE: self._settings.email_change_url,
        }[kind]
        return (front_end or self._settings.public_url(LINK_PATHS[kind])).replace("{token}", token)

    async def _failed(self, mail: AbstractMail, reason: str, *, permanent: bool) -> None:
        now = self._clock()
        given_up = permanent or now - as_utc(mail.created_at) > MAXIMUM_AGE
        delay = min(FIRST_RETRY * 2 ** min(mail.attempts - 1, 16), LONGEST_RETRY)
        # Jitter keeps the mails of one outage from coming back all at once.
        retry_at = None if given_up else now + delay * random.uniform(0.8, 1.2)  # noqa: S311
        log = logger.error if given_up else logger.warning
        log("Mail %s (%s) not sent: %s%s", mail.id, mail.kind, reason, "; given up" if given_up else "")
        await self._tables.mail.filter(id=mail.id).update(next_attempt_at=retry_at, last_error=reason[:255])


def _still_meant(kind: MailKind, mail: AbstractMail, user: AbstractUser) -> bool:
    """Whether the account is still in the state that the mail speaks of."""
    if kind is MailKind.VERIFY:
        return user.email == mail.recipient and not user.is_verified
    if kind is MailKind.RESET:
        return user.email == mail.recipient
    if kind is MailKind.EMAIL_CHANGE:
        return user.pending_email == mail.recipient
    return True


def _in_words(duration: timedelta) -> str:
    """A duration for people: `24 hours`, `1 hour`, `10 minutes`."""
    minutes = max(1, round(duration.total_seconds() / 60))
    count, unit = (minutes // 60, "hour") if minutes % 60 == 0 else (minutes, "minute")
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
