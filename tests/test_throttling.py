"""The rules that slow guessing down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi_pluggable_auth.security.throttling import Backoff, Counter, Quota

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
BACKOFF = Backoff(
    free=3, first_pause=SECOND, longest_pause=timedelta(minutes=1), forget_after=timedelta(hours=1)
)


def pauses(count: int) -> list[float]:
    """The pauses in seconds that come before each attempt but the first, when each is made at once."""
    now, counter, waited = START, None, []
    for _ in range(count):
        answer = BACKOFF.attempt(counter, now)
        if isinstance(answer, timedelta):
            now += answer
            waited.append(answer.total_seconds())
            answer = BACKOFF.attempt(counter, now)
        else:
            waited.append(0.0)
        assert isinstance(answer, Counter)
        counter = answer
    return waited[1:]


def test_pauses_start_after_the_free_attempts_double_and_are_capped() -> None:
    assert pauses(12) == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_count_of_years_does_not_overflow() -> None:
    counter = Counter(10**6, START, START)
    assert isinstance(BACKOFF.attempt(counter, START), Counter)


def test_a_quiet_time_forgets_the_count() -> None:
    counter = Counter(20, START, START + timedelta(minutes=1))
    later = START + timedelta(hours=1, minutes=1, seconds=1)
    fresh = BACKOFF.attempt(counter, later)
    assert isinstance(fresh, Counter)
    assert fresh.count == 1


def test_a_clock_set_back_makes_no_pause_last() -> None:
    """R-36."""
    back = START - timedelta(days=1)
    assert isinstance(BACKOFF.attempt(Counter(2, START, START), back), Counter)
    assert BACKOFF.attempt(Counter(4, START, START + 2 * SECOND), back) == 2 * SECOND
    quota = Quota(1, timedelta(hours=1))
    assert isinstance(quota.attempt(Counter(1, START, START), back), Counter)
    assert quota.attempt(Counter(1, START, START), START - timedelta(minutes=1)) == timedelta(hours=1)


def test_an_attempt_taken_back_leaves_no_pause() -> None:
    counter = BACKOFF.attempt(Counter(2, START, START), START)
    assert isinstance(counter, Counter)
    assert BACKOFF.take_back(counter, START).count == 2
    assert isinstance(BACKOFF.attempt(BACKOFF.take_back(counter, START), START), Counter)


def test_a_quota_opens_again_when_its_period_ends() -> None:
    quota = Quota(2, timedelta(hours=1))
    counter = None
    for _ in range(2):
        counter = quota.attempt(counter, START)
        assert isinstance(counter, Counter)
    assert quota.attempt(counter, START + 59 * 60 * SECOND) == timedelta(minutes=1)
    reopened = quota.attempt(counter, START + timedelta(hours=1))
    assert isinstance(reopened, Counter)
    assert reopened.count == 1
