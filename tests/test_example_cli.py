"""examples/cli: a program without a browser under a real server, by the commands of its README."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from .conftest import EMAIL, PASSWORD, SECRET
from .form_browser import BROWSER, FormBrowser
from .hosts import EXAMPLES, copied
from .live import free_port, served

README = (EXAMPLES / "cli" / "README.md").read_text("utf-8")
RUN = (sys.executable, "notes.py")


@dataclass
class Desk:
    """Where the program runs, and a browser of its user elsewhere."""

    folder: Path
    environment: dict[str, str]
    user: FormBrowser

    @property
    def tokens(self) -> Path:
        return self.folder / "kept" / "tokens.json"

    def run(self, command: str) -> tuple[int, str]:
        """How the program ends, and what it has printed."""
        result = subprocess.run(
            [*RUN, *command.split()],
            cwd=self.folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return result.returncode, result.stdout + result.stderr

    async def login(self, decision: str) -> tuple[int, str]:
        """The same for the sign-in, while the user answers on the page that it names."""
        with subprocess.Popen(
            [*RUN, "login"],
            cwd=self.folder,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            said = re.fullmatch(r"Open (\S+) and type (\S+)\n", line := process.stdout.readline())
            assert said, line
            page = await self.user.open(said[1])
            if page.path.endswith("sign-in"):
                await self.user.submit("sign-in", email=EMAIL, password=PASSWORD)
            await self.user.submit("user_code", user_code=said[2].lower())
            assert (await self.user.submit("decide", decision=decision)).status == 200
            return process.wait(60), process.stdout.read()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """The app of the example, with a user, and the program as its README has it registered."""
    folder, port = copied("cli", tmp_path), free_port()
    base = f"http://127.0.0.1:{port}"
    environment = {
        "JWT_SECRET": SECRET,
        "EMAIL_PROVIDER": "console",
        "AUTH_BCRYPT_ROUNDS": "4",
        "AUTH_PUBLIC_BASE_URL": base,
        "DATABASE_URL": f"sqlite://{tmp_path / 'app.sqlite3'}",
        "NOTES_SERVER": base,
        "NOTES_TOKENS": str(folder / "kept" / "tokens.json"),
    }

    def command(arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fastapi_pluggable_auth", *arguments.split()],
            cwd=folder,
            env=os.environ | environment,
            input=PASSWORD,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    (register,) = re.findall(r"fastapi-pluggable-auth (oauth clients create .*)", README)
    with served(folder, environment, tmp_path / "app.log", port=port):
        command(f"users create {EMAIL} --verified --password-stdin --app app:app")
        environment["NOTES_CLIENT_ID"] = command(register).split()[1]
        async with httpx.AsyncClient(base_url=base, headers=BROWSER) as client:
            yield Desk(folder, environment, FormBrowser(client))


async def test_a_program_signs_in_by_a_code_renews_its_tokens_and_gives_them_back(desk: Desk) -> None:
    """RFC 8628; what it keeps nobody else on the machine can read."""
    assert re.findall(r"python notes\.py (\w+)", README) == ["login", "notes", "logout"]
    for each in ("notes", "logout"):
        assert desk.run(each) == (1, "You have not signed in: run `python notes.py login`.\n")
    assert await desk.login("deny") == (1, "It was not allowed.\n")
    assert not desk.tokens.exists()
    assert await desk.login("allow") == (0, "You are signed in.\n")
    assert stat.S_IMODE(desk.tokens.stat().st_mode) == 0o600
    assert stat.S_IMODE(desk.tokens.parent.stat().st_mode) == 0o700
    assert desk.run("notes") == (0, f"A note of {EMAIL}\n")

    first = json.loads(desk.tokens.read_text())
    desk.tokens.write_text(json.dumps(first | {"access_token": "oat_" + "x" * 43}))  # as one that has expired
    assert desk.run("notes") == (0, f"A note of {EMAIL}\n")
    renewed = json.loads(desk.tokens.read_text())
    assert renewed["refresh_token"] != first["refresh_token"]
    assert [each.name for each in desk.tokens.parent.iterdir()] == ["tokens.json"]
    assert stat.S_IMODE(desk.tokens.stat().st_mode) == 0o600

    assert desk.run("logout") == (0, "You are signed out.\n")
    assert not desk.tokens.exists()
    for token in (first["access_token"], renewed["access_token"]):
        answer = await desk.user.client.get("/api/notes", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
    desk.tokens.write_text(json.dumps(renewed))  # which a copy has kept
    status, said = desk.run("notes")
    assert (status, "Your access has ended" in said) == (1, True)
    assert not desk.tokens.exists()
    assert desk.run("other")[0] == 1
