"""Volume limits per client: off until asked for, shared through Redis, never open when the store is down."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis.asyncio
from fastapi import FastAPI, Request
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter as AsyncMovingWindow
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import FixedWindowRateLimiter
from slowapi import Limiter
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.config import RECOMMENDED_RATES
from fastapi_pluggable_auth.features.two_factor.feature import TWO_FACTOR
from fastapi_pluggable_auth.models import Throttle
from fastapi_pluggable_auth.security.proxies import client_address, counted_network
from fastapi_pluggable_auth.security.rate_limits import RateConfigurationError

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, Account, Clock, Mailbox

# What is tested here is the same on every database.
DIALECTS = ("sqlite",)

LOGIN = {"email": EMAIL, "password": "wrong password"}
Ask = Callable[..., Any]


@pytest.fixture
async def serve(tortoise: TortoiseContext, settings: AuthSettings, clock: Clock) -> AsyncIterator[Ask]:
    """Builds an app with these settings and gives a client with an address of its own."""
    clients: list[httpx.AsyncClient] = []
    apps: list[FastAPI] = []

    def serve(limiter: Any = None, address: str = "192.0.2.7", **changes: Any) -> httpx.AsyncClient:
        for name, value in changes.items():
            setattr(settings, name, value)
        app = FastAPI()
        include_auth(app, settings=settings, clock=clock, limiter=limiter)
        apps.append(app)
        return client_of(app, address)

    def client_of(app: FastAPI, address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, client=(address, 4321))
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://testserver"))
        return clients[-1]

    serve.again = lambda address: client_of(apps[-1], address)  # type: ignore[attr-defined]
    yield serve
    for client in clients:
        await client.aclose()
    for app in apps:
        await app.state.pluggable_auth.close()


async def logins(client: httpx.AsyncClient, number: int, **arguments: Any) -> list[int]:
    return [(await client.post("/auth/login", json=LOGIN, **arguments)).status_code for _ in range(number)]


async def test_there_is_no_limit_until_one_is_set(account: Account) -> None:
    assert await logins(account.client, 40) == [401] * 40


ROUTES: list[tuple[str, str, str, dict[str, str] | None]] = [
    ("signup", "POST", "/auth/signup", {"email": EMAIL, "password": PASSWORD}),
    ("login", "POST", "/auth/login", LOGIN),
    ("reauthenticate", "POST", "/auth/reauthenticate", {"password": PASSWORD}),
    ("reauthenticate", "POST", "/auth/reauthenticate/mail", None),
    ("reauthenticate", "POST", "/auth/reauthenticate/mail/code", {"challenge": "x", "code": "123456"}),
    ("refresh", "POST", "/auth/refresh", {"token": "x"}),
    ("verify", "GET", "/auth/verify/x", None),
    ("verify", "POST", "/auth/verify/x", None),
    ("verify", "POST", "/auth/verify/x/form", None),
    ("verify", "POST", "/auth/email-change/x", None),
    ("verify", "POST", "/auth/stop-email-change/x", None),
    ("verify", "POST", "/auth/verify/code", {"challenge": "x", "code": "123456"}),
    ("verify", "POST", "/auth/email-change/code", {"code": "123456"}),
    ("resend", "POST", "/auth/verify/resend", {"email": EMAIL}),
    ("forgot_password", "POST", "/auth/forgot-password", {"email": EMAIL}),
    ("reset_password", "POST", "/auth/reset-password/x", {"new_password": PASSWORD}),
    ("reset_password", "POST", "/auth/reset-password/x/form", None),
    (
        "reset_password",
        "POST",
        "/auth/reset-password/code",
        {"challenge": "x", "code": "123456", "new_password": PASSWORD},
    ),
    ("change_password", "POST", "/account/change-password", {"old_password": "a", "new_password": PASSWORD}),
    ("password_strength", "POST", "/account/password-strength", {"password": PASSWORD}),
    ("update_account", "PATCH", "/account", {"email": EMAIL}),
    ("update_account", "PATCH", "/account/", {"email": EMAIL}),
    ("export_account", "GET", "/account/export", None),
    ("two_factor", "POST", "/auth/2fa/verify", {"code": "123456"}),
]


@pytest.mark.parametrize(("rule", "method", "path", "body"), ROUTES)
async def test_a_costly_route_is_limited_before_it_does_its_work(
    rule: str,
    method: str,
    path: str,
    body: dict[str, str] | None,
    serve: Ask,
    mailbox: Mailbox,
) -> None:
    """A-15."""
    client = serve(rate_limits={rule: "2/hour"})
    answers = [await client.request(method, path, json=body) for _ in range(2)]
    assert 429 not in {answer.status_code for answer in answers}
    mailbox.clear()
    taken: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        limited = await client.request(method, path, json=body)
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.2
    assert (limited.status_code, limited.json()["code"]) == (429, "rate_limited")
    assert 0 < int(limited.headers["retry-after"]) <= 3600
    assert mailbox.messages == []
    assert (await client.get("/auth/me")).status_code == 401


def test_every_recommended_limit_is_tested_and_a_rate() -> None:
    assert {rule for rule, *_ in ROUTES} == RECOMMENDED_RATES.keys() | TWO_FACTOR.rates.keys()
    environment = AuthSettings(_env_file=None, rate_limits="recommended,login=5/second;50/hour")  # type: ignore[arg-type]
    assert environment.rate_limits == RECOMMENDED_RATES | {"login": "5/second;50/hour"}


async def test_several_rates_apply_together(serve: Ask) -> None:
    client = serve(rate_limits={"login": "100/minute;3/hour"})
    assert await logins(client, 4) == [401, 401, 401, 429]


async def test_clients_are_counted_apart_and_routes_too(serve: Ask) -> None:
    client = serve(rate_limits={"login": "2/hour", "forgot_password": "2/hour"})
    assert await logins(client, 3) == [401, 401, 429]
    assert (await client.post("/auth/forgot-password", json={"email": EMAIL})).status_code == 200
    assert await logins(serve.again("192.0.2.8"), 3) == [401, 401, 429]  # type: ignore[attr-defined]


async def test_an_address_in_a_header_is_not_believed(serve: Ask) -> None:
    """A-16: forged headers from a peer that is no trusted proxy make no new client."""
    client = serve(rate_limits={"login": "10/hour"})
    statuses = []
    for number in range(200):
        forged = f"203.0.113.{number}"
        headers = {"X-Forwarded-For": forged, "X-Real-IP": forged, "Forwarded": f"for={forged}"}
        statuses += await logins(client, 1, headers=headers)
    assert statuses == [401] * 10 + [429] * 190


async def test_behind_a_trusted_proxy_the_hop_before_it_counts(serve: Ask) -> None:
    """A-16, H-02."""
    client = serve(rate_limits={"login": "2/hour"}, trusted_proxies="192.0.2.0/24")
    for number in range(3):
        headers = {"X-Forwarded-For": f"10.0.0.{number}, 203.0.113.9"}
        expected = 401 if number < 2 else 429
        assert await logins(client, 1, headers=headers) == [expected]
    assert await logins(client, 1, headers={"X-Forwarded-For": "203.0.113.10"}) == [401]


async def test_an_ipv6_customer_is_one_client(serve: Ask) -> None:
    client = serve(address="2001:db8:1:2::1", rate_limits={"login": "2/hour"})
    statuses = await logins(client, 1)
    for last in ("2001:db8:1:2::2", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"):
        statuses += await logins(serve.again(last), 1)  # type: ignore[attr-defined]
    assert statuses == [401, 401, 429, 401]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9, 10.0.0.7"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["fe80::1%eth0"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("203.0.113.1", ["1.1.1.1"], "203.0.113.1"),
        ("testclient", ["1.1.1.1"], "testclient"),
        ("", ["1.1.1.1"], ""),
    ],
)
def test_the_client_is_the_first_hop_that_is_no_proxy(peer: str, forwarded: list[str], client: str) -> None:
    """A-16."""
    trusted = AuthSettings(_env_file=None, trusted_proxies="10.0.0.0/8").trusted_proxies  # type: ignore[arg-type]
    assert client_address(peer, forwarded, trusted) == client
    assert client_address(peer, forwarded, []) == peer


def test_an_address_is_counted_alone_or_with_its_network() -> None:
    assert counted_network("192.0.2.7") == "192.0.2.7"
    assert counted_network("::ffff:192.0.2.7") == "192.0.2.7"
    assert counted_network("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert counted_network("testclient") == "testclient"


# --- engines ---------------------------------------------------------------------------------------------


def redis_url() -> str:
    if not databases.answers("redis"):
        pytest.skip("no Redis server answers")
    return databases.REDIS_URL


def slowapi() -> Limiter:
    def key(request: Request) -> str:
        raise AssertionError("the client's address is found by the library")

    return Limiter(key_func=key)


@asynccontextmanager
async def engine(name: str) -> AsyncIterator[Any]:
    if name == "slowapi":
        yield slowapi()
    elif name == "sync strategy":
        yield FixedWindowRateLimiter(MemoryStorage())
    elif name == "sync Redis":
        storage: Any = storage_from_string(redis_url())
        yield FixedWindowRateLimiter(storage)
        storage.storage.close()
    else:
        pool = redis.asyncio.ConnectionPool.from_url(redis_url())
        own = RedisStorage(
            f"async+{redis_url()}",
            implementation="redispy",
            connection_pool=pool,  # type: ignore[arg-type]
        )
        yield AsyncMovingWindow(own)
        await pool.disconnect()


@pytest.mark.parametrize("name", ["slowapi", "sync strategy", "sync Redis", "async Redis"])
async def test_the_limiter_of_the_host_app_counts(name: str, serve: Ask) -> None:
    async with engine(name) as limiter:
        address = f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}::1"  # the counts of Redis outlive a test
        client = serve(limiter=limiter, address=address, rate_limits={"login": "3/hour"})
        assert await logins(client, 5) == [401, 401, 401, 429, 429]


async def test_a_limiter_without_rates_applies_the_recommended_ones_and_can_be_switched_off(
    serve: Ask,
) -> None:
    limiter = slowapi()
    client = serve(limiter=limiter)
    statuses = await logins(client, 31)
    assert statuses == [401] * 30 + [429]
    limiter.enabled = False
    assert await logins(client, 1) == [401]


async def test_workers_share_a_limit_through_redis(serve: Ask) -> None:
    url = redis_url()
    address = f"2001:db8:{uuid4().hex[:4]}::1"
    first = serve(address=address, rate_limits={"login": "4/hour"}, rate_limit_storage=url)
    second = serve(address=address)
    statuses = [await logins(client, 1) for client in (first, second) * 3]
    assert statuses == [[401]] * 4 + [[429]] * 2


class Broken:
    """A strategy whose store fails, or hangs."""

    def __init__(self, *, hangs: bool) -> None:
        self.hangs = hangs
        self.storage = self
        self.asked = 0

    async def hit(self, *_: object) -> bool:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        raise ConnectionError("redis://:secret@127.0.0.1 is down")


@pytest.mark.parametrize("hangs", [False, True])
async def test_the_database_counts_while_the_store_is_down_or_hangs(
    hangs: bool, serve: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """R-37: neither open nor 500; and a dead store is left alone for a while."""
    broken = Broken(hangs=hangs)
    client = serve(limiter=broken, rate_limits={"login": "3/hour"})
    started = time.perf_counter()
    assert await logins(client, 5) == [401, 401, 401, 429, 429]
    assert time.perf_counter() - started < 4
    assert broken.asked == 1
    assert caplog.text.count("the database counts") == 1
    assert await Throttle.all().count() == 2


async def test_a_redis_that_does_not_answer_fails_neither_open_nor_with_an_error(serve: Ask) -> None:
    """R-37."""
    client = serve(rate_limits={"login": "3/hour"}, rate_limit_storage="redis://127.0.0.1:1/0")
    assert await logins(client, 5) == [401, 401, 401, 429, 429]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rate_limits": {"login": "often"}}, "is not a rate"),
        ({"rate_limits": {"login": "3/hour"}, "rate_limit_storage": "carrier-pigeon://x"}, "neither memory"),
    ],
)
def test_limits_that_make_no_sense_stop_the_start(changes: dict[str, Any], complaint: str) -> None:
    settings = AuthSettings(_env_file=None, jwt_secret=SECRET, **changes)
    with pytest.raises(RateConfigurationError, match=complaint):
        include_auth(FastAPI(), settings=settings)


def test_a_limit_for_no_route_is_no_setting() -> None:
    settings = AuthSettings(_env_file=None, jwt_secret=SECRET, rate_limits="teleport=3/hour")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="teleport"):
        include_auth(FastAPI(), settings=settings)


async def test_a_request_beyond_the_limit_is_told(serve: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """With where it came from, and once."""
    client = serve(rate_limits={"login": "2/minute"})
    caplog.set_level("INFO", "fastapi_pluggable_auth.security")
    assert await logins(client, 3) == [401, 401, 429]
    told = [
        json.loads(record.getMessage()) for record in caplog.records if "rate_limit" in record.getMessage()
    ]
    assert [(each["event"], each["outcome"], each["reason"], each["address"]) for each in told] == [
        ("rate_limit", "failure", "rate_limited", "192.0.2.7")
    ]
