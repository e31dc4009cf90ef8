"""The table of mails: stored in the transaction of the flow, claimed by one process, kept until sent."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from tortoise.expressions import F, Q
from tortoise.functions import Count
from tortoise.queryset import QuerySet

from ..config import AuthSettings
from ..database import in_one_transaction
from ..failures import Failure, failure_of
from ..features.feature import MailTable
from ..measurements import MailGivenUp, MailSent, Measurements
from ..models import AbstractMail, MailState, Tables, among
from ..security.clock import Clock

logger = logging.getLogger(__name__)

LEASE: Final = timedelta(minutes=2)
"""How long a process may take over one mail before another one tries: longer than any attempt."""
HAND_OVER: Final = timedelta(minutes=15)
"""How long a mail may wait in the task queue of the host app before it is handed over again."""
FIRST_RETRY: Final = timedelta(seconds=15)
LONGEST_RETRY: Final = timedelta(hours=1)
TOO_OLD: Final = "waited for longer than AUTH_EMAIL_MAX_AGE"
CANDIDATES: Final = 16
"""How many due mails are looked at for each one that is wanted, as other processes want some too."""

_ADDRESS: Final = re.compile(r"[^\s<]+@[^\s>]+")

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


@dataclass(frozen=True, slots=True)
class OutboxFigures:
    """How many mails wait, are under way and were given up, and when the oldest that has not gone was
    written."""

    waiting: int
    under_way: int
    dead: int
    oldest: datetime | None


class Outbox:
    """Mails that wait, and those that were sent or given up."""

    def __init__(
        self,
        settings: AuthSettings,
        tables: Tables,
        clock: Clock,
        mails: Collection[str],
        measurements: Measurements,
        *,
        pages: bool,
    ) -> None:
        self._settings = settings
        self._measurements = measurements
        self.kinds = mails
        """Those that this process sends."""
        self._unknown: set[str] = set()
        self._tables = tables
        self._clock = clock
        self._pages = pages
        self._skips_locked = True
        """Whether the server knows how to pass over rows that another process has, until it says no."""

    async def add(
        self,
        kind: MailTable,
        recipient: str,
        *,
        user_id: UUID | None = None,
        mail_id: UUID | None = None,
        expires_at: datetime | None = None,
        waiting: str | None = None,
        **context: Any,
    ) -> None:
        """Queues a mail; inside a transaction it stands or falls with it. Without a user, the one who owns
        the address when the mail is sent is meant, and nothing is sent where nobody does. A `mail_id` is for
        work that may run twice. What is of no use after `expires_at` is given up then. `waiting` is the id of
        what waits for its code."""
        now = self._clock()
        give_up_at = now + self._settings.email_max_age
        if self._pages and kind.spec.page:  # the process that sends the mail may not know
            context["pages"] = True
        if waiting is not None:
            context["waiting"] = waiting
        mail = await self._tables.mail.create(
            id=mail_id or uuid4(),
            user_id=user_id,
            kind=kind.value,
            recipient=recipient,
            context=context,
            next_attempt_at=now,
            give_up_at=give_up_at if expires_at is None else min(give_up_at, expires_at),
            created_at=now,
        )
        collected = _collected.get()
        if collected is not None:
            collected.append(mail.id)

    async def claim(self, limit: int, ids: Collection[UUID | str] | None = None) -> list[AbstractMail]:
        """Takes over mails that are due, all or of these, for one attempt each: for two minutes no other
        process gets them. Named ones are also taken back from the task queue they were handed over to. A mail
        of an unknown kind waits for a process that has its feature."""
        now = self._clock()
        claimable = Q(next_attempt_at__lte=now)
        if ids is not None:
            claimable = Q(claimable | Q(state=MailState.HANDED_OVER), id__in=list(ids))
        return await self._take(
            claimable,
            limit,
            known=True,
            state=MailState.SENDING,
            next_attempt_at=now + LEASE,
            attempts=F("attempts") + 1,
        )

    async def hand_over(self, limit: int, ids: Collection[UUID | str] | None = None) -> list[AbstractMail]:
        """Takes over mails that are due, all or of these, for the task queue of the host app."""
        now = self._clock()
        due = Q(next_attempt_at__lte=now) if ids is None else Q(next_attempt_at__lte=now, id__in=list(ids))
        return await self._take(due, limit, state=MailState.HANDED_OVER, next_attempt_at=now + HAND_OVER)

    async def mark_sent(self, mail: AbstractMail) -> None:
        """Keeps a mail that has gone, until it is purged."""
        now = self._clock()
        changes = {"state": MailState.SENT, "sent_at": now, "next_attempt_at": None}
        if await self._held(mail).update(**changes, last_error=""):
            waited = (now - mail.created_at).total_seconds()
            self._measurements.report(MailSent, mail.kind, waited)

    async def drop(self, mail: AbstractMail) -> None:
        """Forgets a mail that no longer applies."""
        await self._held(mail).delete()

    async def mark_failed(self, mail: AbstractMail, reason: str, *, permanent: bool) -> None:
        """Plans the next attempt, with growing pauses, or gives the mail up."""
        now = self._clock()
        attempts = mail.attempts + (mail.state is MailState.HANDED_OVER)  # which was not counted before
        reason = "".join(each if each.isprintable() else "?" for each in reason)[:255]
        told = _ADDRESS.sub("<address>", reason)  # servers repeat it, and logs go far
        if permanent or now >= mail.give_up_at:
            logger.error("Mail %s (%s) is given up: %s", mail.id, mail.kind, told)
            state, retry_at = MailState.DEAD, None
        else:
            logger.warning("Mail %s (%s) is tried again later: %s", mail.id, mail.kind, told)
            delay = min(FIRST_RETRY * 2 ** min(attempts - 1, 16), LONGEST_RETRY)
            # Jitter keeps the mails of one outage from coming back all at once.
            state, retry_at = MailState.WAITING, now + delay * random.uniform(0.8, 1.2)  # noqa: S311
        changed = await self._held(mail).update(
            state=state,
            attempts=attempts,
            next_attempt_at=retry_at,
            last_error=reason,
        )
        if changed and state is MailState.DEAD:
            self._measurements.report(MailGivenUp, mail.kind)

    async def retry(self, condition: Q) -> int:
        """Makes mails due at once that wait or were given up and meet the condition, `email_max_age` anew;
        returns how many."""
        now = self._clock()
        idle = (MailState.WAITING, MailState.DEAD, MailState.HANDED_OVER)
        return await self._tables.mail.filter(condition, state__in=idle).update(
            state=MailState.WAITING,
            next_attempt_at=now,
            give_up_at=now + self._settings.email_max_age,
            attempts=0,
        )

    async def figures(self) -> OutboxFigures:
        """How the outbox stands."""
        mails = self._tables.mail
        unsent = mails.filter(next_attempt_at__not_isnull=True)  # by its index, few of all that are kept
        rows = await unsent.annotate(mails=Count("id")).group_by("state").values("state", "mails")
        counts = {row["state"]: row["mails"] for row in rows}
        oldest = await unsent.order_by("created_at").first()
        return OutboxFigures(
            waiting=counts.get(MailState.WAITING, 0),
            under_way=counts.get(MailState.SENDING, 0) + counts.get(MailState.HANDED_OVER, 0),
            dead=await mails.filter(state=MailState.DEAD).count(),
            oldest=None if oldest is None else oldest.created_at,
        )

    def _held(self, mail: AbstractMail) -> QuerySet[AbstractMail]:
        """The mail, unless a slow process has lost it to another one."""
        return self._tables.mail.filter(id=mail.id, state=mail.state, attempts=mail.attempts)

    async def _take(
        self, claimable: Q, limit: int, *, known: bool = False, **changes: Any
    ) -> list[AbstractMail]:
        """Changes up to `limit` of these mails, each for one caller alone, and returns them; only those of a
        `known` kind, or of any."""
        mails = self._tables.mail
        ids = await self._due(claimable, limit * CANDIDATES, known=known)
        if not ids:
            return []
        claimable = Q(claimable, give_up_at__gt=self._clock())

        async def take() -> list[UUID]:
            # Rows, not the range: MariaDB locks the gaps of a range, where new mails go.
            free = mails.filter(claimable, id__in=ids).limit(limit).only("id")
            locked = [mail.id for mail in among(await free.select_for_update(skip_locked=True), ids)]
            await mails.filter(id__in=locked).update(**changes)
            return locked

        if self._skips_locked and mails._meta.db.capabilities.support_for_update:
            try:
                return await self._read(await in_one_transaction(mails._meta.default_connection, take))
            except Exception as error:
                if failure_of(error) is not Failure.UNSUPPORTED:
                    raise
                self._skips_locked = False
        taken: list[UUID] = []
        random.shuffle(ids)  # so that processes do not go for the same ones
        while ids and len(taken) < limit:
            if await mails.filter(claimable, id=ids[-1]).update(**changes):
                taken.append(ids[-1])
            ids.pop()
        return await self._read(taken)

    async def _read(self, ids: list[UUID]) -> list[AbstractMail]:
        """These mails. One that cannot be read is given up, and keeps no other back."""
        mails = self._tables.mail
        try:
            return [*among(await mails.filter(id__in=ids), ids)]
        except Exception as error:
            if failure_of(error) is not None:
                raise
            if len(ids) == 1:
                logger.error("Mail %s is given up: its row cannot be read: %s", ids[0], type(error).__name__)
                unreadable = f"cannot be read: {type(error).__name__}"
                changes = {"state": MailState.DEAD, "next_attempt_at": None, "last_error": unreadable}
                await mails.filter(id=ids[0]).update(**changes)
                self._measurements.report(MailGivenUp, "")
                return []
        return [mail for each in ids for mail in await self._read([each])]

    async def _due(self, claimable: Q, limit: int, *, known: bool) -> list[UUID]:
        """Those to choose from, the most urgent first. What has become too old while nothing was sent is
        given up: after an outage nobody gets the mails of last week."""
        while True:
            candidates = Q(claimable, kind__not_in=[*self._unknown]) if known and self._unknown else claimable
            due = self._tables.mail.filter(candidates).order_by("next_attempt_at").limit(limit)
            rows = await due.values_list("id", "give_up_at", "kind")
            if not rows:
                return []
            if known and self._finds_unknown({kind for *_, kind in rows}):
                continue
            now = self._clock()
            fresh = [mail_id for mail_id, give_up_at, _ in rows if give_up_at > now]
            if len(fresh) < len(rows):
                old = Q(claimable, id__in=[mail_id for mail_id, *_ in rows], give_up_at__lte=now)
                await self._give_up(old, {kind for *_, kind in rows})
            if fresh:
                return fresh

    async def _give_up(self, old: Q, kinds: set[str]) -> None:
        """Gives up what is too old, of these kinds."""
        changes = {"state": MailState.DEAD, "next_attempt_at": None, "last_error": TOO_OLD}
        total = 0
        for kind in sorted(kinds):
            count = await self._tables.mail.filter(old, kind=kind).update(**changes)
            for _ in range(count):
                self._measurements.report(MailGivenUp, kind)
            total += count
        if total:
            logger.error("%s mails are given up: %s", total, TOO_OLD)

    def _finds_unknown(self, kinds: set[str]) -> bool:
        """Whether there are kinds among these that no feature of this process has; the first time, it says
        so. Such mails are left alone: another process may have the feature."""
        unknown = {kind for kind in kinds if kind not in self.kinds}
        for kind in sorted(unknown):
            logger.warning("Mails of the kind %r wait: no feature of this process sends them", kind)
        self._unknown |= unknown
        return bool(unknown)
