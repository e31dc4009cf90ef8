"""A system under uvicorn."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import psutil

from . import better_auth
from .databases import SECRET
from .load import Load, Outcome

SETTLING_SECONDS = 3

_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Where bytecode is kept, as that of an installed package is."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]
    first_answer: float
    """Seconds from the start of the process."""

    def memory(self) -> float:
        """MiB of a worker that no other process shares: the mean of the workers."""
        parent = psutil.Process(self.process.pid)
        # With several workers, uvicorn's parent serves nothing; beside them runs a resource tracker.
        children = [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]
        workers = children or [parent]
        return sum(worker.memory_full_info().uss for worker in workers) / len(workers) / 2**20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(app: str, url: str, workers: int = 1, **environment: str) -> Iterator[Server]:
    """Runs an app of `benchmarks.apps`, or better-auth, until the block ends."""
    port = free_port()
    environment |= {"DATABASE_URL": url, "JWT_SECRET": SECRET, "PORT": str(port)}
    command = better_auth.COMMAND if app == better_auth.NAME else _uvicorn(app, port, workers)
    started = time.perf_counter()
    process = subprocess.Popen(command, env=_ENVIRONMENT | environment)
    try:
        while not answers(port):
            if process.poll() is not None:
                raise RuntimeError(f"{app} did not start")
            time.sleep(0.005)
        first_answer = time.perf_counter() - started
        if workers > 1:  # connections that come too early all go to the first worker
            time.sleep(SETTLING_SECONDS)
        yield Server(port, process, first_answer)
    finally:
        process.terminate()
        process.wait()


def _uvicorn(app: str, port: int, workers: int) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", f"benchmarks.apps.{app}:app", "--port", str(port)]
    command += ["--loop", "uvloop", "--http", "httptools", "--workers", str(workers)]
    return [*command, "--no-access-log", "--log-level", "warning"]


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def put_under(*loads: Load) -> list[Outcome]:
    """What came of the loads, which run at once in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps([asdict(load) for load in loads]).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return [Outcome(**each) for each in json.loads(done.stdout)]
