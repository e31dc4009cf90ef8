"""A Galera cluster: MariaDB on several nodes, each of which takes writes."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..daemons import Daemon, binary, given, given_folder, none_of, own_folder, run
from ..live import free_port

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")
SMALL_LOG = "--innodb-log-file-size=16M"


def missing() -> str | None:
    """What there is not to start one, if anything."""
    return none_of("mariadbd", "mariadb-install-db") or (
        None if PROVIDER.exists() else "not installed: galera-4"
    )


class Node:
    """One of the servers, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, self.group_port, self.transfer_port = free_port(), free_port(), free_port()
        self._daemon: Daemon | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Its database with the tables."""
        return f"mysql://root@{self.address}/app"

    def create(self) -> None:
        """Fills the folder."""
        given_folder(self._folder)
        install = ("--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", SMALL_LOG)
        run("mariadb-install-db", *install, f"--datadir={self._folder / 'data'}", seconds=240)

    def copy(self, other: Node) -> None:
        """Fills it with what another node has, which is stopped."""
        own = shutil.ignore_patterns("gvwstate.dat", "galera.cache")  # who it is, and where it was
        shutil.copytree(other._folder / "data", given_folder(self._folder) / "data", ignore=own)
        for path in (self._folder / "data", *(self._folder / "data").rglob("*")):
            given(path)

    def start(self, members: str) -> None:
        """Founds the cluster, where it has no members, or joins it."""
        provider = f"gmcast.listen_addr=tcp://127.0.0.1:{self.group_port};base_host=127.0.0.1;"
        provider += f"base_port={self.group_port};ist.recv_addr=127.0.0.1:{self.transfer_port};"
        provider += "gcache.size=16M;pc.recovery=false"
        options = {
            "datadir": self._folder / "data",
            "port": self.port,
            "bind-address": "127.0.0.1",
            "socket": self._folder / "socket",
            "pid-file": self._folder / "pid",
            "skip-name-resolve": 1,
            "innodb-buffer-pool-size": "64M",
            "innodb-flush-log-at-trx-commit": 0,  # for speed and not for keeps
            "innodb-autoinc-lock-mode": 2,
            "binlog-format": "ROW",
            "wsrep-on": 1,
            "wsrep-provider": PROVIDER,
            "wsrep-provider-options": provider,
            "wsrep-cluster-address": f"gcomm://{members}",
            "wsrep-node-address": f"127.0.0.1:{self.group_port}",
            "wsrep-sync-wait": 7,  # as docs/production.md has it
            "max-connections": 200,
        }
        arguments = [SMALL_LOG, *(f"--{name}={value}" for name, value in options.items())]
        command: list[object] = ["mariadbd", "--no-defaults", *arguments]
        self._daemon = Daemon(command, self.port, self._folder / "log", seconds=120)

    def stop(self) -> None:
        """As it is to be stopped: it keeps its place in what was written."""
        if self._daemon is not None:
            self._daemon.stop(120)
            self._daemon = None

    def kill(self) -> None:
        """kill -9."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon = None

    def query(self, sql: str) -> str:
        """What the client prints, without names."""
        client = binary("mariadb")
        assert client
        command = [client, "--no-defaults", "-uroot", "-h127.0.0.1", f"-P{self.port}", "-N", "-B", "-e", sql]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@contextmanager
def cluster(size: int) -> Iterator[list[Node]]:
    """So many nodes that have found each other. All begin with the same data, so that none has to copy it."""
    with own_folder("galera-") as folder:
        nodes = [Node(folder / str(number)) for number in range(size)]
        first, others = nodes[0], nodes[1:]
        try:
            first.create()
            first.start("")
            first.stop()
            for node in others:
                node.copy(first)
            members = ""
            for node in nodes:
                node.start(members)
                members += f"{',' if members else ''}127.0.0.1:{node.group_port}"
            for node in nodes:
                wait_until(node, size)
            yield nodes
        finally:
            for node in nodes:
                node.kill()


def wait_until(node: Node, size: int, seconds: float = 120) -> None:
    """Until this node works in a cluster of so many."""
    wanted = {f"wsrep_cluster_size\t{size}", "wsrep_local_state_comment\tSynced"}
    deadline = time.monotonic() + seconds
    while not wanted <= (told := set(node.query("SHOW STATUS LIKE 'wsrep%'").splitlines())):
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
