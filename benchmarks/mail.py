"""How long a signup takes while the mail server is alive, dead or silent: `python benchmarks/mail.py`.

Needs the `test` extra. Three servers (uvicorn, one worker, SQLite, bcrypt at its lowest cost) take turns,
each on one connection, so that a response that waited for a mail would hold up the next one. Between two
signups is a pause in which the mail can leave: on two cores, sending it slows a signup beside it down.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from fastapi import FastAPI
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import include_auth

ROUNDS, SIGNUPS, PAUSE_SECONDS = 10, 40, 0.05


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    models = {"models": ["fastapi_pluggable_auth.models"]}
    async with RegisterTortoise(
        app, db_url=os.environ["DATABASE_URL"], modules=models, generate_schemas=True
    ):
        yield


def app() -> FastAPI:
    """What each of the servers serves."""
    host = FastAPI(lifespan=lifespan)
    include_auth(host)
    return host


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, smtp_port: int) -> Iterator[str]:
    """Gives the base URL."""
    port = free_port()
    environment = os.environ | {
        "DATABASE_URL": f"sqlite://{folder / f'{port}.sqlite3'}",
        "AUTH_SMTP_HOST": "127.0.0.1",
        "AUTH_SMTP_PORT": str(smtp_port),
        "AUTH_BCRYPT_ROUNDS": "4",
    }
    command = [sys.executable, "-m", "uvicorn", "mail:app", "--factory", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--log-level", "critical"],
        cwd=Path(__file__).parent,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(base)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Prints the medians in milliseconds, and their ratio to that of a living mail server."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        alive = Controller(Sink(), hostname="127.0.0.1", port=free_port())
        alive.start()
        stack.callback(alive.stop)
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        ports = {"alive": alive.port, "dead": free_port(), "silent": silent.getsockname()[1]}
        clients = {
            name: stack.enter_context(
                httpx.Client(base_url=stack.enter_context(server(folder, port)), timeout=60)
            )
            for name, port in ports.items()
        }
        times: dict[str, list[float]] = {name: [] for name in ports}
        for turn in range(ROUNDS):
            for name, client in clients.items():
                for number in range(SIGNUPS):
                    account = {"email": f"u{turn}-{number}@example.com", "password": "correct horse battery"}
                    begun = time.perf_counter()
                    client.post("/auth/signup", json=account).raise_for_status()
                    times[name].append((time.perf_counter() - begun) * 1000)
                    time.sleep(PAUSE_SECONDS)
        reference = statistics.median(times["alive"])
        for name, taken in times.items():
            median, worst = statistics.median(taken), max(taken)
            print(f"{name:<7} median {median:6.1f} ms  {median / reference:5.2f}  longest {worst:7.1f} ms")


if __name__ == "__main__":
    main()
