"""The example apps, started as their first lines say and driven over HTTP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, Mailbox

EXAMPLES = Path(__file__).parent.parent / "examples"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A process that is ended at the end."""
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=folder, env=os.environ | environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.skipif(not databases.answers("redis"), reason="no redis server answers")
def test_mails_leave_through_a_task_queue(tmp_path: Path, mailbox: Mailbox) -> None:
    port = free_port()
    environment = {
        "DATABASE_URL": f"sqlite://{tmp_path / 'app.sqlite3'}",
        "REDIS_URL": databases.REDIS_URL,
        "JWT_SECRET": SECRET,
        "BCRYPT_ROUNDS": "4",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
    }
    folder = EXAMPLES / "task_queue"
    base = f"http://127.0.0.1:{port}"
    with running(["uvicorn", "app:app", "--port", str(port), "--log-level", "error"], folder, environment):
        wait_for(base)
        for number in range(5):
            account = {"email": f"{number}@example.com", "password": PASSWORD}
            assert httpx.post(f"{base}/auth/signup", json=account).status_code == 201
        time.sleep(0.5)
        assert mailbox.messages == []  # nobody but the worker sends
        with running(["taskiq", "worker", "app:broker", "--workers", "1"], folder, environment):
            mailbox.server.wait_for(5, timeout=20)
            account = {"email": EMAIL, "password": PASSWORD}
            assert httpx.post(f"{base}/auth/signup", json=account).status_code == 201
            mailbox.server.wait_for(6, timeout=20)
    assert sorted(message["To"] for message in mailbox.messages) == sorted(
        [EMAIL, *(f"{number}@example.com" for number in range(5))]
    )
