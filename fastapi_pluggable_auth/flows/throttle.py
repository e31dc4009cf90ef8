"""Attempts that are counted in the database: shared by workers, kept over restarts, atomic (ASVS 6.3.1)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final, Protocol
from uuid import UUID

from ..auth import Auth
from ..database import is_in_transaction
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation, Outcome
from ..models import exact
from ..security.keys import key_set
from ..security.rate_limits import Rate, StoreDownError
from ..security.throttle import Counter, Quota, Stop
from . import counters
from .counters import Counted

logger = logging.getLogger(__name__)

CONTENTION: Final = 100
"""How often other attempts on the same counter may come in between before one gives up."""

SETS: Final = 4096
WAYS: Final = 8
"""Names without an account share this many rows, so that nobody fills the table with names: each has a set of
a few of them, where it takes the place of the name that was tried least."""


class Policy(Protocol):
    """A rule of `security.throttle`."""

    def attempt(self, counter: Counter | None, now: datetime) -> Counter | timedelta | Stop:
        """The counter with one more attempt, or why there is none."""


class StoppedError(AuthError):
    """THROTTLED, by a limit that does not end after a wait of some seconds."""


@dataclass(frozen=True, slots=True)
class Key:
    """Where something is counted: in its own row or, for a name that anyone may make up, in one of those that
    such names share. Then `holder` says which name has it."""

    ids: tuple[str, ...]
    holder: str | None = None

    @classmethod
    def of(cls, what: str, whom: UUID) -> Key:
        """Of an account, a session or a device: there are only so many."""
        return cls((_digest(what, str(whom)),))

    @classmethod
    def named(cls, auth: Auth, what: str, name: str) -> Key:
        """Of a name. Nobody outside can tell which names share rows."""
        holder = _digest(what, name)
        secret = key_set(auth.settings).derive("throttle")
        number = int.from_bytes(hmac.digest(secret, holder.encode(), "sha256")[:4]) % SETS
        return cls(tuple(f"shared {number} {way}" for way in range(WAYS)), holder)


async def count(auth: Auth, key: Key, policy: Policy) -> Counted:
    """Counts an attempt, before it is made. Raises `AuthError(THROTTLED)` with the seconds to wait, or
    `StoppedError`."""
    async with _in_turn(auth, key):
        for _ in range(CONTENTION):
            before, free = await _read(auth, key)
            counter = policy.attempt(None if before is None else before.counter, auth.clock())
            if isinstance(counter, Stop):
                wait = None if counter.wait is None else _seconds(counter.wait)
                raise StoppedError(ErrorCode.THROTTLED, retry_after=wait)
            if isinstance(counter, timedelta):
                raise AuthError(ErrorCode.THROTTLED, retry_after=_seconds(counter))
            if (counted := await counters.store(auth, before or free, key.holder, counter)) is not None:
                return counted
    raise AuthError(ErrorCode.THROTTLED, retry_after=1)


async def change(
    auth: Auth, key: Key, counted: Counted | None, changed: Callable[[Counter, datetime], Counter | None]
) -> None:
    """Changes a counter in which an attempt was `counted`, if it is still there; it is deleted where nothing
    is left of it."""
    before = counted
    async with _in_turn(auth, key):
        for _ in range(CONTENTION):
            if before is None:
                return
            counter = changed(before.counter, auth.clock())
            if counter is None:
                done = await counters.delete(auth, before)
            else:
                done = await counters.store(auth, before, key.holder, counter) is not None
            if done:
                return
            before, _free = await _read(auth, key)


async def forget(auth: Auth, *keys: Key) -> None:
    """Deletes counters that have their own row."""
    await counters.delete_all(auth, [key.ids[0] for key in keys])


async def may_mail(auth: Auth, kind: str, whom: str | UUID) -> bool:
    """Counts a mail that somebody asked for to an address, known or not, or that a user asked for; False when
    there were too many."""
    quota, what = Quota(auth.settings.mail_limit, auth.settings.mail_limit_period), f"mail {kind}"
    if isinstance(whom, str):
        owner = await exact(auth.tables.user.all(), email=whom)
        key = Key.named(auth, what, whom) if owner is None else Key.of(f"{what} to", owner.id)
    else:
        key = Key.of(what, whom)
    try:
        await count(auth, key, quota)
    except AuthError:
        return False
    return True


async def count_request(auth: Auth, rule: str, client: str) -> None:
    """Counts a request of a client to a route with this rule. Where the store of the limiter is down, the
    database counts, and the limit holds. Raises `AuthError(RATE_LIMITED)` with the seconds to wait."""
    for rate in auth.limiter.rates(rule):
        try:
            wait = await auth.limiter.hit(rule, client, rate)
        except StoreDownError as error:
            if error.args:
                logger.warning("The rate limit store is down, the database counts: %s", error)
            wait = await _count_in_database(auth, rule, client, rate)
        if wait is not None:
            limited = AuthError(ErrorCode.RATE_LIMITED, retry_after=wait)
            await auth.events.emit(
                EventKind.RATE_LIMIT, Outcome.FAILURE, Observation(), reason=limited.code.code
            )
            raise limited


async def _count_in_database(auth: Auth, rule: str, client: str, rate: Rate) -> int | None:
    key = Key.named(auth, f"rate {rule} {rate.item}", client)
    try:
        await count(auth, key, Quota(rate.amount, rate.period))
    except AuthError as error:
        return error.retry_after
    return None


def _digest(what: str, whom: str) -> str:
    return hashlib.sha256(f"{what}\0{whom}".encode()).hexdigest()


def _seconds(wait: timedelta) -> int:
    return max(1, ceil(wait.total_seconds()))


@asynccontextmanager
async def _in_turn(auth: Auth, key: Key) -> AsyncIterator[None]:
    """One after the other within a process: of a hundred at once, each would else read and write again for
    every one that comes before it. Not in a transaction, which may have the connection that the one waits for
    whose turn it is."""
    if is_in_transaction(auth.tables.user._meta.default_connection):
        yield
        return
    whose = (asyncio.get_running_loop(), key.holder or key.ids[0])
    async with auth.turns.setdefault(whose, asyncio.Lock()):
        yield


async def _read(auth: Auth, key: Key) -> tuple[Counted | None, Counted | str]:
    """The counter of the key, if it has one, and what to write it to: that of another name, or a new row."""
    rows = await counters.read(auth, key.ids)
    own = [row for row in rows if row.holder == key.holder]
    if own:
        counted = max(own, key=lambda row: row.counter.count)
        return counted, counted
    missing = {*key.ids} - {row.row_id for row in rows}
    if missing:
        return None, min(missing)
    return None, min(rows, key=lambda row: (row.counter.count, row.counter.blocked_until))
