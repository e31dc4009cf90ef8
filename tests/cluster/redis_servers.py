"""Redis as it is run where one server is not enough: replicas that Sentinel watches, and a cluster."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..daemons import Daemon, binary, given, none_of, own_folder
from ..live import free_port

MASTER = "limits"
SENTINELS = 3
DOWN_MILLISECONDS = 1000
HIGHEST_PORT = 55535
"""In a cluster, servers talk to each other on their port and ten thousand."""


def missing() -> str | None:
    """What there is not to start one, if anything. A Redis is its own Sentinel."""
    return none_of("redis-server", "redis-cli")


class RedisServer:
    """One of them, in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        while (port := free_port()) > HIGHEST_PORT:
            pass
        self.port, self.socket = port, folder / f"{free_port()}.sock"
        arguments = ["--port", self.port, "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        arguments += ["--unixsocket", self.socket, "--unixsocketperm", "777", *options]
        self._daemon = Daemon(["redis-server", *arguments], self.port, folder / f"{self.port}.log")
        self.kill = self._daemon.kill

    def ask(self, *command: object) -> str:
        """What it answers to a command."""
        return ask(self.port, *command)


def ask(port: int, *command: object) -> str:
    """What the server on this port answers to a command."""
    client = binary("redis-cli")
    assert client
    whole = [client, "-p", str(port), *map(str, command)]
    return subprocess.run(whole, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


@contextmanager
def alone() -> Iterator[RedisServer]:
    """One server."""
    with own_folder("redis-") as folder:
        server = RedisServer(folder)
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def watched() -> Iterator[tuple[RedisServer, RedisServer, list[int]]]:
    """A master and its replica, and the ports of the sentinels that promote it."""
    with own_folder("redis-") as folder, ExitStack() as running:
        master = RedisServer(folder)
        running.callback(master.kill)
        replica = RedisServer(folder, "--replicaof", f"127.0.0.1 {master.port}")
        running.callback(replica.kill)
        ports = [free_port() for _ in range(SENTINELS)]
        for port in ports:
            config = folder / f"sentinel-{port}.conf"
            lines = [f"port {port}", "bind 127.0.0.1", f"dir {folder}"]
            lines += [f"sentinel monitor {MASTER} 127.0.0.1 {master.port} {SENTINELS // 2 + 1}"]
            lines += [f"sentinel down-after-milliseconds {MASTER} {DOWN_MILLISECONDS}"]
            lines += [f"sentinel failover-timeout {MASTER} 10000"]
            config.write_text("\n".join([*lines, ""]))
            sentinel = Daemon(["redis-server", given(config), "--sentinel"], port, folder / f"{port}.log")
            running.callback(sentinel.kill)
        for port in ports:
            wait_for(port, f"num-other-sentinels\n{SENTINELS - 1}", "sentinel", "master", MASTER)
            wait_for(port, "num-slaves\n1", "sentinel", "master", MASTER)
        wait_for(master.port, "state=online", "info", "replication")
        yield master, replica, ports


@contextmanager
def clustered() -> Iterator[list[RedisServer]]:
    """Three masters, which share the keys out."""
    with own_folder("redis-") as folder, ExitStack() as running:
        servers = []
        for number in range(3):
            own = f"nodes-{number}.conf"
            server = RedisServer(folder, "--cluster-enabled", "yes", "--cluster-config-file", own)
            running.callback(server.kill)
            servers.append(server)
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        ask(servers[0].port, "--cluster", "create", *addresses, "--cluster-yes")
        for server in servers:
            wait_for(server.port, "cluster_state:ok", "cluster", "info")
        yield servers


def wait_for(port: int, answer: str, *command: str) -> None:
    """Until the answer of a server has this in it."""
    deadline = time.monotonic() + 60
    while answer not in (told := ask(port, *command)):
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
