"""What waits between two requests: one begins it, and another one spends it, once."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from ..auth import Auth, autonomous
from ..models import AbstractPending, exact
from ..security.encryption import UnreadableSecretError, open_sealed, seal_text
from ..security.keys import key_set
from ..security.plaintext import Plaintext

_USE: Final = "what waits"
"""Names the key that seals it."""


@dataclass(frozen=True, slots=True)
class Unstored:
    """What the client alone has held until now, as anybody may begin it: a value that the app can check. Its
    row is written when it is spent, and says so until the value has expired."""

    kind: str
    value: bytes = field(repr=False)
    expires_at: datetime


async def begin(
    auth: Auth,
    kind: str,
    data: Mapping[str, Any],
    *,
    user_id: UUID | None,
    lifetime: timedelta,
    value: str | None = None,
) -> str:
    """Stores what waits, sealed, and returns the random value, of 256 bits, that finds it again. One that is
    given was made before, by `new_value`."""
    value = value or new_value()
    waiting = id_of(kind, value)
    await auth.tables.pending.create(
        id=waiting,
        kind=kind,
        user_id=user_id,
        data=seal_text(key_set(auth.settings), _USE, json.dumps(data), waiting),
        expires_at=auth.clock() + lifetime,
    )
    return value


def new_value() -> str:
    """What a client is to hold."""
    return secrets.token_urlsafe(32)


async def find(auth: Auth, kind: str, value: Plaintext) -> tuple[AbstractPending, Any] | None:
    """What waits, with its data; None where it has expired, was spent or has ended, or no key opens it."""
    return await find_by_id(auth, kind, id_of(kind, value.look()))


async def find_by_id(auth: Auth, kind: str, waiting: str) -> tuple[AbstractPending, Any] | None:
    """The same for one whose id is known."""
    found = await exact(auth.tables.pending.all(), id=waiting, kind=kind)
    if found is None or found.spent_at is not None or auth.clock() >= found.expires_at:
        return None
    try:
        return found, json.loads(open_sealed(key_set(auth.settings), _USE, found.data, found.id))
    except UnreadableSecretError:  # by a key that the app has no more
        return None


async def attempt(auth: Auth, pending: AbstractPending, most: int) -> int:
    """Counts a try, before it is made, and gives its number, from 1; 0 where there were as many as allowed,
    or it is gone. Of many at once, no more are made."""
    tried = pending.attempts
    while tried < most:
        if await _count(auth, pending.id, tried, tried + 1):
            return tried + 1
        now = await exact(auth.tables.pending.all(), id=pending.id)
        if now is None or now.attempts == tried:
            return 0
        tried = now.attempts
    return 0


async def take_back(auth: Auth, pending: AbstractPending, tried: int) -> None:
    """Forgets a try, which turned out to be no guess, unless another one came after it."""
    await _count(auth, pending.id, tried, tried - 1)


async def take(auth: Auth, pending: AbstractPending | Unstored) -> bool:
    """Spends it, once: False where another request was faster, or it has ended. Belongs inside the
    transaction that uses it, after the account is locked."""
    now = auth.clock()
    if isinstance(pending, Unstored):
        return await _take_unstored(auth, pending, now)
    unspent = auth.tables.pending.filter(id=pending.id, spent_at=None, expires_at__gt=now)
    return bool(await unspent.update(spent_at=now))


async def is_taken(auth: Auth, pending: Unstored) -> bool:
    """Whether it was spent before."""
    return await auth.tables.pending.filter(id=_unstored_id(pending)).exists()


def _unstored_id(pending: Unstored) -> str:
    return id_of(pending.kind, base64.urlsafe_b64encode(pending.value).decode())


async def _take_unstored(auth: Auth, pending: Unstored, now: datetime) -> bool:
    """Whether the row that says so is the one of this request: the insert waits for that of another one, and
    then does nothing."""
    if now >= pending.expires_at:
        return False
    table, writer = auth.tables.pending, secrets.token_urlsafe(16)
    spent = table(
        id=_unstored_id(pending),
        kind=pending.kind,
        data=writer,
        expires_at=pending.expires_at,
        spent_at=now,
    )
    await table.bulk_create([spent], ignore_conflicts=True)
    return await table.filter(id=spent.id, data=writer).exists()


@autonomous
async def _count(auth: Auth, pending_id: str, before: int, now: int) -> int:
    same = auth.tables.pending.filter(id=pending_id, attempts=before, spent_at=None)
    return await same.update(attempts=now)


def id_of(kind: str, value: str) -> str:
    """What finds it, and gives away nothing of the value."""
    return hashlib.sha256(f"{kind}\0{value}".encode()).hexdigest()
