"""The command line: the demo and the check."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.demo import demo_app

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, Database, Mailbox
from .form_browser import BROWSER, Page
from .smtp_server import MailServer


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mailbox: Mailbox) -> pytest.MonkeyPatch:
    """A safe production environment, apart from what a test changes."""
    monkeypatch.chdir(tmp_path)
    safe = {
        "JWT_SECRET": SECRET,
        "PUBLIC_BASE_URL": "https://app.example.com",
        "EMAIL_FROM": "no-reply@app.example.com",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
        "DATABASE_URL": f"sqlite://{tmp_path / 'app.sqlite3'}",
    }
    asyncio.run(databases.create(safe["DATABASE_URL"], "sqlite"))
    for name, value in safe.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_check_passes_a_safe_set_up(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr().out.count("ok  ") == 4


def test_check_recommends_that_no_get_verifies_and_fails_for_nothing_else(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    assert "note  AUTH_VERIFY_BY_GET: set it to false" in capsys.readouterr().out
    environment.setenv("AUTH_VERIFY_BY_GET", "false")
    environment.setenv("AUTH_VERIFY_BY_GET", "false")
    assert main(["check"]) == 0
    assert "VERIFY_BY_GET" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("JWT_SECRET", "CHANGE_ME", "AUTH_JWT_SECRET: AUTH_JWT_SECRET still is the placeholder"),
        ("JWT_SECRET", "short", "shorter than 32 bytes"),
        ("PUBLIC_BASE_URL", "http://app.example.com", "not https"),
        ("EMAIL_FROM", "no-reply@example.com", "EMAIL_FROM still is the placeholder"),
        ("EMAIL_PROVIDER", "console", "EMAIL_PROVIDER=console sends no mail"),
        ("EMAIL_PROVIDER", "sendgrid", "SENDGRID_API_KEY"),
        ("EMAIL_PROVIDER", "pigeon", "EMAIL_PROVIDER: Input should be"),
        ("SMTP_PORT", "1", "mail: "),
        ("AUTH_SMTP_SECURITY", "starttls", "mail: "),
        ("SMTP_HOST", "mail.invalid", "in the clear"),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none", "No database answers at 127.0.0.1:1"),
        ("DATABASE_URL", "mysql://nobody@127.0.0.1:1/none", "No database answers at 127.0.0.1:1"),
        ("DATABASE_URL", "sqlite:///nowhere/at/all.sqlite3", "There is no file /nowhere/at/all"),
        ("DATABASE_URL", "gibberish", "neither a database URL"),
        ("DATABASE_URL", "sqlite://:memory:", "The table of User is missing or old: run `tortoise migrate`"),
        ("DATABASE_URL", None, "set DATABASE_URL"),
    ],
)
def test_check_names_what_is_wrong_and_fails(
    name: str,
    value: str | None,
    complaint: str,
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment.delenv(name, raising=False)
    if complaint == "in the clear":
        environment.setenv("SMTP_USER", "app")
        environment.setenv("SMTP_PORT", "25")
    if value is not None:
        environment.setenv(name, value)
    assert main(["check"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert complaint in line


@pytest.mark.parametrize("folder", ["shop.migrations", "fastapi_pluggable_auth.migrations", None])
def test_check_says_where_migrations_of_the_host_would_delete_rows(
    folder: str | None,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = f"sqlite://{tmp_path / 'own.sqlite3'}"
    asyncio.run(databases.create(url, "sqlite", "tests.own_tables", "shop"))
    named = {} if folder is None else {"migrations": folder}
    config = databases.config(url, "own check", "shop", "tests.own_tables", **named)
    module = f"settings_of_{str(folder)[:4]}"
    (tmp_path / f"{module}.py").write_text(f"TORTOISE_ORM = {config!r}")
    environment.syspath_prepend(str(tmp_path))
    assert main(["check", "--config", f"{module}.TORTOISE_ORM"]) == 0
    said = "note  migrations: shop.migrations alters these tables. On SQLite, migrate with ?foreign_keys=OFF"
    assert (said in capsys.readouterr().out) == (folder == "shop.migrations")


def test_check_tries_the_smtp_login(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with MailServer(login=("app", "right"), tls="starttls") as server:
        settings = {"SMTP_PORT": server.port, "SMTP_USER": "app", "AUTH_SMTP_CA_FILE": server.ca_file}
        for name, value in settings.items():
            environment.setenv(name, str(value))
        environment.setenv("SMTP_PASSWORD", "wrong")
        assert main(["check"]) == 1
        assert "wrong" not in capsys.readouterr().out
        environment.setenv("SMTP_PASSWORD", "right")
        assert main(["check"]) == 0
        assert server.messages == []


def test_check_reaches_each_database(environment: pytest.MonkeyPatch, database: Database) -> None:
    environment.setenv("DATABASE_URL", database.url)
    assert main(["check"]) == 0


def test_the_demo_without_uvicorn_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["demo"]) == 1
    assert "fastapi-pluggable-auth[demo]" in capsys.readouterr().err


def test_the_demo_starts_on_any_address(tmp_path: Path) -> None:
    """Where others reach it, they read no mails."""
    app = demo_app(tmp_path / "demo.sqlite3", "http://192.168.0.9:8000")
    assert not app.state.pluggable_auth.settings.dev_mailbox


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The demo as a user starts it: its address, and the file with what it prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    printed = tmp_path / "printed.txt"
    with printed.open("w") as output:
        command = [sys.executable, "-m", "fastapi_pluggable_auth", "demo", "--port", str(port)]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output, env=dict(os.environ))
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(base)
                break
            except httpx.TransportError:
                assert process.poll() is None, printed.read_text()
                time.sleep(0.05)
        yield base, printed
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)


def test_the_demo_can_be_walked_through(demo: tuple[str, Path], tmp_path: Path) -> None:
    base, printed = demo
    credentials = {"email": EMAIL, "password": PASSWORD}
    with httpx.Client(base_url=base, timeout=30) as client:
        assert client.get("/").headers["location"] == "/account/profile"
        assert "Sign in" in client.get("/", headers=BROWSER, follow_redirects=True).text
        assert "swagger" in client.get("/docs").text
        scheme = client.get("/openapi.json").json()["components"]["securitySchemes"]["Auth-AccessToken"]
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
        assert client.get("/hello").status_code == 401
        assert client.post("/auth/signup", json=credentials).status_code == 201
        for _ in range(200):
            mails = client.get("/dev/mailbox/1", headers=BROWSER)
            if mails.status_code == 200:
                break
            time.sleep(0.05)
        (link,) = [link for link in Page(mails).links if "/auth/verify/" in link]
        assert link.startswith(base)
        assert client.get(link).status_code == 200
        token = client.post("/auth/login", json=credentials).json()["access_token"]
        hello = client.get("/hello", headers={"Authorization": f"Bearer {token}"})
        assert hello.json() == {"message": f"Hello {EMAIL}!"}
    for address in ("/docs", "/dev/mailbox"):
        assert f"{base}{address}" in printed.read_text()
    assert (tmp_path / "pluggable-auth-demo.sqlite3").exists()
