"""The databases that the tests run on: SQLite always, PostgreSQL and MariaDB wherever a server answers."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tortoise.connection import get_connections
from tortoise.context import TortoiseContext

NAME = "pluggable_auth_test"
# Each process of pytest-xdist has databases of its own.
PROCESS = "_" + os.environ["PYTEST_XDIST_WORKER"] if "PYTEST_XDIST_WORKER" in os.environ else ""
SERVERS = {
    "postgres": os.environ.get("TEST_POSTGRES_URL", f"postgres://postgres@127.0.0.1:5432/{NAME}") + PROCESS,
    "mysql": os.environ.get("TEST_MYSQL_URL", f"mysql://root@127.0.0.1:3306/{NAME}") + PROCESS,
}
REDIS_URL = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")
POOL = "?minsize=1&maxsize=10&command_timeout=10"
"""As docs/production.md has it, for PostgreSQL."""
DIALECTS = ("sqlite", *SERVERS)
TABLES = (
    "auth_audit_event",
    "auth_throttle",
    "auth_mail",
    "auth_recovery_code",
    "auth_identity",
    "auth_oauth_client_token",
    "auth_oauth_device",
    "auth_oauth_token",
    "auth_oauth_grant",
    "auth_oauth_client",
    "auth_passkey",
    "auth_personal_token",
    "auth_device",
    "auth_pending",
    "refreshtoken",
    "auth_session",
    "user",
)


def answers(dialect: str) -> bool:
    """Whether something listens where the server of a dialect, or `redis`, should be."""
    address = urlsplit(REDIS_URL if dialect == "redis" else SERVERS[dialect])
    try:
        socket.create_connection((address.hostname, address.port), timeout=2).close()
    except OSError:
        return False
    return True


_labels: dict[str, str] = {}
"""By module, the label that it has in this process."""


def config(
    url: str | dict[str, Any],
    dialect: str,
    label: str = "models",
    models: str = "fastapi_pluggable_auth.models",
    **app: Any,
) -> dict[str, Any]:
    """A Tortoise configuration. The connection has the dialect's name: Tortoise caches SQL by that name. The
    label of a module sticks to the process: under a second one, none are found."""
    assert _labels.setdefault(models, label) == label, f"{models} has the label {_labels[models]} already"
    return {
        "connections": {dialect: url},
        "apps": {label: {"models": [models], "default_connection": dialect, **app}},
    }


def shared() -> str:
    """The dialect for tests of several processes that need only one: a server, where one answers."""
    return next((dialect for dialect in SERVERS if answers(dialect)), "sqlite")


async def create(
    url: str,
    dialect: str,
    models: str | None = "fastapi_pluggable_auth.models",
    label: str = "models",
) -> None:
    """Makes an empty database with the tables of these models, in place of whatever was there."""
    chosen = config(url, dialect, label, models or "fastapi_pluggable_auth.models")
    if dialect == "sqlite":
        for suffix in ("", "-wal", "-shm"):
            Path(url.removeprefix("sqlite://") + suffix).unlink(missing_ok=True)
    async with TortoiseContext() as context:
        if dialect != "sqlite":
            await context.init(chosen, init_connections=True)
            connection = context.connections.get(dialect)
            try:
                await connection.db_delete()
            except Exception as error:
                if "exist" not in str(error):
                    raise
            finally:
                await connection.close()
    async with TortoiseContext() as context:
        await context.init(chosen, _create_db=dialect != "sqlite")
        if models is not None:
            await context.generate_schemas()


def spare(dialect: str, folder: Path) -> str:
    """The URL of a second database, for tests that change the tables themselves."""
    if dialect == "sqlite":
        return f"sqlite://{folder / 'spare.sqlite3'}"
    return f"{SERVERS[dialect]}_spare"


async def empty(context: TortoiseContext, dialect: str) -> None:
    """Deletes every row."""
    connection = context.connections.get(dialect)
    quote = "`" if dialect == "mysql" else '"'
    for table in TABLES:
        await connection.execute_query(f"DELETE FROM {quote}{table}{quote}")


def lent(dialect: str) -> int:
    """How many connections the pool has lent: to queries and transactions of this moment, or lost."""
    client: Any = get_connections().get(dialect)
    if dialect == "sqlite":
        return int(client._lock.locked())
    pool = client._pool
    if pool is None:
        return 0
    return int(pool.get_size() - pool.get_idle_size() if dialect == "postgres" else pool.size - pool.freesize)
