"""haproxy, which leads each connection to the first server that lives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..daemons import Daemon, given, own_folder
from ..live import free_port


@contextmanager
def haproxy(*choices: Sequence[str], check: str = "option tcp-check") -> Iterator[list[int]]:
    """For each row of addresses of servers, a port that leads to the first of them, to the second while that
    one is down, and so on. Connections to a server that went down are cut."""
    ports = [free_port() for _ in choices]
    lines = ["defaults", "mode tcp", "timeout connect 2s", "timeout client 1m", "timeout server 1m", check]
    lines.append("default-server inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions")
    for port, row in zip(ports, choices, strict=True):
        lines += [f"listen from{port}", f"bind 127.0.0.1:{port}"]
        for place, server in enumerate(row):
            lines.append(f"server s{place} {server} check{' backup' if place else ''}")
    with own_folder("haproxy-") as folder:
        config = folder / "haproxy.cfg"
        config.write_text("\n".join([*lines, ""]))
        daemon = Daemon(["haproxy", "-db", "-f", given(config)], ports[0], folder / "log")
        try:
            yield ports
        finally:
            daemon.kill()
