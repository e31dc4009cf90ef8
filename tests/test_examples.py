"""The example apps, started as their first lines say and driven over HTTP."""

from __future__ import annotations

import asyncio
import os
import shutil
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
from .hosts import run_pytest
from .spare import Spare

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


def test_users_have_columns_of_their_own(spare: Spare, tmp_path: Path, mailbox: Mailbox) -> None:
    asyncio.run(spare.create())
    folder = tmp_path / "own_user"
    shutil.copytree(EXAMPLES / "own_user", folder, ignore=shutil.ignore_patterns("__pycache__"))
    port = free_port()
    environment = {
        "DATABASE_URL": spare.url,
        "JWT_SECRET": SECRET,
        "BCRYPT_ROUNDS": "4",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
    }

    def run(*command: str) -> str:
        whole = [sys.executable, "-m", *command]
        result = subprocess.run(
            whole, cwd=folder, env=os.environ | environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    tortoise = ("tortoise", "-c", "settings.TORTOISE_ORM")
    run(*tortoise, "makemigrations")
    run(*tortoise, "migrate")
    assert "No changes" in run(*tortoise, "makemigrations")
    assert "ok    database" in run("fastapi_pluggable_auth", "check", "--config", "settings.TORTOISE_ORM")
    assert "auth_session: 0 deleted" in run(
        "fastapi_pluggable_auth", "purge", "--config", "settings.TORTOISE_ORM"
    )
    base = f"http://127.0.0.1:{port}"
    with running(["uvicorn", "app:app", "--port", str(port), "--log-level", "error"], folder, environment):
        wait_for(base)
        with httpx.Client(base_url=base) as client:
            account = {"email": EMAIL, "password": PASSWORD, "username": "Ada", "city": "London"}
            assert client.post("/auth/signup", json=account).status_code == 201
            mailbox.server.wait_for(1, timeout=20)
            assert client.get(mailbox.link()).status_code == 200
            login = client.post("/auth/login", json={"email": "ADA", "password": PASSWORD})
            client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
            note = client.post("/notes", params={"text": "Hello"})
            assert note.json() == {"text": "Hello", "by": "ada", "from": "London"}
            changed = client.patch("/account", json={"born_on": "1815-12-10", "username": "countess"})
            assert (changed.json()["born_on"], changed.json()["username"]) == ("1815-12-10", "countess")


def test_the_tests_of_the_app_with_its_own_user_pass(tmp_path: Path) -> None:
    folder = tmp_path / "own_user"
    shutil.copytree(EXAMPLES / "own_user", folder, ignore=shutil.ignore_patterns("__pycache__"))
    told = run_pytest(folder)
    assert "4 passed" in told, told


def test_a_host_with_its_own_user_is_typed_in_full(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    folder = tmp_path / "own_user"
    shutil.copytree(EXAMPLES / "own_user", folder, ignore=shutil.ignore_patterns("__pycache__"))
    wrong = folder / "wrong.py"
    wrong.write_text(
        "from app import CurrentUser\n\n\n"
        "def mistaken(user: CurrentUser) -> int:\n    return user.city\n\n\n"
        "def unknown(user: CurrentUser) -> object:\n    return user.town\n"
    )
    command = ["--strict", "--cache-dir", os.devnull, "--config-file", os.devnull]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *command, "app.py", "wrong.py"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    errors = [line for line in result.stdout.splitlines() if "error:" in line]
    assert [error.split(":")[0] for error in errors] == ["wrong.py", "wrong.py"], result.stdout
    assert 'got "str", expected "int"' in errors[0]
    assert '"User" has no attribute "town"' in errors[1]
