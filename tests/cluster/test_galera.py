"""Three nodes of MariaDB, each of which takes writes, and an app on each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack

import pytest

from .. import databases
from ..conftest import Database
from ..daemons import none_of
from ..smtp_server import MailServer
from ..test_workers import Server
from . import galera
from .conftest import workers
from .haproxy import haproxy
from .load import Verdict, race

NODES = 3
MISSING = galera.missing() or none_of("haproxy")

pytestmark = [pytest.mark.full, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]


@pytest.fixture
def nodes() -> Iterator[list[galera.Node]]:
    """They have the tables."""
    with galera.cluster(NODES) as nodes:
        asyncio.run(databases.create(nodes[0].url, "mysql"))
        yield nodes


async def test_apps_on_three_nodes_keep_what_they_have_acknowledged_also_while_one_is_killed(
    nodes: list[galera.Node],
    own_mail_server: MailServer,
    judged: Callable[..., Awaitable[Verdict]],
) -> None:
    """Each app has a node that it likes best, and another one while that is down."""
    addresses = [node.address for node in nodes]
    rows = [addresses[place:] + addresses[:place] for place in range(NODES)]
    with haproxy(*rows) as ports, ExitStack() as running:
        urls = [f"mysql://root@127.0.0.1:{port}/app?minsize=1&maxsize=10" for port in ports]

        def app_on_each_node(**environment: str) -> list[Server]:
            apps = (workers(Database("mysql", url), own_mail_server, 1, **environment) for url in urls)
            return [running.enter_context(app) for app in apps]

        await race(app_on_each_node(AUTH_REFRESH_IDEMPOTENT="false"), idempotent=False)
        running.close()
        servers = app_on_each_node()
        await race(servers)

        async def kill() -> None:
            nodes[-1].kill()

        await judged("Galera, three nodes, one killed", servers, Database("mysql", nodes[0].url), kill)
