"""PostgreSQL under load: several workers, a pooler, SERIALIZABLE, and a primary that dies."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from .. import databases, pgbouncer, postgres
from ..conftest import Database
from ..daemons import none_of
from ..pgbouncer import PgBouncer
from ..smtp_server import MailServer
from .conftest import workers
from .haproxy import haproxy
from .load import Verdict, race

Judged = Callable[..., Awaitable[Verdict]]

pytestmark = pytest.mark.skipif(postgres.missing() is not None, reason=str(postgres.missing()))


async def test_four_workers_keep_what_they_have_acknowledged(
    own_postgres: postgres.Server, own_mail_server: MailServer, judged: Judged
) -> None:
    database = Database("postgres", own_postgres.url_of("app") + databases.POOL)
    with workers(database, own_mail_server, 4) as server:
        verdict = await judged("four workers", [server], database)
    assert verdict.refused == 0


@pytest.mark.full
@pytest.mark.skipif(pgbouncer.missing() is not None, reason=str(pgbouncer.missing()))
async def test_workers_behind_a_pooler_of_transactions_keep_what_they_have_acknowledged(
    own_postgres: postgres.Server, own_mail_server: MailServer, judged: Judged
) -> None:
    with PgBouncer(own_postgres.url_of("app"), default_pool_size=4) as pooler:
        database = Database("postgres", f"{pooler.url}{databases.POOL}&statement_cache_size=0")
        with workers(database, own_mail_server, 2) as server:
            verdict = await judged("pgbouncer, pool_mode = transaction", [server], database)
    assert verdict.refused == 0


@pytest.mark.full
async def test_every_conflict_of_serializable_transactions_is_tried_again(
    own_postgres: postgres.Server, own_mail_server: MailServer, judged: Judged
) -> None:
    own_postgres.query("ALTER DATABASE app SET default_transaction_isolation = serializable")
    database = Database("postgres", own_postgres.url_of("app") + databases.POOL)
    with workers(database, own_mail_server, 2) as server:
        await race([server])
        verdict = await judged("PostgreSQL, SERIALIZABLE", [server], database)
    assert "could not serialize access" in own_postgres.log, "no transaction met another one"
    assert verdict.refused == 0


@pytest.fixture
def pair() -> Iterator[tuple[postgres.Server, postgres.Server]]:
    """A primary, and a standby on the same port of another address: what is acknowledged, both have."""
    with postgres.servers(2) as (primary, standby):
        standby.host, standby.port = "127.0.0.2", primary.port
        primary.create()
        primary.start()
        asyncio.run(databases.create(primary.url_of("app"), "postgres"))
        standby.copy(primary)
        standby.start()
        primary.query("ALTER SYSTEM SET synchronous_standby_names = 'walreceiver'")
        primary.query("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 60
        while primary.query("SELECT sync_state FROM pg_stat_replication") != "sync":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield primary, standby


def failover(primary: postgres.Server, standby: postgres.Server) -> Callable[[], Awaitable[None]]:
    """The primary goes down, and a moment later the standby takes its place."""

    async def failover() -> None:
        primary.kill()
        await asyncio.sleep(2)  # until whoever watches them has decided
        await asyncio.to_thread(standby.promote)

    return failover


@pytest.mark.full
@pytest.mark.skipif(none_of("haproxy") is not None, reason=str(none_of("haproxy")))
async def test_a_standby_behind_haproxy_takes_over_without_a_loss(
    pair: tuple[postgres.Server, postgres.Server], own_mail_server: MailServer, judged: Judged
) -> None:
    """The proxy leads to the standby before that takes writes."""
    primary, standby = pair
    rows = [(primary.address, standby.address)]
    with haproxy(*rows, check="option pgsql-check user postgres") as (port,):
        database = Database("postgres", f"postgres://postgres@127.0.0.1:{port}/app{databases.POOL}")
        with workers(database, own_mail_server, 2) as server:
            left = Database("postgres", standby.url_of("app"))
            await judged("PostgreSQL failover behind haproxy", [server], left, failover(primary, standby))


@pytest.mark.full
async def test_of_several_hosts_the_one_that_takes_writes_is_used_after_a_failover_too(
    pair: tuple[postgres.Server, postgres.Server], own_mail_server: MailServer, judged: Judged
) -> None:
    """As docs/production.md has it."""
    primary, standby = pair
    credentials = {
        "host": [standby.host, primary.host],
        "port": primary.port,
        "user": "postgres",
        "password": None,
        "database": "app",
        "target_session_attrs": "read-write",
        "minsize": 1,
        "maxsize": 10,
        "command_timeout": 10,
    }
    connection = {"engine": "tortoise.backends.asyncpg", "credentials": credentials}
    with workers(Database("postgres", json.dumps(connection)), own_mail_server, 2) as server:
        left = Database("postgres", standby.url_of("app"))
        await judged("PostgreSQL failover, several hosts", [server], left, failover(primary, standby))
