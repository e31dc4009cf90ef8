"""Attempts that are counted in the database: shared by workers, kept over restarts, atomic (ASVS 6.3.1)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from math import ceil
from typing import Final

from tortoise.exceptions import IntegrityError

from ..auth import Auth
from ..errors import PASSWORD_REFUSALS, AuthError, ErrorCode, Refused
from ..events import EventKind, Observation, Outcome
from ..models import AbstractThrottle
from ..security.clock import as_utc
from ..security.rates import Rate, StoreDownError
from ..security.throttling import Backoff, Counter, Quota

logger = logging.getLogger(__name__)

CONTENTION: Final = 100
"""How often other attempts on the same counter may come in between before one gives up."""

NO_GUESSES: Final = frozenset(
    {
        ErrorCode.EMAIL_NOT_VERIFIED,
        ErrorCode.TWO_FACTOR_REQUIRED,
        *PASSWORD_REFUSALS,
        ErrorCode.PASSWORD_RESET_REQUIRED,
        ErrorCode.TWO_FACTOR_UNAVAILABLE,
        ErrorCode.OVERLOADED,
    }
)
"""Refusals after the right password, or before any was looked at: nothing was guessed."""


@asynccontextmanager
async def guessing(auth: Auth, email: str) -> AsyncIterator[None]:
    """Wraps an attempt to prove who one is, on the account of this address, known or not.

    The attempt is counted before it is made, so that of many at once no more are made than allowed; success
    starts the count anew. Raises `AuthError(THROTTLED)` with the seconds to wait.
    """
    key, policy = _key("guess", email), _backoff(auth)
    await _count(auth, key, policy)
    try:
        yield
    except AuthError as error:
        if error.code in NO_GUESSES or isinstance(error, Refused):
            await _take_back(auth, key, policy)
        raise
    await forget_guesses(auth, email)


async def forget_guesses(auth: Auth, email: str) -> None:
    """Starts the count of an account anew."""
    await auth.tables.throttle.filter(id=_key("guess", email)).delete()


async def may_mail(auth: Auth, kind: str, email: str) -> bool:
    """Counts a mail that somebody asked for to an address, known or not; False when there were too many."""
    quota = Quota(auth.settings.mail_limit, auth.settings.mail_limit_period)
    try:
        await _count(auth, _key(f"mail {kind}", email), quota)
    except AuthError:
        return False
    return True


async def count_request(auth: Auth, rule: str, client: str) -> None:
    """Counts a request of a client to a route with this rule. Where the store of the limiter is down, the
    database counts (D10: never open). Raises `AuthError(RATE_LIMITED)` with the seconds to wait."""
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
    try:
        await _count(auth, _key(f"rate {rule} {rate.item}", client), Quota(rate.amount, rate.period))
    except AuthError as error:
        return error.retry_after
    return None


def _backoff(auth: Auth) -> Backoff:
    settings = auth.settings
    return Backoff(
        free=settings.throttle_free_attempts,
        first_pause=settings.throttle_first_pause,
        longest_pause=settings.throttle_longest_pause,
        forget_after=settings.throttle_forget_after,
    )


def _key(what: str, whom: str) -> str:
    return hashlib.sha256(f"{what}\0{whom}".encode()).hexdigest()


async def _count(auth: Auth, key: str, policy: Backoff | Quota) -> None:
    for _ in range(CONTENTION):
        row = await auth.tables.throttle.get_or_none(id=key)
        counter = policy.attempt(None if row is None else _counter(row), auth.clock())
        if not isinstance(counter, Counter):
            raise AuthError(ErrorCode.THROTTLED, retry_after=max(1, ceil(counter.total_seconds())))
        if await _store(auth, key, row, counter):
            return
    raise AuthError(ErrorCode.THROTTLED, retry_after=1)


async def _take_back(auth: Auth, key: str, policy: Backoff) -> None:
    for _ in range(CONTENTION):
        row = await auth.tables.throttle.get_or_none(id=key)
        if row is None or await _store(auth, key, row, policy.take_back(_counter(row), auth.clock())):
            return


def _counter(row: AbstractThrottle) -> Counter:
    return Counter(row.count, as_utc(row.started_at), as_utc(row.blocked_until))


async def _store(auth: Auth, key: str, row: AbstractThrottle | None, counter: Counter) -> bool:
    """Whether the counter was stored: not where another attempt was counted since the row was read."""
    if row is not None:
        unchanged = auth.tables.throttle.filter(id=key, version=row.version)
        return bool(await unchanged.update(version=row.version + 1, **asdict(counter)))
    try:
        await auth.tables.throttle.create(id=key, **asdict(counter))
    except IntegrityError:
        return False
    return True
