"""Places in the queue for hashing, which the networks that wait share."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.security.fair_pool import FairPool, PoolFullError

from .conftest import PASSWORD, Mailbox
from .live import serving
from .test_plugin import app_with_plain_init_in_lifespan

LOGINS = 20


class HeldPool:
    """A pool of one thread, whose work waits until it is let go."""

    def __init__(self) -> None:
        self.pool = FairPool(1, "held", lambda: None)
        self.done: list[str] = []
        self._held = threading.Event()

    def put(self, *names: str, places: int = 6) -> list[Future[None]]:
        """What is done has these names, whose first letters are those of the parties."""
        return [self.pool.submit(name[0], partial(self._work, name), places) for name in names]

    def run(self) -> list[str]:
        """What was done, in this order."""
        self._held.set()
        self.pool.submit("z", lambda: None, 10**6).result(10)
        return self.done

    def _work(self, name: str) -> None:
        assert self._held.wait(10)
        self.done.append(name)


@pytest.fixture
def held_pool() -> Iterator[HeldPool]:
    """A pool with nothing in it."""
    held = HeldPool()
    yield held
    held.run()
    held.pool.close()


def test_networks_are_served_in_turn(held_pool: HeldPool) -> None:
    held_pool.put("a0", "a1", "a2", "a3", "b1", "b2", "c1")
    assert held_pool.run() == ["a0", "a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_network_that_is_alone_may_have_all_places_and_no_more(held_pool: HeldPool) -> None:
    held_pool.put(*(f"a{n}" for n in range(7)))
    with pytest.raises(PoolFullError):
        held_pool.put("a7")
    assert len(held_pool.run()) == 7


def test_a_full_queue_gives_the_newest_place_of_the_largest_network_to_one_with_fewer(
    held_pool: HeldPool,
) -> None:
    jobs = held_pool.put("a0", "a1", "a2", "a3", "a4", "b1", "b2")
    held_pool.put("c1", "c2")  # four, two and none wait: two each
    for given_up in jobs[3:5]:
        with pytest.raises(PoolFullError):
            given_up.result(0)
    for late in ("a5", "b3", "c3"):
        with pytest.raises(PoolFullError):
            held_pool.put(late)
    held_pool.put("d1")
    with pytest.raises(PoolFullError):
        held_pool.put("d2")
    assert len(held_pool.run()) == 7


def test_who_goes_away_before_the_work_begins_frees_the_place(held_pool: HeldPool) -> None:
    jobs = held_pool.put(*(f"a{n}" for n in range(7)))
    assert jobs[3].cancel()
    held_pool.put("a7")
    assert held_pool.run() == ["a0", "a1", "a2", "a4", "a5", "a6", "a7"]


def test_work_that_raises_frees_its_thread(held_pool: HeldPool) -> None:
    pool = FairPool(1, "held", lambda: None)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            pool.submit("a", lambda: 1 / 0, 1).result(10)
    assert pool.submit("a", lambda: 1, 1).result(10) == 1
    pool.close()
    assert pool.submit("a", lambda: 1, 1).result(10) == 1
    pool.close()


@pytest.fixture
def base(settings: AuthSettings, mailbox: Mailbox, tmp_path: Path) -> Iterator[str]:
    """A served app behind a proxy that names the clients, with accounts in it."""
    settings.trusted_proxies = [ip_network("127.0.0.1/32")]
    settings.bcrypt_rounds, settings.require_verified_email = 9, False
    app = app_with_plain_init_in_lifespan(f"sqlite://{tmp_path / 'queue.sqlite3'}")
    include_auth(app, settings=settings)
    with serving(app) as base:
        with httpx.Client(base_url=base, timeout=60, headers={"x-forwarded-for": "192.0.2.200"}) as client:
            for n in range(LOGINS):
                email = f"u{n}@example.com"
                signup = client.post("/auth/signup", json={"email": email, "password": PASSWORD})
                assert signup.status_code == 201
        yield base


@asynccontextmanager
async def ninety_connections(base: str, address: Callable[[int], str]) -> AsyncIterator[Counter[int]]:
    """Clients that log in to random addresses all the time."""
    answers: Counter[int] = Counter()
    numbers = itertools.count()

    async def storm(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
        while True:
            body = {"email": f"x{next(numbers)}@example.com", "password": PASSWORD}
            answers[(await client.post("/auth/login", json=body, headers=headers)).status_code] += 1

    limits = httpx.Limits(max_connections=90)
    async with httpx.AsyncClient(base_url=base, timeout=60, limits=limits) as client:
        storms = [asyncio.create_task(storm(client, {"x-forwarded-for": address(n)})) for n in range(90)]
        while answers[503] < 50:
            await asyncio.sleep(0.05)
        yield answers
        for task in storms:
            task.cancel()
        await asyncio.gather(*storms, return_exceptions=True)


@pytest.mark.parametrize(
    ("address", "at_once"),
    [
        pytest.param(lambda n: "192.0.2.1", False, marks=pytest.mark.full),
        (lambda n: f"2001:db8::{n:x}", True),
    ],
    ids=["one address", "one IPv6 network"],
)
async def test_beside_ninety_connections_of_one_client_all_logins_of_another_pass(
    base: str, address: Callable[[int], str], at_once: bool
) -> None:
    """A-87, R-40."""
    async with (
        ninety_connections(base, address),
        httpx.AsyncClient(base_url=base, timeout=60, headers={"x-forwarded-for": "198.51.100.7"}) as client,
    ):

        async def login(n: int) -> int:
            body = {"email": f"u{n}@example.com", "password": PASSWORD}
            return (await client.post("/auth/login", json=body)).status_code

        if at_once:
            statuses = await asyncio.gather(*map(login, range(LOGINS)))
        else:
            statuses = [await login(n) for n in range(LOGINS)]
    assert Counter(statuses) == {200: LOGINS}
