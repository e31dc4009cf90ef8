"""A pgbouncer of the tests' own, in front of their PostgreSQL."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from .daemons import Daemon, given, none_of, own_folder
from .live import free_port


def missing() -> str | None:
    """Why there is no pgbouncer; None where there is one."""
    return none_of("pgbouncer")


class PgBouncer:
    """Context manager: pools connections to the server of a URL, on a free port of 127.0.0.1."""

    def __init__(self, url: str, mode: str = "transaction", **options: object) -> None:
        self._upstream = urlsplit(url)
        self._port = 0
        self._options = {"pool_mode": mode, "default_pool_size": 20, "max_client_conn": 200} | options

    @property
    def url(self) -> str:
        """The URL of the database by way of the pooler."""
        account = self._upstream.netloc.rpartition("@")[0]
        return self._upstream._replace(netloc=f"{account}@127.0.0.1:{self._port}").geturl()

    def __enter__(self) -> Self:
        self._port = self._port or free_port()  # it starts again where it was
        upstream = self._upstream
        server = f"host={upstream.hostname} port={upstream.port} user={upstream.username}"
        server += f" password={upstream.password}" if upstream.password else ""
        with ExitStack() as ending:
            folder = ending.enter_context(own_folder("pgbouncer-"))
            options = {"listen_addr": "127.0.0.1", "listen_port": self._port, "auth_type": "any"}
            options |= {"unix_socket_dir": ""} | self._options
            lines = [f"{name} = {value}" for name, value in options.items()]
            config = folder / "pgbouncer.ini"
            config.write_text("\n".join(["[databases]", f"* = {server}", "[pgbouncer]", *lines, ""]))
            daemon = Daemon(["pgbouncer", given(config)], self._port, folder / "log")
            ending.callback(daemon.stop)
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()
