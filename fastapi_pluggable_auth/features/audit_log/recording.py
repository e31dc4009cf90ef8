"""Writing the audit log: which security events are kept, and when."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from tortoise.exceptions import IntegrityError

from ...auth import Auth
from ...events import EventKind, Outcome, SecurityEvent
from ...hooks import DeletingAccount
from ...security.identifiers import time_ordered_id
from .models import AuditEvent

UNKEPT_KINDS: Final = frozenset({EventKind.ACCESS, EventKind.TOKEN_REFRESH, EventKind.RATE_LIMIT})
"""Too many, and no act of the user: each open app refreshes all day, old tokens come by the thousand."""

UNKEPT_REASONS: Final = frozenset({"throttled", "password_locked"})
"""What is refused unseen and without limit; the attempts that count are kept."""


class AuditLog:
    """Keeps what happens to the accounts of an app: `auth.service(AuditLog)`."""

    def __init__(self, auth: Auth) -> None:
        self._tables = auth.tables
        self._afterwards = auth.afterwards
        self._erased: set[UUID] = set()
        """Whose rows may still wait to be written."""

    async def record(self, event: SecurityEvent) -> None:
        """Keeps an event, in one INSERT after the answer: only what is about an account is kept, and the time
        of an answer must not tell that there is one. What is about none is left to the log file, as anybody
        could fill the table with it."""
        if event.user_id is None or event.kind in UNKEPT_KINDS or event.reason in UNKEPT_REASONS:
            return
        if self._afterwards.idle:
            self._erased.clear()
        row_id = time_ordered_id(event.time)
        await self._afterwards.add(f"the audit row of {event.kind}", lambda: self._write(row_id, event))

    async def written(self) -> None:
        """Returns when the rows of this process are in the table, or that takes too long."""
        await self._afterwards.flush()

    async def _write(self, row_id: UUID, event: SecurityEvent) -> None:
        theirs = event.user_id if event.actor_id is None else event.actor_id
        nowhere = theirs in self._erased or (_deletes(event) and event.actor_id is None)
        rows = self._tables.of(AuditEvent)
        try:
            await rows.create(
                id=row_id,
                time=event.time,
                user_id=event.user_id,
                actor_id=event.actor_id,
                session_id=event.session_id,
                kind=event.kind.value,
                outcome=event.outcome.value,
                reason=event.reason,
                factors=" ".join(event.factors),
                address="" if nowhere else event.origin.address,
                user_agent="" if nowhere else event.origin.user_agent,
            )
        except IntegrityError:  # it was written before, and the answer to that was lost
            if theirs not in self._erased:
                raise
            nowhere = False
        if not nowhere and theirs in self._erased:  # while this was written
            await rows.filter(id=row_id).update(address="", user_agent="")

    def forget_whereabouts(self, user_id: UUID) -> None:
        """Keeps from now on of nothing from where this user did it."""
        self._erased.add(user_id)


async def record(auth: Auth, event: SecurityEvent) -> None:
    """Keeps an event."""
    await auth.service(AuditLog).record(event)


def forget_whereabouts(auth: Auth, event: DeletingAccount) -> None:
    """The rows that wait while an account is deleted, as those that are written lose it with its access."""
    auth.service(AuditLog).forget_whereabouts(event.user.id)


def _deletes(event: SecurityEvent) -> bool:
    return event.kind is EventKind.ACCOUNT_DELETION and event.outcome is Outcome.SUCCESS
