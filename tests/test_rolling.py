"""A deploy while the app runs: the release before and this one, side by side on the tables of this one."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from fastapi_pluggable_auth.models import RefreshToken, Session, User

from . import databases
from .conftest import SECRET
from .live import free_port, running
from .spare_database import MIGRATIONS, SpareDatabase

ROOT = Path(__file__).parent.parent
BEFORE = "f3b3191"
"""The release before, until one is tagged."""
USERS = 3
PASSWORD = "correct horse battery"

APP = """
import os
from contextlib import asynccontextmanager
from fastapi import FastAPI
from tortoise.contrib.fastapi import RegisterTortoise
from fastapi_pluggable_auth import __file__ as found, include_auth
from settings import TORTOISE_ORM

@asynccontextmanager
async def lifespan(app):
    async with RegisterTortoise(app, config=TORTOISE_ORM):
        yield

app = FastAPI(lifespan=lifespan)
include_auth(app)

@app.get("/found")
async def where():
    return found
"""
ENVIRONMENT = {
    "AUTH_JWT_SECRET": SECRET,
    "AUTH_BCRYPT_ROUNDS": "4",
    "AUTH_EMAIL_PROVIDER": "memory",
    "AUTH_REQUIRE_VERIFIED_EMAIL": "false",
    "AUTH_REFRESH_REUSE_LEEWAY": "60",
    "AUTH_DATABASE_TIMEOUT": "60",
    "PYTHONPATH": "",
}


def git(*arguments: str) -> bytes | None:
    """What it says, None where there is no history."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.fixture(scope="module")
def python_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with the wheel of the release before, and what this one has of the packages that it needs."""
    tagged = git("describe", "--tags", "--abbrev=0", "HEAD^")
    release = BEFORE if tagged is None else tagged.decode().strip()
    source = git("archive", release)
    if source is None:
        pytest.skip("there is no git history of the release before")
    folder = tmp_path_factory.mktemp("before")
    (folder / "source").mkdir()
    subprocess.run(["tar", "-x", "-C", folder / "source"], input=source, check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*pip, folder / "source"], check=True, timeout=300)
    (own,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (own / "others.pth").write_text(sysconfig.get_path("purelib"))  # after its own
    return python


@contextmanager
def serving(folder: Path, python: Path | str) -> Iterator[str]:
    """The app by this Python; its base URL."""
    port = free_port()
    path = {"PYTHONPATH": str(ROOT)} if str(python) == sys.executable else {}
    command = ["uvicorn", "app:app", "--port", str(port), "--log-level", "error"]
    log = folder / f"{port}.log"
    with running(command, folder, ENVIRONMENT | path, log, python) as process:
        base = f"http://127.0.0.1:{port}"
        process.wait_for(f"{base}/found", seconds=120)
        yield base


def migrate(folder: Path, python: Path | str) -> None:
    path = {"PYTHONPATH": str(ROOT)} if str(python) == sys.executable else {}
    command = [str(python), "-m", "tortoise", "-c", "settings.TORTOISE_ORM", "migrate"]
    environment = os.environ | ENVIRONMENT | path
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=300, capture_output=True)


class Owner:
    """A user whose requests go to one release and to the other in turn."""

    def __init__(self, clients: list[httpx.AsyncClient], seen: Counter[int]) -> None:
        self.clients, self.seen = clients, seen
        self.credentials = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD}

    async def ask(self, which: int, method: str, path: str, expected: int, **request: Any) -> Any:
        client = self.clients[which % len(self.clients)]
        answer = await client.request(method, path, **request)
        self.seen[answer.status_code] += 1
        assert answer.status_code == expected, (which, path, answer.text)
        return answer.json()

    async def go_around(self, first: int) -> None:
        """Signs up, signs in and refreshes, each where the step before was not, beginning with `first`."""
        here, there = first, first + 1
        await self.ask(here, "POST", "/auth/signup", 201, json=self.credentials)
        pair = await self.ask(there, "POST", "/auth/login", 200, json=self.credentials)
        spent: list[str] = []
        for turn in range(10):
            header = {"Authorization": f"Bearer {pair['access_token']}"}
            await self.ask(first + turn, "GET", "/auth/me", 200, headers=header)
            spent.append(pair["refresh_token"])
            body = {"token": pair["refresh_token"]}
            raced = await asyncio.gather(
                *(client.post("/auth/refresh", json=body) for client in self.clients * 2)
            )
            assert Counter(each.status_code for each in raced) == {200: 1, 401: len(raced) - 1}
            pair = next(each.json() for each in raced if each.status_code == 200)
        self.spent, self.pair = spent, pair

    async def leave(self, first: int) -> None:
        """A theft, and a logout."""
        here, there, pair = first, first + 1, self.pair
        header = {"Authorization": f"Bearer {pair['access_token']}"}
        other = await self.ask(here, "POST", "/auth/login", 200, json=self.credentials)
        await self.ask(there, "POST", "/auth/refresh", 401, json={"token": self.spent[-4]})  # two have it
        for which in (here, there):
            await self.ask(which, "GET", "/auth/me", 401, headers=header)
        header = {"Authorization": f"Bearer {other['access_token']}"}
        await self.ask(there, "GET", "/auth/me", 200, headers=header)
        await self.ask(here, "POST", "/auth/logout", 200, headers=header)
        for which in (here, there):
            await self.ask(which, "GET", "/auth/me", 401, headers=header)
            await self.ask(which, "POST", "/auth/refresh", 401, json={"token": other["refresh_token"]})


@pytest.mark.full
@pytest.mark.parametrize("spare", databases.SERVERS, indirect=True)
def test_the_release_before_runs_beside_this_one_on_the_tables_of_this_one(
    spare: SpareDatabase, python_before: Path, tmp_path: Path
) -> None:
    """And while they are migrated: no request fails, and what one has ended the other does not let in."""
    asyncio.run(spare.create())
    config = databases.config(spare.url, spare.dialect, migrations=MIGRATIONS)
    (tmp_path / "settings.py").write_text(f"TORTOISE_ORM = {config!r}")
    (tmp_path / "app.py").write_text(APP)
    migrate(tmp_path, python_before)
    seen: Counter[int] = Counter()

    async def use(*bases: str) -> None:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(httpx.AsyncClient(base_url=base, timeout=120))
                for base in bases
            ]
            owners = [Owner(clients, seen) for _ in range(USERS)]
            await asyncio.gather(*(owner.go_around(number) for number, owner in enumerate(owners)))
            await an_hour_passes(spare)
            await asyncio.gather(*(owner.leave(number) for number, owner in enumerate(owners)))

    async def use_while_migrating(base: str) -> None:
        await asyncio.gather(use(base), asyncio.to_thread(migrate, tmp_path, sys.executable))

    with serving(tmp_path, python_before) as before:
        found = str(httpx.get(f"{before}/found").json())
        assert str(python_before.parent.parent) in found
        asyncio.run(use_while_migrating(before))
        with serving(tmp_path, sys.executable) as after:
            assert str(ROOT) in str(httpx.get(f"{after}/found").json())
            asyncio.run(use(before, after))
    asyncio.run(_nothing_lives_on(spare))
    assert set(seen) == {200, 201, 401}


async def an_hour_passes(spare: SpareDatabase) -> None:
    """For what was spent: no retry is a race any more."""
    async with spare.opened():
        for token in await RefreshToken.exclude(rotated_at=None):
            token.created_at -= timedelta(hours=1)
            token.rotated_at -= timedelta(hours=1)  # type: ignore[operator]  # it was spent
            await token.save(update_fields=["created_at", "rotated_at"])


async def _nothing_lives_on(spare: SpareDatabase) -> None:
    async with spare.opened():
        assert await User.all().count() == 2 * USERS
        assert await Session.filter(revoked_at=None).count() == 0
