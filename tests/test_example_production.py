"""examples/production: its plain commands on PostgreSQL and Redis; its compose file is read only."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from dotenv import dotenv_values
from redis.asyncio import Redis

from fastapi_pluggable_auth.models import Mail, RefreshToken, User

from . import databases
from .conftest import PASSWORD
from .hosts import EXAMPLES, copied
from .live import Process, free_port
from .smtp_server import MailServer, link_in
from .spare_database import SpareDatabase

FOLDER = EXAMPLES / "production"
WORKERS = 4
served = pytest.mark.skipif(
    not (databases.answers("postgres") and databases.answers("redis")),
    reason="PostgreSQL and Redis do not both answer",
)


def commands() -> list[str]:
    """Those of the README that need no Docker."""
    readme = (FOLDER / "README.md").read_text("utf-8")
    (block,) = [block for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if "pip" in block]
    return [str(line) for line in block.splitlines()]


def test_the_compose_file_runs_the_commands_of_the_readme_in_their_order() -> None:
    compose: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
    services = compose["services"]
    app, migrate = services["app"], services["migrate"]
    assert {app["command"], migrate["command"]} < set(commands())
    assert app["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    waited_for = {name for service in (app, migrate) for name in service["depends_on"]}
    assert waited_for == services.keys() - {"app"}
    assert all("healthcheck" in service for name, service in services.items() if name != "migrate")
    assert all(":" in service.get("image", ":") for service in services.values())
    given = dotenv_values(FOLDER / ".env.example")
    assert set(app["environment"]) - {"UVICORN_HOST"} <= given.keys()
    assert set(re.findall(r"\$\{(\w+)\}", (FOLDER / "compose.yaml").read_text("utf-8"))) <= given.keys()
    options = str(given["DATABASE_URL"]).partition("?")[2]
    assert app["environment"]["DATABASE_URL"].partition("?")[2] == options
    dockerfile = (FOLDER / "Dockerfile").read_text("utf-8")
    (start,) = re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert yaml.safe_load(start) == shlex.split(app["command"])
    (install,) = [command for command in commands() if command.startswith("pip")]
    assert install.removeprefix("pip install ") in dockerfile
    assert re.search(r"^USER (?!root)", dockerfile, re.MULTILINE)


@dataclass
class Deployment:
    """The running app."""

    base: str
    process: Process
    spare: SpareDatabase

    def workers(self) -> set[int]:
        """Their process ids."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(child) for child in children if "spawn_main" in command_of(child)}


def command_of(process: str) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except FileNotFoundError:
        return ""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, mail_server: MailServer) -> Iterator[Deployment]:
    """The app, deployed by the commands of the README."""
    tmp_path = tmp_path_factory.mktemp("production")
    folder, port = copied("production", tmp_path), free_port()
    spare = SpareDatabase("postgres", databases.spare("postgres", tmp_path))
    asyncio.run(spare.create())
    example = (folder / ".env.example").read_text("utf-8")
    own = {
        "AUTH_JWT_SECRET": secrets.token_urlsafe(48),
        "AUTH_TOTP_ENCRYPTION_KEY": secrets.token_urlsafe(48),
        "DATABASE_URL": f"'{spare.url}?minsize=1&maxsize=10&command_timeout=30'",  # the machine is busy
        "AUTH_RATE_LIMIT_STORAGE": databases.REDIS_URL,
        "AUTH_SMTP_PORT": str(mail_server.port),
    }
    for name, value in own.items():
        example, count = re.subn(rf"^{name}=.*$", f"{name}={value}", example, flags=re.MULTILINE)
        assert count == 1
    (folder / ".env").write_text(example)
    mail_server.behaviour, mail_server.delay = "accept", 0.0
    *prepare, serve = [command for command in commands() if not command.startswith("pip")]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-ec", "\n".join(prepare)],
        cwd=folder,
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok    database" in result.stdout
    busy = {
        "AUTH_BCRYPT_ROUNDS": "4",
        "AUTH_DATABASE_TIMEOUT": "30",
        "UVICORN_TIMEOUT_WORKER_HEALTHCHECK": "10",
    }
    environment = {name: value or "" for name, value in dotenv_values(folder / ".env").items()}
    environment |= {"UVICORN_PORT": str(port), "UVICORN_LOG_LEVEL": "error", **busy}
    process = Process(shlex.split(serve), folder, environment, tmp_path / "app.log")
    try:
        process.wait_for(f"http://127.0.0.1:{port}")
        yield Deployment(f"http://127.0.0.1:{port}", process, spare)
    finally:
        process.stop()


@pytest.fixture
async def client(deployment: Deployment) -> AsyncIterator[httpx.AsyncClient]:
    """Opens a connection for each request, so that all workers get some."""
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=deployment.base, limits=limits, timeout=30) as client:
        yield client


class Person:
    """Somebody with an address of their own, behind a proxy on this machine."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        name = secrets.token_hex(8)
        network = ":".join(name[i : i + 4] for i in (0, 4))
        self.account = {"email": f"{name}@example.com", "password": PASSWORD}
        self.headers = {"X-Forwarded-For": f"2001:db8:{network}::1"}
        self.client = client

    async def send(self, method: str, path: str, body: object = None) -> httpx.Response:
        return await self.client.request(method, path, json=body, headers=self.headers)

    async def sign_up(self) -> None:
        answer = await self.send("POST", "/auth/signup", self.account)
        assert answer.status_code == 201, answer.text

    async def sign_in(self, mail_server: MailServer) -> dict[str, str]:
        """Follows the mailed link; gives the tokens of a login."""
        async with asyncio.timeout(30):
            while not (mails := [m for m in mail_server.messages if m["To"] == self.account["email"]]):
                await asyncio.sleep(0.05)
        path = link_in(mails[0]).removeprefix("http://localhost:8000")
        assert (await self.send("GET", path)).status_code == 200
        answer = await self.send("POST", "/auth/login", self.account)
        assert answer.status_code == 200, answer.text
        return self.keep(answer.json())

    def keep(self, tokens: dict[str, str]) -> dict[str, str]:
        """Sends these tokens from now on."""
        self.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        return tokens


@served
async def test_people_sign_up_and_in_race_and_leave_on_four_workers(
    deployment: Deployment, client: httpx.AsyncClient, mail_server: MailServer
) -> None:
    people = [Person(client) for _ in range(8)]
    await asyncio.gather(*(person.sign_up() for person in people))

    async def live(person: Person) -> None:
        tokens = await person.sign_in(mail_server)
        for _ in range(3):
            body = {"token": tokens["refresh_token"]}
            answers = await asyncio.gather(*(person.send("POST", "/auth/refresh", body) for _ in range(10)))
            assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 9}
            tokens = person.keep(next(answer.json() for answer in answers if answer.status_code == 200))
            hello = await person.send("GET", "/hello")
            assert hello.json() == {"message": f"Hello {person.account['email']}!"}
        assert (await person.send("POST", "/auth/logout")).status_code == 200
        seen = await asyncio.gather(*(person.send("GET", "/hello") for _ in range(10)))
        assert {answer.status_code for answer in seen} == {401}

    await asyncio.gather(*(live(person) for person in people))
    assert (await client.get("/health")).json() == {"status": "ok"}
    async with deployment.spare.opened():
        assert await RefreshToken.filter(revoked=False).count() == 0


@served
async def test_requests_are_counted_for_all_workers_in_redis(client: httpx.AsyncClient) -> None:
    person = Person(client)
    body = {"email": person.account["email"]}
    counts: Counter[int] = Counter()
    for _ in range(12):
        answers = await asyncio.gather(*(person.send("POST", "/auth/verify/resend", body) for _ in range(10)))
        counts.update(answer.status_code for answer in answers)
    assert counts.keys() == {200, 429}
    # Four workers that count for themselves let 80 through. Where Redis takes half a second, as on a machine
    # that is busy with tests, the database counts on from there.
    assert 20 <= counts[200] <= 40
    client_network = IPv6Network((person.headers["X-Forwarded-For"], 64), strict=False)
    async with Redis.from_url(databases.REDIS_URL) as redis:
        assert [key async for key in redis.scan_iter(f"*resend/{client_network}*")]


@served
async def test_a_killed_worker_takes_nothing_with_it(
    deployment: Deployment, client: httpx.AsyncClient, mail_server: MailServer
) -> None:
    resident = Person(client)
    await resident.sign_up()
    tokens = await resident.sign_in(mail_server)
    told: list[str] = []

    async def keep_signing_up() -> None:
        for _ in range(10):
            person = Person(client)
            with suppress(httpx.TransportError):  # the worker was killed in the middle of it
                await person.sign_up()
                told.append(person.account["email"])

    visitors = [asyncio.create_task(keep_signing_up()) for _ in range(4)]
    await until(lambda: len(told) >= 5)
    before = deployment.workers()
    assert len(before) == WORKERS
    killed = before.pop()
    os.kill(killed, signal.SIGKILL)
    await asyncio.gather(*visitors)
    assert len(told) >= 30
    assert (await resident.send("GET", "/hello")).status_code == 200
    refreshed = await resident.send("POST", "/auth/refresh", {"token": tokens["refresh_token"]})
    assert refreshed.status_code == 200
    await until(lambda: len(deployment.workers()) == WORKERS)
    assert killed not in deployment.workers()
    async with deployment.spare.opened():
        assert await User.filter(email__in=told).count() == len(told)
        # Nobody waits for the lease of the killed worker.
        await Mail.filter(sent_at=None).update(next_attempt_at=datetime(2026, 1, 1, tzinfo=UTC))
    await until(lambda: {str(message["To"]) for message in mail_server.messages} >= set(told))


async def until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
