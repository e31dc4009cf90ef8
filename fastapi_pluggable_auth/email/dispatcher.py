"""Sends what waits in the outbox: right after a response, and in the background until it has gone."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias
from uuid import UUID

from ..config import AuthSettings
from ..failures import failure_of, log_failure
from ..models import AbstractMail
from ..rounds import Rounds
from .base import MailError
from .composer import Composer
from .outbox import Outbox
from .sender import Mailer, TemplateError

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 5.0
"""How often the outbox is looked at where nothing wakes the dispatcher."""
ATTEMPT_SECONDS: Final = 90.0
"""How long one attempt may take; less than a claim lasts."""
GRACE_SECONDS: Final = 5.0
"""How long mails that are under way when the app stops may take to end."""
MARKING_PAUSES: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds between the tries to note that a mail has gone: where that fails, it is sent again."""

SendEmail: TypeAlias = Callable[[UUID], Awaitable[object] | object]
"""Gives the id of a mail to a task queue, whose worker calls `Dispatcher.deliver` with it."""


class Dispatcher:
    """Empties the outbox, `mail_concurrency` mails at a time."""

    def __init__(
        self,
        settings: AuthSettings,
        outbox: Outbox,
        composer: Composer,
        mailer: Mailer,
        send_email: SendEmail | None = None,
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._composer = composer
        self._mailer = mailer
        self.send_email = send_email
        self._running: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._slots: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None
        self._claims = Rounds("Taking mails from the outbox", logger)

    async def deliver(self, ids: Collection[UUID | str]) -> None:
        """Sends these mails, each unless another process has it or it has gone. Never raises: what fails is
        tried again later."""
        for mail_id in ids:
            async with self._slot():
                for mail in await self._claimed(self._outbox.claim(1, [mail_id])):
                    await self._attempt(mail)

    async def deliver_due(self) -> int:
        """Sends, or hands over, all that is due and returns how many mails that were. Never raises."""
        tried = 0
        while mails := await self._next(self._settings.mail_concurrency):
            await asyncio.gather(*map(self._handle, mails))
            tried += len(mails)
        await self._mailer.rest()
        return tried

    async def after_response(self, ids: Collection[UUID]) -> None:
        """Has the mails of a request sent: by the running dispatcher, or here and now where none runs."""
        if self._running is not None:
            self._wake.set()
        elif self._settings.deliver_mail:
            for mail_id in ids:
                async with self._slot():
                    for mail in await self._next(1, [mail_id]):
                        await self._handle(mail)
            await self._mailer.rest()

    def start(self) -> None:
        """Sends what is due, now and until `stop`, in tasks of the running event loop."""
        self._stopping, self._wake = False, asyncio.Event()
        self._running = asyncio.create_task(self._run(), name="mail-dispatcher")

    async def stop(self) -> None:
        """Begins no other mail, and lets those under way end for some seconds: who cuts one off may send it
        twice."""
        if self._running is None:
            return
        self._stopping = True
        self._wake.set()
        await _end({self._running})  # first: it may have claimed mails just now
        await _end(self._under_way)
        self._running = None

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            free = self._settings.mail_concurrency - len(self._under_way)
            for mail in await self._next(free) if free > 0 else ():
                task = asyncio.create_task(self._handle(mail))
                self._under_way.add(task)
                task.add_done_callback(self._ended)
            try:
                await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
            except TimeoutError:
                await self._mailer.rest()

    def _slot(self) -> asyncio.Semaphore:
        """Taken before a mail is claimed, so that no claim runs out in a queue; one for each event loop."""
        loop = asyncio.get_running_loop()
        if self._slots is None or self._slots[0] is not loop:
            self._slots = loop, asyncio.Semaphore(self._settings.mail_concurrency)
        return self._slots[1]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("Handling a mail failed", exc_info=error)
        self._wake.set()

    async def _next(self, limit: int, ids: Collection[UUID] | None = None) -> list[AbstractMail]:
        """Takes over what is due."""
        take = self._outbox.claim if self.send_email is None else self._outbox.hand_over
        return await self._claimed(take(limit, ids))

    async def _claimed(self, taking: Awaitable[list[AbstractMail]]) -> list[AbstractMail]:
        with self._claims.one():
            return await taking
        return []  # whatever it is, it must not end the dispatcher

    async def _handle(self, mail: AbstractMail) -> None:
        if self.send_email is None:
            await self._attempt(mail)
            return
        with _keeping(mail):
            try:
                await _call(self.send_email, mail.id)
            except Exception as error:
                logger.exception("Mail %s (%s) could not be handed over", mail.id, mail.kind)
                await self._outbox.mark_failed(mail, type(error).__name__, permanent=False)

    async def _attempt(self, mail: AbstractMail) -> None:
        with _keeping(mail):
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    rendered = await self._composer.compose(mail)
                    if rendered is not None:
                        await self._mailer.submit(mail.recipient, rendered)
            except MailError as error:
                await self._outbox.mark_failed(mail, str(error), permanent=error.permanent)
            except TemplateError as error:
                logger.error("Mail %s (%s) waits until its template is mended: %s", mail.id, mail.kind, error)
                await self._outbox.mark_failed(mail, str(error), permanent=False)
            except Exception as error:
                # A broken provider must not stop the mails behind it.
                if failure_of(error) is None:
                    logger.exception("Mail %s (%s) failed", mail.id, mail.kind)
                else:
                    log_failure(error, f"Mail {mail.id} ({mail.kind}) failed", logger)
                await self._outbox.mark_failed(mail, type(error).__name__, permanent=False)
            else:
                await (self._outbox.drop(mail) if rendered is None else self._mark_sent(mail))

    async def _mark_sent(self, mail: AbstractMail) -> None:
        for pause in MARKING_PAUSES:
            try:
                await self._outbox.mark_sent(mail)
                return
            except Exception:
                await asyncio.sleep(pause)
        await self._outbox.mark_sent(mail)


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Waits for tasks for some seconds, and cancels what is left."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late, timeout=GRACE_SECONDS)


@contextmanager
def _keeping(mail: AbstractMail) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if failure_of(error) is None:
            logger.exception("Mail %s (%s) stays in the outbox", mail.id, mail.kind)
        else:
            log_failure(error, f"Mail {mail.id} ({mail.kind}) stays in the outbox", logger)


async def _call(send_email: SendEmail, mail_id: UUID) -> None:
    """Functions that are not asynchronous may wait for their queue: in a thread."""
    if inspect.iscoroutinefunction(send_email):
        await send_email(mail_id)
        return
    result = await asyncio.to_thread(send_email, mail_id)
    if inspect.isawaitable(result):
        await result
