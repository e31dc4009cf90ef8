"""Several workers on one database, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth.models import Mail, RefreshToken, Throttle, User

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, Database, Mailbox, on_postgres_first
from .live import asked
from .smtp_server import MailServer

CREDENTIALS = {"email": EMAIL, "password": PASSWORD}
ROOT = Path(__file__).parent.parent


class Server:
    """uvicorn with workers, as processes of their own."""

    def __init__(self, database: Database, smtp_port: int, workers: int = 2, **environment: str) -> None:
        self.count = workers
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}"
        self.environment = (
            {"AUTH_DATABASE_TIMEOUT": "30"}  # the machine of the tests may be busy
            | os.environ
            | {
                "TEST_DATABASE_URL": database.url,
                "TEST_DIALECT": database.dialect,
                "JWT_SECRET": SECRET,
                "AUTH_BCRYPT_ROUNDS": "4",
                "SMTP_HOST": "127.0.0.1",
                "SMTP_PORT": str(smtp_port),
                "AUTH_SMTP_SECURITY": "plain",
            }
            | environment
        )
        self.start()

    def start(self) -> None:
        """Starts the server and waits until all workers have answered."""
        command = [sys.executable, "-m", "uvicorn", "tests.served:app", "--workers", str(self.count)]
        command += ["--port", str(self.port), "--log-level", "error", "--backlog", "512"]
        if tuple(map(int, uvicorn.__version__.split(".")[:2])) >= (0, 37):
            command += ["--timeout-worker-healthcheck", "60"]  # tests keep the machine busy
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, start_new_session=True)
        self.workers: set[int] = set()
        deadline = time.monotonic() + 120
        while len(self.workers) < self.count:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"{len(self.workers)} of {self.count} workers answer.")
            if self.process.poll() is not None:  # somebody else has had the port since the last stop
                self.process = subprocess.Popen(
                    command, cwd=ROOT, env=self.environment, start_new_session=True
                )
            if answer := asked(f"{self.base}/worker"):
                self.workers.add(answer.json())
            else:
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9, master and workers."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """As a deployment does."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@pytest.fixture
def smtp_port(request: pytest.FixtureRequest) -> int:
    """The port of the SMTP server, or one where nothing listens."""
    if "mailbox" in request.fixturenames:
        mailbox: Mailbox = request.getfixturevalue("mailbox")
        return mailbox.server.port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(
    request: pytest.FixtureRequest, database: Database, tortoise: TortoiseContext, smtp_port: int
) -> Iterator[Server]:
    server = Server(database, smtp_port, **getattr(request, "param", {}))
    yield server
    server.stop()


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """A client that opens a connection for each request in flight, so that both workers get some."""
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=server.base, limits=limits, timeout=30) as http:
        yield http


async def signed_in(http: httpx.AsyncClient) -> dict[str, str]:
    """A verified user; gives the tokens of a login."""
    assert (await http.post("/auth/signup", json=CREDENTIALS)).status_code == 201
    await User.all().update(is_verified=True)
    tokens: dict[str, str] = (await http.post("/auth/login", json=CREDENTIALS)).json()
    return tokens


async def me(http: httpx.AsyncClient, access_token: str) -> int:
    answer = await http.get("/auth/me", headers={"Authorization": f"Bearer {access_token}"})
    return answer.status_code


async def test_simultaneous_signups_on_two_workers_make_one_account_and_one_mail(
    http: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    """R-08."""
    spellings = [EMAIL, EMAIL.upper(), EMAIL.title(), "aDa@example.com"] * 10
    answers = await asyncio.gather(
        *(http.post("/auth/signup", json={"email": email, "password": PASSWORD}) for email in spellings)
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 400: 39}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 400} == {"email_taken"}
    assert await User.all().count() == 1
    await mailbox.server.wait(1)
    assert await Mail.all().count() == 1


async def test_a_refresh_race_on_two_workers_has_one_winner_and_its_session_lives(
    http: httpx.AsyncClient,
) -> None:
    """R-01, A-43."""
    tokens = await signed_in(http)
    for _ in range(5):
        body = {"token": tokens["refresh_token"]}
        answers = await asyncio.gather(*(http.post("/auth/refresh", json=body) for _ in range(50)))
        assert Counter(answer.status_code for answer in answers) == {200: 1, 401: 49}
        tokens = next(answer.json() for answer in answers if answer.status_code == 200)
        assert await me(http, tokens["access_token"]) == 200
        assert await RefreshToken.filter(revoked=False).count() == 1


@pytest.mark.parametrize("server", [{"AUTH_REFRESH_IDEMPOTENT": "true"}], ids=["idempotent"], indirect=True)
async def test_a_lost_answer_that_two_workers_replace_at_once_is_replaced_once(
    http: httpx.AsyncClient,
) -> None:
    """R-05, A-43."""
    tokens = await signed_in(http)
    for lost in range(1, 4):
        body = {"token": tokens["refresh_token"]}
        assert (await http.post("/auth/refresh", json=body)).status_code == 200
        earlier = datetime.now(UTC) - timedelta(minutes=1)  # the workers have no clock to move
        await RefreshToken.all().update(created_at=earlier)
        answers = await asyncio.gather(*(http.post("/auth/refresh", json=body) for _ in range(30)))
        assert Counter(answer.status_code for answer in answers) == {200: 30}
        assert len({answer.json()["refresh_token"] for answer in answers}) == 1
        assert await RefreshToken.filter(revoked=False).count() == 1
        assert await RefreshToken.filter(superseded=True).count() == lost
        tokens = answers[0].json()
        assert await me(http, tokens["access_token"]) == 200


@pytest.mark.parametrize("database", [databases.shared()], indirect=True)
async def test_a_logout_on_one_worker_is_known_to_the_other_at_once(http: httpx.AsyncClient) -> None:
    """A-46."""
    tokens = await signed_in(http)
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert {await me(http, tokens["access_token"]) for _ in range(10)} == {200}
    assert (await http.post("/auth/logout", headers=headers)).status_code == 200
    assert {await me(http, tokens["access_token"]) for _ in range(20)} == {401}


@pytest.mark.parametrize("database", [databases.shared()], indirect=True)
async def test_guesses_on_two_workers_share_one_count_that_outlives_a_restart(
    http: httpx.AsyncClient, server: Server
) -> None:
    """A-13, R-20, R-35."""
    await signed_in(http)
    wrong = {"email": EMAIL, "password": "wrong password"}
    began = time.monotonic()
    answers = await asyncio.gather(*(http.post("/auth/login", json=wrong) for _ in range(60)))
    counted = Counter(answer.status_code for answer in answers)
    assert set(counted) == {401, 429}
    # Five, and one more after each pause, which double from a second, that has passed meanwhile.
    assert counted[401] <= 5 + int(math.log2(1 + time.monotonic() - began))
    later = datetime.now(UTC) + timedelta(minutes=4)
    details = json.loads((await Throttle.get()).details or "")
    (network,) = details["networks"]
    details["networks"][network] = [14, int(later.timestamp() * 1000)]
    await Throttle.all().update(details=json.dumps(details))
    server.kill()
    server.start()
    refused = await http.post("/auth/login", json=CREDENTIALS)
    assert (refused.status_code, refused.json()["code"]) == (429, "throttled")
    assert 200 < int(refused.headers["retry-after"]) <= 240


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_a_hundred_wrong_passwords_from_changing_addresses_are_all_over_a_restart(
    database: Database, mailbox: Mailbox, tortoise: TortoiseContext
) -> None:
    """A-13: the right one from a new network is refused then, and passes on a known device."""
    server = Server(database, mailbox.server.port, AUTH_TRUSTED_PROXIES="127.0.0.1")
    try:
        async with httpx.AsyncClient(base_url=server.base, timeout=30) as http:
            await signed_in(http)
            device = (await http.post("/auth/login", json=CREDENTIALS | {"device": None})).json()["device"]

            async def attempt(number: int, **body: str) -> httpx.Response:
                headers = {"X-Forwarded-For": f"10.0.{number}.1"}
                return await http.post("/auth/login", json=CREDENTIALS | body, headers=headers)

            for half in (range(50), range(50, 100)):
                answers = await asyncio.gather(*(attempt(n, password="wrong password") for n in half))
                assert Counter(answer.status_code for answer in answers) == {401: 50}
                server.kill()
                server.start()
            refused = await attempt(101)
            assert (refused.status_code, refused.json()["code"]) == (429, "password_locked")
            assert "by mail" in refused.json()["detail"]
            unknown = await http.post("/auth/login", json=CREDENTIALS | {"email": "nobody@example.com"})
            assert unknown.status_code == 401
            assert (await attempt(102, device=device)).status_code == 200
    finally:
        server.stop()


@on_postgres_first
async def test_mails_of_a_killed_server_are_sent_after_its_restart_once_each(
    database: Database, http: httpx.AsyncClient, server: Server
) -> None:
    """R-23, R-26: nothing listens for mail, 200 people sign up (on PostgreSQL), kill -9, all comes back."""
    addresses = [f"u{number}@example.com" for number in range(200 if database.dialect == "postgres" else 20)]
    accounts = [{"email": address, "password": PASSWORD} for address in addresses]
    for tens in range(0, len(accounts), 10):
        answers = [http.post("/auth/signup", json=account) for account in accounts[tens : tens + 10]]
        assert {answer.status_code for answer in await asyncio.gather(*answers)} == {201}
    server.kill()
    assert await User.all().count() == await Mail.filter(sent_at=None).count() == len(addresses)
    await Mail.all().update(next_attempt_at=datetime(2026, 1, 1, tzinfo=UTC))
    with MailServer(port=int(server.environment["SMTP_PORT"])) as mail_server:
        server.start()
        await mail_server.wait(len(addresses), 120)
        server.stop()
        assert sorted(str(message["To"]) for message in mail_server.messages) == sorted(addresses)
    assert await Mail.filter(sent_at=None).count() == 0


@pytest.mark.parametrize("database", [databases.shared()], indirect=True)
async def test_logins_do_not_hold_up_other_requests(http: httpx.AsyncClient, server: Server) -> None:
    """R-40: no request waits for a hash but the one that asked for it."""
    tokens = await signed_in(http)
    storm = [asyncio.create_task(http.post("/auth/login", json=CREDENTIALS)) for _ in range(60)]
    statuses = {await me(http, tokens["access_token"]) for _ in range(10)}
    answers = await asyncio.gather(*storm)
    assert statuses == {200}
    assert {answer.status_code for answer in answers} <= {200, 429, 503}
