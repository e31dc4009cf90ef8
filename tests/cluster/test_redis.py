"""Limits per client, counted by Redis on a socket, in a cluster, and behind Sentinel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, include_auth

from .. import databases, postgres
from ..conftest import EMAIL, Database
from ..smtp_server import MailServer
from . import redis_servers
from .conftest import workers
from .load import Verdict

DIALECTS = ("sqlite",)
LOGIN = {"email": EMAIL, "password": "wrong password"}
HELD = [401] * 3 + [429] * 2

pytestmark = pytest.mark.skipif(redis_servers.missing() is not None, reason=str(redis_servers.missing()))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no store that is down."""
    monkeypatch.setattr("fastapi_pluggable_auth.security.rate_limits.STORE_TIMEOUT", 10.0)


@pytest.fixture
def several() -> Iterator[ExitStack]:
    with ExitStack() as several:
        yield several


@asynccontextmanager
async def limited(
    settings: AuthSettings, storage: str
) -> AsyncIterator[Callable[[str], Awaitable[list[int]]]]:
    """What the next logins from an address are answered by an app that counts there."""
    settings.rate_limits, settings.rate_limit_storage = {"login": "3/hour"}, storage
    app = FastAPI()
    include_auth(app, settings=settings)

    async def logins(address: str) -> list[int]:
        transport = httpx.ASGITransport(app, client=(address, 4321))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return [(await client.post("/auth/login", json=LOGIN)).status_code for _ in HELD]

    try:
        yield logins
    finally:
        await app.state.pluggable_auth.close()


async def test_limits_are_counted_through_a_socket_and_by_the_name_of_valkey(
    tortoise: TortoiseContext, settings: AuthSettings, several: ExitStack
) -> None:
    server = several.enter_context(redis_servers.alone())
    storages = [
        f"redis+unix://{server.socket}",
        f"unix://{server.socket}?db=1",
        f"valkey://127.0.0.1:{server.port}",
    ]
    for number, storage in enumerate(storages):
        async with limited(settings, storage) as logins:
            assert await logins(f"192.0.2.{number}") == HELD
    assert int(server.ask("dbsize")) == 2
    assert int(server.ask("-n", 1, "dbsize")) == 1


@pytest.mark.full
async def test_limits_are_counted_by_a_cluster(
    tortoise: TortoiseContext, settings: AuthSettings, several: ExitStack
) -> None:
    servers = several.enter_context(redis_servers.clustered())
    addresses = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    async with limited(settings, f"redis+cluster://{addresses}") as logins:
        for number in range(12):
            assert await logins(f"192.0.2.{number}") == HELD
    counted = [int(server.ask("dbsize")) for server in servers]
    assert sum(counted) == 12
    assert max(counted) < 12


@pytest.mark.full
async def test_limits_hold_while_sentinel_makes_another_server_the_master(
    tortoise: TortoiseContext, settings: AuthSettings, several: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-37: the database counts meanwhile, and the new master afterwards."""
    monkeypatch.setattr("fastapi_pluggable_auth.security.rate_limits.STORE_PAUSE", 0.5)
    master, replica, sentinels = several.enter_context(redis_servers.watched())
    addresses = ",".join(f"127.0.0.1:{port}" for port in sentinels)
    async with limited(settings, f"redis+sentinel://{addresses}/{redis_servers.MASTER}") as logins:
        assert await logins("192.0.2.1") == HELD
        assert int(master.ask("dbsize")) == 1
        redis_servers.wait_for(replica.port, "1", "dbsize")
        master.kill()
        assert await logins("192.0.2.2") == HELD
        await asyncio.to_thread(redis_servers.wait_for, replica.port, "role:master", "info", "replication")
        async with asyncio.timeout(60):
            while int(replica.ask("dbsize")) < 2:  # the database counts some of these, and Redis others
                assert {*await logins("192.0.2.3")} <= {*HELD}
        assert await logins("192.0.2.4") == HELD
        assert await logins("192.0.2.1") == [429] * 5


@pytest.mark.full
@pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))
async def test_no_request_is_refused_while_the_master_of_sentinel_is_killed(
    own_postgres: postgres.Server,
    own_mail_server: MailServer,
    judged: Callable[..., Awaitable[Verdict]],
    several: ExitStack,
) -> None:
    master, _, sentinels = several.enter_context(redis_servers.watched())
    addresses = ",".join(f"127.0.0.1:{port}" for port in sentinels)
    limits = {
        "AUTH_RATE_LIMITS": "recommended,signup=100000/hour,login=100000/hour,refresh=100000/hour",
        "AUTH_RATE_LIMIT_STORAGE": f"redis+sentinel://{addresses}/{redis_servers.MASTER}",
    }
    database = Database("postgres", own_postgres.url_of("app") + databases.POOL)

    async def kill() -> None:
        master.kill()

    with workers(database, own_mail_server, 2, **limits) as server:
        verdict = await judged("Redis Sentinel, its master killed", [server], database, kill)
    assert verdict.refused == 0
