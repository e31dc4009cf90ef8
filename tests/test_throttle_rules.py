"""The rules that slow guessing down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fastapi_pluggable_auth.security.throttle import Backoff, Counter, Guesses, Quota, Stop

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


def test_the_only_attempt_taken_back_was_none() -> None:
    assert BACKOFF.take_back(Counter(1, START, START), START).count == 0


def test_a_count_is_kept_until_the_quiet_time_is_over() -> None:
    counter = BACKOFF.attempt(Counter(1, START, START), START + BACKOFF.forget_after)
    assert isinstance(counter, Counter)
    assert counter.count == 2


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


DAY = timedelta(hours=24)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 36 * 3600)), max_size=120))
def test_no_24_hours_have_more_guesses_than_the_limit(steps: list[tuple[int, int]]) -> None:
    """Whatever network they come from, and however many are right in between."""
    limit, now, counter, made = 7, START, None, []
    backoff = Backoff(2, SECOND, timedelta(minutes=1), DAY)
    for network, seconds in steps:
        now += seconds * SECOND
        rule = Guesses(limit, DAY, backoff, str(network))
        answer = rule.attempt(counter, now)
        if isinstance(answer, Counter):
            counter = answer
            if seconds % 5:
                made.append(now)
            else:
                counter = rule.right(answer, now)
    assert all(sum(start <= moment < start + DAY for moment in made) <= limit for start in made)


def test_a_limit_without_a_period_ends_by_no_time() -> None:
    counter, rule = None, Guesses(3)
    for _ in range(3):
        counter = rule.attempt(counter, START)
        assert isinstance(counter, Counter)
    assert rule.attempt(counter, START + 1000 * DAY) == Stop(None)
    assert rule.right(counter, START) is None  # type: ignore[arg-type]  # it is one


def test_many_moments_are_kept_in_few_entries_and_forgotten_late_rather_than_early() -> None:
    counter, rule = None, Guesses(1000, DAY)
    for number in range(1000):
        counter = rule.attempt(counter, START + number * SECOND)
        assert isinstance(counter, Counter)
    assert len(counter.details or "") < 4000  # type: ignore[union-attr]  # it is one
    assert isinstance(rule.attempt(counter, START + 1000 * SECOND), Stop)
    assert isinstance(rule.attempt(counter, START + DAY), Stop)
    assert isinstance(rule.attempt(counter, START + DAY + 1000 * SECOND), Counter)


def test_networks_beyond_a_hundred_are_forgotten_the_oldest_first() -> None:
    backoff, counter = Backoff(1, timedelta(hours=1), timedelta(hours=1), DAY), None
    for number in range(150):
        counter = Guesses(1000, DAY, backoff, str(number)).attempt(counter, START + number * SECOND)
        assert isinstance(counter, Counter)
    later = START + 200 * SECOND
    assert isinstance(Guesses(1000, DAY, backoff, "149").attempt(counter, later), timedelta)
    assert isinstance(Guesses(1000, DAY, backoff, "0").attempt(counter, later), Counter)
