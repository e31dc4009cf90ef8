"""PostgreSQL servers of a test's own, which it may stop, promote and break."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .live import free_port

BINARIES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def missing() -> str | None:
    """What there is not to start one, if anything."""
    return "no PostgreSQL server is installed" if BINARIES is None else None


class Server:
    """A server in a folder, on a port of its own, of an address of this machine."""

    def __init__(self, folder: Path) -> None:
        self._data, self._log = folder / "data", folder / "log"
        self.host, self.port = "127.0.0.1", free_port()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The database that every server has."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """One of its databases."""
        return f"postgres://postgres@{self.address}/{database}"

    def create(self) -> None:
        """An empty primary, for speed and not for keeps."""
        self._run("initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-N")
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all,replication postgres 127.0.0.0/8 trust\n")

    def copy(self, primary: Server) -> None:
        """A standby of this one, once it runs."""
        source = f"host={primary.host} port={primary.port} user=postgres"
        self._run("pg_basebackup", "-D", self._data, "-d", source, "-R", "-c", "fast")

    def start(self, **settings: str) -> None:
        """Returns when it answers."""
        settings |= {"listen_addresses": self.host, "unix_socket_directories": "", "fsync": "off"}
        options = f"-p {self.port} " + " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._run("pg_ctl", "-D", self._data, "-l", self._log, "-w", "-o", options, "start")

    def stop(self) -> None:
        """At once, as a crash does."""
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def kill(self) -> None:
        """kill -9, with all that serve its clients: as a machine goes down."""
        postmaster = int((self._data / "postmaster.pid").read_text().split()[0])
        tasks = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in (postmaster, *map(int, tasks)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{postmaster}").exists():
            time.sleep(0.01)
        (self._data / "postmaster.pid").unlink()

    def promote(self) -> None:
        """From now on it is a primary."""
        self._run("pg_ctl", "-D", self._data, "-w", "promote")

    def query(self, sql: str) -> str:
        """What psql prints."""
        return self._run("psql", self.url.replace("postgres:", "postgresql:", 1), "-At", "-c", sql).strip()

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text("utf-8", "replace")

    def follows(self, primary: Server) -> bool:
        """Whether it has all that the primary has."""
        position = primary.query("SELECT pg_current_wal_lsn()")
        return self.query(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == "t"

    def _run(self, command: str, *arguments: object) -> str:
        assert BINARIES is not None
        user: dict[str, object] = (
            {} if os.getuid() else {"user": "postgres", "group": "postgres", "extra_groups": ()}
        )
        done = subprocess.run(
            [BINARIES / command, *map(str, arguments)],
            cwd="/",
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            **user,  # type: ignore[call-overload]
        )
        assert done.returncode == 0, (command, arguments, done.stdout)
        return str(done.stdout)


@contextmanager
def servers(count: int) -> Iterator[list[Server]]:
    """So many that are not started yet; all are stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    made = [Server(folder / str(number)) for number in range(count)]
    try:
        for number in range(count):
            (folder / str(number)).mkdir()
        if os.getuid() == 0:
            for each in (folder, *folder.iterdir()):
                shutil.chown(each, "postgres", "postgres")
        yield made
    finally:
        for server in made:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_follows(standby: Server, primary: Server, seconds: float = 20) -> None:
    """Until the standby has all that the primary has."""
    deadline = time.monotonic() + seconds
    while not standby.follows(primary):
        assert time.monotonic() < deadline
        time.sleep(0.05)
