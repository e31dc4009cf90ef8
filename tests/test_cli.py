"""The demo, as a newcomer starts it."""

from __future__ import annotations

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

from .conftest import EMAIL, PASSWORD
from .form_browser import BROWSER, Page


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
