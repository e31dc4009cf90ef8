"""How often something may be tried: pure rules over a counter, which the flows keep in the database."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

MOST_ENTRIES: Final = 100
"""What a counter keeps of networks and of moments; beyond, the oldest networks go and moments are merged."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Counter:
    """Attempts since `started_at`; none is allowed before `blocked_until`. `details` are the business of the
    rule that counts."""

    count: int
    started_at: datetime
    blocked_until: datetime
    details: str | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """There were as many attempts as allowed; `wait` is how long none is, None where time changes nothing."""

    wait: timedelta | None


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


@dataclass(frozen=True, slots=True)
class Guesses:
    """Wrong guesses at one secret: each network has its own back-off, so that none delays another, and
    all together end at `limit`: within any `period`, or without one for good, until the counter is deleted.

    Without a `network` there is only the end. The counter is kept for `keep` after the last attempt.
    """

    limit: int
    period: timedelta | None = None
    backoff: Backoff | None = None
    network: str | None = None
    keep: timedelta = timedelta()

    def attempt(self, counter: Counter | None, now: datetime) -> Counter | timedelta | Stop:
        """The counter with this attempt in it, how long to wait for the next one, or that there is none."""
        seen = _Seen.of(counter)
        count = self._recent(counter, seen, now)
        if count >= self.limit:
            return Stop(None if self.period is None else self._opens(seen, now))
        if self.backoff is not None and self.network is not None:
            counted = self.backoff.attempt(seen.network(self.network), now)
            if isinstance(counted, timedelta):
                return counted
            seen.networks[self.network] = [counted.count, _stamp(counted.blocked_until)]
        if self.period is not None:
            seen.moments.append([_stamp(now), 1])
        started_at = now if counter is None else counter.started_at
        return Counter(count + 1, started_at, now + self.keep, seen.text())

    def take_back(self, counter: Counter, now: datetime) -> Counter | None:
        """The counter without its last attempt, which was no wrong guess; None when nothing is left in it."""
        seen = _Seen.of(counter)
        if self.network is not None and (there := seen.network(self.network)) is not None:
            count = there.count - 1
            seen.networks[self.network] = [count, _stamp(now)]
            if count <= 0:
                del seen.networks[self.network]
        return self._without_last(counter, seen)

    def right(self, counter: Counter, now: datetime) -> Counter | None:
        """The counter after a right guess: nothing is left of it but what other networks, or this one
        before, guessed wrong within the period."""
        if self.period is None:
            return None
        seen = _Seen.of(counter)
        seen.networks.pop(self.network or "", None)
        return self._without_last(counter, seen)

    def right_but(self, counter: Counter, now: datetime) -> Counter | None:
        """The counter where the secret was right and what was asked for beside it wrong: the network has to
        wait all the same."""
        return counter if self.period is None else self._without_last(counter, _Seen.of(counter))

    def _without_last(self, counter: Counter, seen: _Seen) -> Counter | None:
        if seen.moments:
            seen.moments[-1][1] -= 1
            if seen.moments[-1][1] <= 0:
                seen.moments.pop()
        count = max(counter.count - 1, 0)
        return replace(counter, count=count, details=seen.text()) if count or seen.networks else None

    def _recent(self, counter: Counter | None, seen: _Seen, now: datetime) -> int:
        """How many count now; of the others nothing is kept."""
        if counter is None:
            return 0
        if self.period is None:
            return counter.count
        # Also one that lies far ahead: the clock was set back.
        seen.moments[:] = [each for each in seen.moments if abs(now - _moment(each[0])) < self.period]
        return sum(number for _, number in seen.moments)

    def _opens(self, seen: _Seen, now: datetime) -> timedelta:
        assert self.period is not None  # noqa: S101 - asked by those with one only
        surplus = sum(number for _, number in seen.moments) - self.limit
        for stamp, number in seen.moments:
            surplus -= number
            if surplus < 0:
                return min(max(_moment(stamp) + self.period - now, timedelta()), self.period)
        return self.period


def is_waiting(counter: Counter, now: datetime) -> bool:
    """Whether some network has to wait, of a counter of `Guesses`."""
    return any(_moment(until) > now for _, until in _Seen.of(counter).networks.values())


def counts_a_period(counter: Counter) -> bool:
    """Whether it is one of `Guesses` whose limit is for a period."""
    return bool(_Seen.of(counter).moments)


@dataclass(slots=True)
class _Seen:
    """The details of `Guesses`: when how many were wrong, and the back-off of each network."""

    moments: list[list[int]] = field(default_factory=list)
    networks: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, counter: Counter | None) -> _Seen:
        if counter is None or counter.details is None:
            return cls()
        details: dict[str, Any] = json.loads(counter.details)
        return cls(details.get("moments", []), details.get("networks", {}))

    def network(self, name: str) -> Counter | None:
        if name not in self.networks:
            return None
        count, blocked_until = self.networks[name]
        return Counter(count, _moment(blocked_until), _moment(blocked_until))

    def text(self) -> str:
        while len(self.moments) > MOST_ENTRIES:
            (_, first), (stamp, second), *others = self.moments
            self.moments[:] = [[stamp, first + second], *others]
        while len(self.networks) > MOST_ENTRIES:
            del self.networks[min(self.networks, key=lambda name: self.networks[name][1])]
        return json.dumps({"moments": self.moments, "networks": self.networks}, separators=(",", ":"))


def _stamp(moment: datetime) -> int:
    """Milliseconds, rounded down: a client that waits exactly as long as it was asked to gets in."""
    return (moment - _EPOCH) // _MILLISECOND


def _moment(stamp: int) -> datetime:
    return _EPOCH + stamp * _MILLISECOND
