"""What waits between two requests: one begins it, and another one spends it, once."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from ..auth import Auth, autonomous
from ..models import AbstractPending, exact
from ..security.plaintext import Plaintext


async def begin(
    auth: Auth,
    kind: str,
    data: Mapping[str, Any],
    *,
    user_id: UUID | None,
    lifetime: timedelta,
) -> str:
    """Stores what waits and returns the random value, of 256 bits, that finds it again."""
    value = secrets.token_urlsafe(32)
    await auth.tables.pending.create(
        id=_digest(kind, value),
        kind=kind,
        user_id=user_id,
        data=json.dumps(data),
        expires_at=auth.clock() + lifetime,
    )
    return value


async def find(auth: Auth, kind: str, value: Plaintext) -> tuple[AbstractPending, Any] | None:
    """What waits, with its data; None where it has expired, was spent or has ended."""
    found = await exact(auth.tables.pending.all(), id=_digest(kind, value.look()))
    if found is None or found.spent_at is not None or auth.clock() >= found.expires_at:
        return None
    return found, json.loads(found.data)


async def attempt(auth: Auth, pending: AbstractPending, most: int) -> bool:
    """Counts a try, before it is made; False where there were as many as allowed, or it is gone. Of many at
    once, no more are made."""
    tried = pending.attempts
    while tried < most:
        if await _count(auth, pending.id, tried):
            return True
        now = await exact(auth.tables.pending.all(), id=pending.id)
        if now is None or now.attempts == tried:
            return False
        tried = now.attempts
    return False


async def take(auth: Auth, pending: AbstractPending) -> bool:
    """Spends it, once: False where another request was faster, or it has ended. Belongs inside the
    transaction that uses it, after the account is locked."""
    now = auth.clock()
    unspent = auth.tables.pending.filter(id=pending.id, spent_at=None, expires_at__gt=now)
    return bool(await unspent.update(spent_at=now))


@autonomous
async def _count(auth: Auth, pending_id: str, tried: int) -> int:
    same = auth.tables.pending.filter(id=pending_id, attempts=tried, spent_at=None)
    return await same.update(attempts=tried + 1)


def _digest(kind: str, value: str) -> str:
    return hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()
