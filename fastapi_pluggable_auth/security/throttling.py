"""How often something may be tried: pure rules over a counter, which the flows keep in the database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Counter:
    """Attempts since `started_at`; none is allowed before `blocked_until`."""

    count: int
    started_at: datetime
    blocked_until: datetime


@dataclass(frozen=True, slots=True)
class Backoff:
    """Some free attempts, then a pause after each that doubles up to a longest one: guessing gets slow, and
    nobody is locked out for good (ASVS 6.1.1). The count is forgotten after a quiet time."""

    free: int
    first_pause: timedelta
    longest_pause: timedelta
    forget_after: timedelta

    def attempt(self, counter: Counter | None, now: datetime) -> Counter | timedelta:
        """The counter with this attempt in it, or how long to wait for the next one."""
        if counter is None or now - counter.blocked_until > self.forget_after:
            counter = Counter(0, now, now)
        # No longer than the pause itself: a clock that was set back must not make it last.
        wait = min(counter.blocked_until - now, self._pause(counter.count))
        if wait > timedelta():
            return wait
        count = counter.count + 1
        return replace(counter, count=count, blocked_until=now + self._pause(count))

    def take_back(self, counter: Counter, now: datetime) -> Counter:
        """The counter without its last attempt, which turned out to be no guess."""
        return replace(counter, count=max(counter.count - 1, 0), blocked_until=now)

    def _pause(self, count: int) -> timedelta:
        if count < self.free:
            return timedelta()
        # The exponent is bounded: a count may grow for years.
        doublings = min(count - self.free, 32)
        return min(self.first_pause * float(2**doublings), self.longest_pause)


@dataclass(frozen=True, slots=True)
class Quota:
    """So many per period, which starts with the first."""

    limit: int
    period: timedelta

    def attempt(self, counter: Counter | None, now: datetime) -> Counter | timedelta:
        """The counter with this attempt in it, or how long to wait for the next one."""
        if counter is None or abs(now - counter.started_at) >= self.period:
            counter = Counter(0, now, now)
        if counter.count >= self.limit:
            return min(counter.started_at + self.period - now, self.period)
        return replace(counter, count=counter.count + 1)
