"""A pgbouncer of the tests' own, in front of their PostgreSQL."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

BINARY = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def missing() -> str | None:
    """Why there is no pgbouncer; None where there is one."""
    return None if BINARY else "no pgbouncer: apt install pgbouncer"


class PgBouncer:
    """Context manager: pools connections to the server of a URL, on a free port of 127.0.0.1. Where the tests
    run as root, which pgbouncer refuses, it runs as nobody."""

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
        assert BINARY
        if self._port == 0:  # else it starts again where it was
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._port = probe.getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        upstream = self._upstream
        server = f"host={upstream.hostname} port={upstream.port} user={upstream.username}"
        server += f" password={upstream.password}" if upstream.password else ""
        options = {"listen_addr": "127.0.0.1", "listen_port": self._port, "auth_type": "any"}
        options |= {"unix_socket_dir": "", "logfile": self._folder / "log"} | self._options
        lines = [f"{name} = {value}" for name, value in options.items()]
        config = self._folder / "pgbouncer.ini"
        config.write_text("\n".join(["[databases]", f"* = {server}", "[pgbouncer]", *lines, ""]))
        command = [BINARY, "-q", str(config)]
        if os.geteuid() == 0:
            for path in (self._folder, config):
                shutil.chown(path, "nobody")
            command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
                return self
            except OSError:
                log = self._folder / "log"
                died = self._process.poll() is not None or time.monotonic() > deadline
                assert not died, log.read_text() if log.exists() else command
                time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._folder)
