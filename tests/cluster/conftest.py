"""What the scenarios share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from .. import databases, postgres
from ..conftest import Database
from ..smtp_server import MailServer
from ..test_workers import Server
from .load import IDEMPOTENT, Load, Verdict


@contextmanager
def workers(database: Database, mail_server: MailServer, count: int, **environment: str) -> Iterator[Server]:
    """The app with so many workers, as the load wants it."""
    server = Server(database, mail_server.port, count, **(IDEMPOTENT | environment))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def own_mail_server() -> Iterator[MailServer]:
    """An SMTP server that no other test has."""
    with MailServer() as mail_server:
        yield mail_server


@pytest.fixture
def own_postgres() -> Iterator[postgres.Server]:
    """A server with the tables in its database `app`."""
    with postgres.servers(1) as (server,):
        server.create()
        server.start()
        asyncio.run(databases.create(server.url_of("app"), "postgres"))
        yield server


@pytest.fixture
def judged(
    own_mail_server: MailServer, record_property: Callable[[str, object], None]
) -> Callable[..., Awaitable[Verdict]]:
    """Runs a scenario, reports it at the end of the run, and fails where a promise was broken."""

    async def judged(
        name: str,
        servers: Sequence[Server],
        database: Database,
        *disturb: Callable[[], Awaitable[object]],
    ) -> Verdict:
        load = Load(name, servers, database, own_mail_server)
        try:
            verdict = await load.run(*disturb)
        finally:
            record_property("cluster", str(load.verdict))
        verdict.assert_kept()
        return verdict

    return judged
