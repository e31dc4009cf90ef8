"""An app under a real server, in this process or in one of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI
from uvicorn.config import WSProtocolType

LIFETIME = 180.0
"""Seconds after which a process is killed, whatever its test does."""


@contextmanager
def serving(app: FastAPI, ws: WSProtocolType = "none", port: int = 0) -> Iterator[str]:
    """The app under uvicorn in a thread; gives its base URL. `ws` implements WebSockets."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws=ws))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(url: str) -> httpx.Response | None:
    """The answer of a server that may be starting. Certificates, which it needs not, take 20 ms to read."""
    try:
        return httpx.get(url, verify=False)  # noqa: S501
    except httpx.TransportError:
        return None


class Process:
    """A command in a folder, as a process group of its own. What it prints goes into a file."""

    def __init__(
        self,
        command: list[str],
        folder: Path,
        environment: Mapping[str, str],
        log: Path,
        python: str | Path = sys.executable,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [python, "-m", *command],
                cwd=folder,
                env=os.environ | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._limit = threading.Timer(LIFETIME, self.kill)
        self._limit.start()

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text("utf-8", "replace")

    def wait_for(self, url: str, seconds: float = 30) -> None:
        """Until something answers there."""
        deadline = time.monotonic() + seconds
        while asked(url) is None:
            assert self._process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, with all its children."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """As a deployment does: asks first."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
            raise
        finally:
            self._limit.cancel()


@contextmanager
def running(
    command: list[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    python: str | Path = sys.executable,
) -> Iterator[Process]:
    """A process that is ended at the end."""
    process = Process(command, folder, environment, log, python)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def served(
    folder: Path, environment: Mapping[str, str], log: Path, app: str = "app:app", port: int | None = None
) -> Iterator[tuple[str, Process]]:
    """An app of that folder under uvicorn, in a process of its own; gives its base URL once it answers."""
    port = port or free_port()
    command = ["uvicorn", app, "--port", str(port), "--log-level", "error"]
    with running(command, folder, environment, log) as process:
        base = f"http://127.0.0.1:{port}"
        process.wait_for(base)
        yield base, process
