"""An app of 0.1.4 itself, from the package index, in an environment of its own: it serves, its users come and
go, and it is upgraded by the steps of docs/from-0.1.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from fastapi import FastAPI

import fastapi_pluggable_auth
from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.models import User

from . import databases
from .conftest import PASSWORD, SECRET, Clock, Mailbox
from .live import free_port, running
from .smtp_server import link_in
from .spare_database import SpareDatabase

pytestmark = pytest.mark.full

NEW = "another good password"
LONG = "correct horse battery staple, ten times over, " * 2 + "and a bit"
assert len(LONG) > 100

SETTINGS = """
def config(url, *models):
    return {{
        "connections": {{"default": url}},
        "apps": {{"models": {{"models": [*models], "default_connection": "default"}}}},
    }}

TORTOISE_ORM = config({url!r}, "fastapi_pluggable_auth.models", "notes"{more})
"""
NOTES = """
from tortoise import Model, fields


class Note(Model):
    id = fields.IntField(primary_key=True)
    text = fields.CharField(40)
    owner = fields.ForeignKeyField({user!r})
"""
APP = """
from fastapi import Depends, FastAPI
from fastapi_pluggable_auth import include_auth
from fastapi_pluggable_auth.dependencies import get_current_user
from tortoise.contrib.fastapi import register_tortoise

from notes import Note
from settings import TORTOISE_ORM

app = FastAPI()
include_auth(app)
register_tortoise(app, config=TORTOISE_ORM, generate_schemas={generate})


@app.post("/notes")
async def add(user=Depends(get_current_user)):
    await Note.create(text=user.email, owner=user)
"""
UPGRADED = """
TORTOISE_ORM = {{
    "connections": {{"default": {url!r}}},
    "apps": {{
        {label!r}: {{
            "models": ["fastapi_pluggable_auth.models"],
            "migrations": "fastapi_pluggable_auth.migrations",
        }},
        "app": {{"models": ["notes"], "migrations": "own_migrations"}},
    }},
}}
"""


@pytest.fixture(scope="session")
def python_0_1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with 0.1.4 and what it ran with: 0.1 asks for 3.13 and works on any. bcrypt 5 breaks it."""
    folder = tmp_path_factory.mktemp("of-0-1")
    found = [*Path("~/.pyenv/versions").expanduser().glob("3.13*/bin/python3.13"), shutil.which("python3.13")]
    base = next((str(each) for each in found if each and _runs(str(each))), sys.executable)
    subprocess.run([base, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    packages = ["fastapi-pluggable-auth==0.1.4", "bcrypt<5", "asyncmy", "uvicorn", "httpx", "aerich[toml]"]
    command = [python, "-m", "pip", "install", "--quiet", "--ignore-requires-python", *packages]
    subprocess.run(command, check=True, timeout=400)
    return python


def _runs(python: str) -> bool:
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


@dataclass
class Before:
    """What the clients and mailboxes of an app of 0.1 have, when it is stopped."""

    refresh: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    totp: str = ""


def of_0_1(folder: Path, url: str, mailbox: Mailbox, python: Path, *, aerich: bool) -> Before:
    """Serves the app of 0.1 in this folder, and uses it."""
    more = ', "aerich.models"' if aerich else ""
    (folder / "settings.py").write_text(SETTINGS.format(url=url, more=more))
    (folder / "notes.py").write_text(NOTES.format(user="models.User"))
    (folder / "app.py").write_text(APP.format(generate=not aerich))
    (folder / ".env").write_text(
        f'JWT_SECRET="{SECRET}"\nDATABASE_URL=postgres://x:x@localhost/x\nPUBLIC_BASE_URL="http://localhost:8000"\n'
        f'SMTP_HOST="127.0.0.1"\nSMTP_PORT={mailbox.server.port}\nSOMETHING_ELSE=1\n'
    )
    environment = {"PYTHONPATH": str(folder)}
    if aerich:
        for step in (["init", "-t", "settings.TORTOISE_ORM"], ["init-db"]):
            command = [python.parent / "aerich", *step]
            subprocess.run(command, check=True, cwd=folder, env=os.environ | environment, capture_output=True)
    port = free_port()
    command = ["uvicorn", "app:app", "--port", str(port), "--log-level", "error"]
    with running(command, folder, environment, folder / "0.1.log", python) as process:
        process.wait_for(f"http://127.0.0.1:{port}/docs")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            return _used(client, mailbox)


def _used(client: httpx.Client, mailbox: Mailbox) -> Before:
    before = Before()

    def done(answer: httpx.Response) -> Any:
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def mailed(kind: str) -> str:
        link = link_in(mailbox.server.wait_for(1)[-1])
        mailbox.clear()
        assert kind in link
        return link

    def sign_up(name: str, password: str = PASSWORD) -> str:
        done(client.post("/auth/signup", json={"email": f"{name}@Example.com", "password": password}))
        return mailed("/auth/verify/")

    def log_in(name: str, password: str = PASSWORD) -> dict[str, str]:
        body = {"email": f"{name}@example.com", "password": password}
        pair: dict[str, str] = done(client.post("/auth/login", json=body))
        before.refresh[name] = pair["refresh_token"]
        headers = {"Authorization": f"Bearer {pair['access_token']}"}
        done(client.post("/notes", headers=headers))
        return headers

    for name, password in (("Long", LONG), ("coded", PASSWORD), ("gone", PASSWORD), ("moved", PASSWORD)):
        done(client.get(httpx.URL(sign_up(name, password)).path))
    log_in("long", LONG)
    coded = log_in("coded")
    uri = done(client.post("/auth/2fa/enable", headers=coded))["otpauth_uri"]
    before.totp = pyotp.parse_uri(uri).secret
    done(client.post("/auth/2fa/verify", params={"code": pyotp.TOTP(before.totp).now()}, headers=coded))
    done(client.post("/auth/logout", headers=log_in("gone")))
    moved = log_in("moved")
    done(client.patch("/account", json={"email": "moved@example.org", "display_name": "Ada"}, headers=moved))
    before.links["moved"] = mailed("//auth/verify/")
    before.links["new"] = sign_up("new")
    done(client.post("/auth/forgot-password", params={"email": "long@example.com"}))
    before.links["long"] = mailed("//auth/reset-password/")
    return before


def upgrade(folder: Path, label: str, environment: dict[str, str]) -> None:
    """The steps of the page, word for word but for the label."""
    page = (Path(__file__).parent.parent / "docs" / "from-0.1.md").read_text("utf-8")
    (steps,) = [block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "--fake auth" in block]
    for line in steps.splitlines():
        if line.startswith("tortoise"):
            command = [sys.executable, "-m", *line.replace(" auth", f" {label}").split()]
            result = subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True)
            assert result.returncode == 0, (
                line,
                result.stdout.decode()[-2000:],
                result.stderr.decode()[-2000:],
            )


def foreign(site: Path) -> list[Path]:
    """Migrations in the package that are not its own."""
    own = {each.name for each in (Path(fastapi_pluggable_auth.__file__).parent / "migrations").glob("0*.py")}
    return [each for each in site.glob("fastapi_pluggable_auth/migrations/0*.py") if each.name not in own]


@asynccontextmanager
async def today(folder: Path, spare: SpareDatabase, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    """Today's app on its database, with its `.env`."""
    settings = AuthSettings(_env_file=folder / ".env", bcrypt_rounds=4)
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock)
    transport = httpx.ASGITransport(app)
    async with spare.opened(), httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client
        await auth.close()


@pytest.mark.parametrize(
    ("spare", "way"),
    # The others differ from the first by the files of the app alone.
    [*((dialect, "split") for dialect in databases.DIALECTS), ("sqlite", "one label"), ("sqlite", "aerich")],
    indirect=["spare"],
)
async def test_an_app_of_0_1_goes_on_after_the_upgrade(
    way: str, spare: SpareDatabase, python_0_1: Path, tmp_path: Path, mailbox: Mailbox, clock: Clock
) -> None:
    """Passwords, sessions, links on their way, two-factor, rows of the app, `.env`: nobody notices."""
    folder = tmp_path / "app"
    folder.mkdir()
    await spare.create()
    before = of_0_1(folder, spare.url, mailbox, python_0_1, aerich=way == "aerich")

    label = "models" if way == "one label" else "auth"
    # A copy of the package, as what is tried here writes into it.
    shutil.copytree(
        Path(fastapi_pluggable_auth.__file__).parent, tmp_path / "site" / "fastapi_pluggable_auth"
    )
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(folder), *sys.path])}
    if way == "one label":
        command = [sys.executable, "-m", "tortoise", "-c", "settings.TORTOISE_ORM", "makemigrations"]
        subprocess.run(command, check=True, cwd=folder, env=os.environ | environment, capture_output=True)
        (written,) = foreign(tmp_path / "site")
        written.unlink()  # as the page says
    (folder / "settings.py").write_text(UPGRADED.format(url=spare.url, label=label))
    (folder / "notes.py").write_text(NOTES.format(user=f"{label}.User"))
    upgrade(folder, label, environment)
    assert not foreign(tmp_path / "site")
    assert (await spare.query("SELECT COUNT(*) AS n FROM note"))[0]["n"] == 4

    async with today(folder, spare, clock) as client:
        await everything_goes_on(client, before, mailbox)


async def everything_goes_on(client: httpx.AsyncClient, before: Before, mailbox: Mailbox) -> None:
    async def log_in(email: str, password: str = PASSWORD, **more: str) -> httpx.Response:
        body = {"email": email, "password": password, **more}
        return await client.post("/auth/login", json=body)

    # Sessions.
    for name, status in {"long": 200, "coded": 200, "moved": 200, "gone": 401}.items():
        answer = await client.post("/auth/refresh", json={"token": before.refresh[name]})
        assert answer.status_code == status, name
        if status == 200:
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            me = (await client.get("/auth/me", headers=headers)).json()
            assert me["email"] == ("moved@example.org" if name == "moved" else f"{name}@example.com")
            assert me["display_name"] == ("Ada" if name == "moved" else None)
        again = await client.post("/auth/refresh", json={"token": before.refresh[name]})
        assert again.status_code == 401

    # Passwords; of one over 72 bytes all counts after its first login.
    assert (await log_in("gone@example.com")).status_code == 200
    assert (await User.get(email="long@example.com")).hashed_password.startswith("$2b$")
    assert (await log_in("long@example.com", LONG)).status_code == 200
    assert (await log_in("long@example.com", LONG[:-1])).status_code == 401
    assert (await log_in("long@example.com", LONG)).status_code == 200

    # Two-factor.
    assert (await log_in("coded@example.com")).json()["code"] == "two_factor_required"
    code = pyotp.TOTP(before.totp).now()
    assert (await log_in("coded@example.com", code=code)).status_code == 200

    # Links, as they stand in the mails.
    for name, email in (("new", "new@example.com"), ("moved", "moved@example.org")):
        assert (await log_in(email)).status_code == 401
        link = await client.get(path_of(before.links[name]), follow_redirects=True)
        assert link.status_code == 200, (name, before.links, link.url)
        assert (await client.get(path_of(before.links[name]), follow_redirects=True)).status_code == 400
        assert (await log_in(email)).status_code == 200
    browser = {"Accept": "text/html", "User-Agent": "Mozilla/5.0"}
    page = await client.get(path_of(before.links["long"]), headers=browser, follow_redirects=True)
    assert (page.status_code, "new_password" in page.text) == (200, True)
    path = path_of(before.links["long"]).replace("//auth", "/auth")
    assert (await client.post(path, json={"new_password": NEW})).status_code == 200
    assert (await client.post(path, json={"new_password": PASSWORD})).status_code == 400
    assert (await log_in("long@example.com", NEW)).status_code == 200

    # The mail server of the `.env`.
    mailbox.clear()
    await client.post("/auth/forgot-password", params={"email": "gone@example.com"})
    assert [mail["To"] for mail in mailbox.messages] == ["gone@example.com"]


def path_of(link: str) -> str:
    """What a browser asks the server for."""
    return link.replace("http://localhost:8000", "http://testserver")
