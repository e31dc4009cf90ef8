"""The audit log: security events that are kept in the database."""

from __future__ import annotations

import asyncio
from typing import Final
from uuid import UUID

from .events import EventKind, Outcome, SecurityEvent
from .models import Tables
from .security.identifiers import time_ordered_id

PATIENCE_SECONDS: Final = 1.0
"""How long a request waits for the log where the database does not take its row."""

UNKEPT_KINDS: Final = frozenset({EventKind.ACCESS, EventKind.TOKEN_REFRESH, EventKind.RATE_LIMIT})
"""Too many, and no act of the user: each open app refreshes all day, old tokens come by the thousand."""

UNKEPT_REASONS: Final = frozenset({"throttled", "password_locked"})
"""What is refused unseen and without limit; the attempts that count are kept."""


class AuditLog:
    """Keeps what happens to accounts."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def record(self, event: SecurityEvent) -> None:
        """Keeps an event, in one INSERT. What is about no account is left to the log file, as anybody could
        fill the table with it. Raises what the database does, `TimeoutError` where it takes too long."""
        if event.user_id is None or event.kind in UNKEPT_KINDS or event.reason in UNKEPT_REASONS:
            return
        gone = _deletes(event) and event.actor_id is None
        row = self._tables.audit_event.create(
            id=time_ordered_id(event.time),
            time=event.time,
            user_id=event.user_id,
            actor_id=event.actor_id,
            session_id=event.session_id,
            kind=event.kind.value,
            outcome=event.outcome.value,
            reason=event.reason,
            factors=" ".join(event.factors),
            address="" if gone else event.origin.address,
            user_agent="" if gone else event.origin.user_agent,
        )
        # A task of its own: a client that hangs up leaves no gap, and giving up waits for nobody.
        writing = asyncio.ensure_future(row)
        await asyncio.wait({writing}, timeout=PATIENCE_SECONDS)
        if not writing.done():
            writing.cancel()
            raise TimeoutError
        writing.result()

    async def anonymise(self, user_id: UUID) -> None:
        """Forgets from where an account was used; what was done to it stays. Belongs inside the transaction
        that deletes the account."""
        nowhere = {"address": "", "user_agent": ""}
        events = self._tables.audit_event
        await events.filter(user_id=user_id, actor_id=None).update(**nowhere)
        await events.filter(actor_id=user_id).update(**nowhere)


def _deletes(event: SecurityEvent) -> bool:
    return event.kind is EventKind.ACCOUNT_DELETION and event.outcome is Outcome.SUCCESS
