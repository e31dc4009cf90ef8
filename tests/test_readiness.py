"""`auth.ready()`: what the route of a host tells its load balancer, in time, whatever the database does."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from tortoise.context import TortoiseContext
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.readiness import NotReady

from . import databases, pgbouncer
from .conftest import Database, on_one_spare
from .live import serving
from .pgbouncer import PgBouncer
from .proxy import Proxy
from .spare_database import SpareDatabase
from .test_outages import loud, on_postgres, on_servers

on_postgres_unless_full = pytest.mark.parametrize(
    "spare", ["postgres", pytest.param("mysql", marks=pytest.mark.full)], indirect=True
)
READY = (200, {"reason": None})
PATIENCE = 30.0
"""Seconds: many times what an answer may take, and no end for a database that is waited for."""


def not_ready(reason: NotReady) -> tuple[int, dict[str, str]]:
    return 503, {"reason": reason.value}


def with_probes(app: FastAPI, settings: AuthSettings) -> FastAPI:
    """As docs/metrics.md has them."""
    auth = include_auth(app, settings=settings)

    @app.get("/live")
    async def live() -> None: ...

    @app.get("/ready")
    async def ready() -> JSONResponse:
        ready = await auth.ready()
        return JSONResponse({"reason": ready.reason}, ready.status)

    return app


@asynccontextmanager
async def probed(settings: AuthSettings, dialect: str, url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The client of an app on this database, whose lifespan has run."""
    app = with_probes(FastAPI(), settings)
    async with TortoiseContext() as context:
        await context.init(databases.config(url, dialect))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                yield client


async def probe(client: httpx.AsyncClient) -> tuple[int, object]:
    async with asyncio.timeout(PATIENCE):
        answer = await client.get("/ready")
    return answer.status_code, answer.json()


@pytest.fixture
def silent() -> Iterator[str]:
    """Host and port of what accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield "{}:{}".format(*listener.getsockname())


@on_one_spare
async def test_an_app_is_ready_when_its_tables_are_complete_without_a_restart(
    spare: SpareDatabase, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.deliver_mail = False
    await spare.create(None)
    async with probed(settings, spare.dialect, spare.url) as client:
        assert await probe(client) == not_ready(NotReady.NOT_MIGRATED)
        (line,) = loud(caplog)
        assert line.endswith("run `tortoise migrate`.")
        await spare.migrate("models.0008_identities")
        assert await probe(client) == not_ready(NotReady.NOT_MIGRATED), "the release before"
        await spare.migrate()
        assert await probe(client) == READY
        assert await probe(client) == READY


@on_servers
async def test_a_database_that_is_down_is_told_and_so_is_that_it_is_back(
    spare: SpareDatabase, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    await spare.create("fastapi_pluggable_auth.models")
    with Proxy(spare.url) as proxy:
        async with probed(settings, spare.dialect, proxy.url) as client:
            assert await probe(client) == READY
            proxy.refuse()
            caplog.clear()
            assert {str(await probe(client)) for _ in range(5)} == {str(not_ready(NotReady.UNAVAILABLE))}
            assert 1 <= len(loud(caplog)) <= 5
            proxy.recover()
            async with asyncio.timeout(PATIENCE):
                while await probe(client) != READY:
                    await asyncio.sleep(0.1)


@on_postgres_unless_full
async def test_a_database_that_goes_silent_is_told_in_time(
    spare: SpareDatabase, settings: AuthSettings
) -> None:
    """However long requests may wait for it."""
    settings.database_timeout = settings.access_token_expires * 100
    await spare.create("fastapi_pluggable_auth.models")
    with Proxy(spare.url) as proxy:
        async with probed(settings, spare.dialect, proxy.url) as client:
            assert await probe(client) == READY
            proxy.stall()
            answers = await asyncio.gather(*(probe(client) for _ in range(10)))
            assert answers == [not_ready(NotReady.UNAVAILABLE)] * 10
            proxy.recover()


@on_postgres_unless_full
def test_a_probe_is_answered_in_time_by_an_app_that_starts_on_what_says_nothing(
    spare: SpareDatabase, settings: AuthSettings, silent: str
) -> None:
    """As Kubernetes asks, over HTTP: the process lives, and is not ready."""
    url = urlsplit(spare.url)
    account = url.netloc.rpartition("@")[0]
    url = url._replace(netloc=f"{account}@{silent}")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with RegisterTortoise(app, config=databases.config(url.geturl(), spare.dialect)):
            yield

    app = FastAPI(lifespan=lifespan)
    with serving(with_probes(app, settings)) as base:
        assert httpx.get(f"{base}/live", timeout=PATIENCE).status_code == 200
        answer = httpx.get(f"{base}/ready", timeout=PATIENCE)
        assert (answer.status_code, answer.json()) == not_ready(NotReady.UNAVAILABLE)
        assert silent not in str(answer.headers)


@on_postgres
async def test_a_connection_that_stays_silent_does_not_keep_an_app_from_getting_ready(
    spare: SpareDatabase, settings: AuthSettings, silent: str
) -> None:
    """As after a network that has forgotten it: nobody answers on it any more, also where the first look for
    a pooler waits there, and no request comes whose own time would end that."""
    await spare.create("fastapi_pluggable_auth.models")
    with Proxy(f"postgres://postgres@{silent}/x") as proxy:
        async with TortoiseContext() as context:
            url = urlsplit(spare.url)._replace(netloc=urlsplit(proxy.url).netloc).geturl()
            await context.init(databases.config(url, "postgres"))
            auth = Auth(settings)
            assert (await auth.ready()).reason is NotReady.UNAVAILABLE
            proxy.move(spare.url)
            async with asyncio.timeout(PATIENCE):
                while not await auth.ready():
                    await asyncio.sleep(0.1)
            await auth.close()


@on_postgres
async def test_a_standby_is_told_and_left_when_the_name_leads_to_a_primary(
    spare: SpareDatabase, settings: AuthSettings
) -> None:
    """Nobody sends requests to an app that is not ready: the probe itself drops the connections, which would
    else be to the standby for ever."""
    await spare.create("fastapi_pluggable_auth.models")
    name = spare.url.rpartition("/")[2]
    await spare.query(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    async with probed(settings, spare.dialect, f"{spare.url}?minsize=2&maxsize=2") as client:
        assert await probe(client) == not_ready(NotReady.READ_ONLY)
        await asyncio.to_thread(asyncio.run, _to_primary(spare.url))
        async with asyncio.timeout(PATIENCE):
            while await probe(client) != READY:
                await asyncio.sleep(0.1)


async def _to_primary(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        name = url.rpartition("/")[2]
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    finally:
        await connection.close()


@pytest.mark.skipif(pgbouncer.missing() is not None, reason=str(pgbouncer.missing()))
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_a_pooler_that_mixes_up_statements_is_told(database: Database, settings: AuthSettings) -> None:
    with PgBouncer(database.url) as pooler:
        async with TortoiseContext() as context:
            await context.init(databases.config(pooler.url, "postgres"))
            auth = Auth(settings)
            assert (await auth.ready()).reason is NotReady.MIXED_UP
            assert not await auth.ready()


async def test_an_app_that_has_not_initialised_tortoise_says_so(
    settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL):
        ready = await Auth(settings).ready()
    assert (ready.reason, ready.status, bool(ready)) == (NotReady.NOT_INITIALISED, 503, False)
