"""The demo, as a newcomer starts it."""

from __future__ import annotations

import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.demo import FEATURES, demo_app
from fastapi_pluggable_auth.features.always import ALWAYS
from fastapi_pluggable_auth.features.passkeys.testing import SoftwareAuthenticator
from fastapi_pluggable_auth.features.shipped import SHIPPED

from .conftest import EMAIL, PASSWORD
from .form_browser import BROWSER, Page


def test_the_demo_without_uvicorn_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["demo"]) == 1
    assert "fastapi-pluggable-auth[demo]" in capsys.readouterr().err


def test_the_demo_without_fido2_says_what_to_install(tmp_path: Path) -> None:
    work = (
        "import sys; sys.modules['fido2'] = None; from fastapi_pluggable_auth.cli import main;"
        "sys.exit(main(['demo', '--port', '0']))"
    )
    command = [sys.executable, "-c", work]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "The demo needs fido2: pip install 'fastapi-pluggable-auth[demo]'\n",
    )


def test_the_demo_starts_on_any_address(tmp_path: Path) -> None:
    """Where others reach it, they read no mails; and an address has no passkeys."""
    app = demo_app(tmp_path / "demo.sqlite3", "http://192.168.0.9:8000")
    assert not app.state.pluggable_auth.settings.dev_mailbox
    assert "passkeys" not in app.state.pluggable_auth.features


class Demo:
    """The demo as a user starts it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "fastapi_pluggable_auth", "demo", *options]
        with (folder / "printed.txt").open("w") as output:
            self.process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)

    @property
    def printed(self) -> str:
        return (self.folder / "printed.txt").read_text()

    def base(self) -> str:
        """The address, once it is printed."""
        for _ in range(2400):
            if found := re.search(r"^  (http://\S+)/ ", self.printed, re.MULTILINE):
                return found[1]
            assert self.process.poll() is None, self.printed
            time.sleep(0.05)
        raise AssertionError(self.printed)

    def stopped(self) -> int:
        """Its exit status after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path, "--port", "0")
    try:
        yield demo
    finally:
        demo.process.kill()
        demo.process.wait(60)


def test_the_demo_can_be_walked_through(demo: Demo, tmp_path: Path) -> None:
    base = demo.base()
    credentials = {"email": EMAIL, "password": PASSWORD}
    with httpx.Client(base_url=base, timeout=60) as client:
        home = Page(client.get("/", headers=BROWSER))
        assert {link: client.get(link, headers=BROWSER).status_code for link in home.links} == {
            **dict.fromkeys(("/account/sign-up", "/account/sign-in", "/account/forgot-password"), 200),
            "/account/sign-in/mail": 200,
            **dict.fromkeys(("/account/profile", "/account/security", "/account/security/activity"), 303),
            **dict.fromkeys(("/account/security/tokens", "/account/invite"), 303),
            **dict.fromkeys(("/dev/mailbox", "/docs"), 200),
            **dict.fromkeys(("/hello", "/reports", "/notes"), 401),
            **dict.fromkeys(("/admin/users", "/admin/activity"), 401),
        }
        assert "swagger" in client.get("/docs").text
        scheme = client.get("/openapi.json").json()["components"]["securitySchemes"]["Auth-AccessToken"]
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
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
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get("/hello").json() == {"message": f"Hello {EMAIL}!"}
        assert client.get("/reports").status_code == 403
        assert f"Signed in as {EMAIL}" in client.get("/").text
        made = client.post("/account/tokens", json={"name": "script", "scopes": ["notes:read"]})
        program = {"Authorization": f"Bearer {made.json()['token']}"}
        assert client.get("/notes", headers=program).json() == {"message": f"Notes of {EMAIL}"}
        assert client.post("/auth/2fa/enable").status_code == 200
        assert "signup" in client.get("/account/activity").text
    for address in ("/docs", "/dev/mailbox"):
        assert f"{base}{address}" in demo.printed
    assert (tmp_path / "pluggable-auth-demo.sqlite3").exists()
    assert demo.stopped() == 0
    assert "Traceback" not in demo.printed


def test_the_demo_has_an_administrator_with_a_new_password_at_each_start(tmp_path: Path) -> None:
    passwords = set()
    for _ in range(2):
        demo = Demo(tmp_path, "--port", "0")
        try:
            with httpx.Client(base_url=demo.base(), timeout=60) as client:
                printed = re.search(r"Sign in as (\S+) with the password (\S+)", demo.printed)
                assert printed is not None
                passwords.add(printed[2])
                credentials = {"email": printed[1], "password": printed[2]}
                token = client.post("/auth/login", json=credentials).json()["access_token"]
                client.headers["Authorization"] = f"Bearer {token}"
                (user,) = client.get("/admin/users").json()["users"]
                assert (user["email"], user["roles"]) == (printed[1], ["editor", "support"])
                assert client.get("/reports").status_code == 200
                assert "login" in client.get("/admin/activity").text
        finally:
            demo.stopped()
    assert len(passwords) == 2


def test_a_passkey_signs_in_to_the_demo(demo: Demo) -> None:
    base = demo.base()
    printed = re.search(r"Sign in as (\S+) with the password (\S+)", demo.printed)
    assert printed
    login = {"email": printed[1], "password": printed[2]}
    phone = SoftwareAuthenticator(base)
    with httpx.Client(base_url=base, timeout=60) as client:
        tokens = client.post("/auth/login", json=login).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        options = client.post("/account/passkeys/options", headers=headers).json()
        body = {"credential": phone.create(options)}
        assert client.post("/account/passkeys", json=body, headers=headers).status_code == 201
        body = {"credential": phone.get(client.post("/auth/passkey/options").json())}
        assert client.post("/auth/passkey/login", json=body).status_code == 200


ELSEWHERE = {"bot_check", "social_login"}
"""What needs somebody else, who is not there."""


def test_the_demo_has_every_feature_of_the_package() -> None:
    assert {feature.name for feature in (*FEATURES, *ALWAYS)} == {
        feature.name for feature in SHIPPED
    } - ELSEWHERE


def test_a_taken_port_is_said_in_one_sentence_before_anything_is_done(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        demo = Demo(tmp_path, "--port", str(port))
        assert demo.process.wait(120) == 1
    assert demo.printed == (
        f"Port {port} of 127.0.0.1 is taken: stop what listens there, or pass another --port.\n"
    )
    assert not (tmp_path / "pluggable-auth-demo.sqlite3").exists()


def test_an_address_that_there_is_not_is_said_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--host", "nowhere.invalid"]) == 1
    assert capsys.readouterr().err == (
        "There is no listening on port 8000 of nowhere.invalid: pass another --host or --port.\n"
    )


def test_a_database_of_another_version_is_said_in_one_sentence(tmp_path: Path) -> None:
    database = tmp_path / "pluggable-auth-demo.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute('CREATE TABLE "user" (id TEXT PRIMARY KEY, email TEXT)')
    demo = Demo(tmp_path, "--port", "0")
    assert demo.process.wait(120) == 1
    assert demo.printed == (
        "pluggable-auth-demo.sqlite3 is not of this version of the demo: delete it, or start elsewhere.\n"
    )
