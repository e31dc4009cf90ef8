"""What the tests share: real databases, a real SMTP server, and a clock that tests move."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, config, failures, include_auth
from fastapi_pluggable_auth.features import (
    Administration,
    AuditLog,
    Feature,
    OAuthServer,
    Passkeys,
    PersonalTokens,
)
from fastapi_pluggable_auth.features.passkeys import PasskeySettings
from fastapi_pluggable_auth.testing import FakeClock as Clock

from . import browsers, databases, node, peers, pgbouncer, postgres, promtool, quick_routes
from .daemons import none_of
from .smtp_server import MailServer, link_in
from .spare_database import SpareDatabase

if TYPE_CHECKING:
    from .docs_server import DocsServer

on_each_database = pytest.mark.parametrize("database", databases.DIALECTS, indirect=True)
"""For a test whose file names fewer in DIALECTS."""

SQLITE_UNLESS_FULL = ("sqlite", *(pytest.param(name, marks=pytest.mark.full) for name in databases.SERVERS))
"""Where the database matters little, or other tests show it: the servers have their turn in `.ci/full`."""

on_one_database = pytest.mark.parametrize("database", SQLITE_UNLESS_FULL, indirect=True)
on_one_spare = pytest.mark.parametrize("spare", SQLITE_UNLESS_FULL, indirect=True)

POSTGRES_UNLESS_FULL = (
    "postgres",
    *(pytest.param(name, marks=pytest.mark.full) for name in databases.DIALECTS if name != "postgres"),
)
"""The same for what several processes do at once."""

on_postgres_first = pytest.mark.parametrize("database", POSTGRES_UNLESS_FULL, indirect=True)

PASSWORD = "correct horse battery"
EMAIL = "ada@example.com"
SECRET = "c3qXvN9tLb2RkZ8wYp5Dh7GsJm4TfEu6AxQr1VoKiWnBzMyH"


quick_routes.remember()


def pytest_configure(config: pytest.Config) -> None:
    """Fails the run, rather than skipping, where something is required and is not there."""
    if os.environ.get("TEST_REQUIRE_BROWSER") and (problem := browsers.missing()):
        raise pytest.UsageError(problem)
    if os.environ.get("TEST_REQUIRE_NODE") and (problem := node.missing()):
        raise pytest.UsageError(problem)
    if os.environ.get("TEST_REQUIRE_PEERS") and (problem := peers.missing()):
        raise pytest.UsageError(problem)
    if os.environ.get("TEST_REQUIRE_POOLER") and (problem := pgbouncer.missing()):
        raise pytest.UsageError(problem)
    if os.environ.get("TEST_REQUIRE_PROMTOOL") and (problem := promtool.missing()):
        raise pytest.UsageError(problem)
    for program in os.environ.get("TEST_REQUIRE_CLUSTER", "").split():
        problem = postgres.missing() if program == "postgres" else none_of(program)
        if problem:
            raise pytest.UsageError(problem)
    for dialect in os.environ.get("TEST_REQUIRE_DATABASES", "").split():
        if not databases.answers(dialect):
            raise pytest.UsageError(f"{dialect} is required and does not answer")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fails where processes that share the tests out would not call them the same."""
    if unstable := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"Memory addresses in names of tests: {unstable}")


def pytest_report_header() -> str:
    return "databases: " + ", ".join(d for d in databases.DIALECTS if d == "sqlite" or databases.answers(d))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many rows of docs/reference/asvs.md hold; a test checks the count. And what the scenarios of
    `tests/cluster` saw."""
    document = (Path(__file__).parent.parent / "docs" / "reference" / "asvs.md").read_text("utf-8")
    (counts,) = [line for line in document.splitlines() if line.startswith("Held: ")]
    terminalreporter.write_line(f"security rows: {counts}")
    for report in (each for kind in ("passed", "failed") for each in terminalreporter.getreports(kind)):
        for name, line in report.user_properties:
            if name == "cluster" and report.when == "call":
                terminalreporter.write_line(f"cluster: {line}")


@dataclass(frozen=True)
class Database:
    """A database with the tables in it."""

    dialect: str
    url: str


@pytest.fixture(scope="session")
def database_urls() -> Iterator[Callable[[str], str]]:
    """Gives the URL of a dialect's database, which is created on first use. That of SQLite is in memory where
    there is a folder for it: most tests write to it, and none needs it to outlive them."""
    ready: dict[str, str] = {}
    in_memory = "/dev/shm"  # noqa: S108
    with TemporaryDirectory(dir=in_memory if os.access(in_memory, os.W_OK) else None) as folder:

        def url(dialect: str) -> str:
            if dialect not in ready:
                ready[dialect] = databases.SERVERS.get(dialect, f"sqlite://{folder}/test.sqlite3")
                asyncio.run(databases.create(ready[dialect], dialect))
            return ready[dialect]

        yield url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test that uses a database once on every one, or on those that its file names in DIALECTS."""
    chosen = any("database" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "database" in metafunc.fixturenames and not chosen:
        dialects = getattr(metafunc.module, "DIALECTS", databases.DIALECTS)
        metafunc.parametrize("database", dialects, indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, database_urls: Callable[[str], str]) -> Database:
    """A database with the tables in it."""
    dialect: str = request.param
    if dialect != "sqlite" and not databases.answers(dialect):
        pytest.skip(f"no {dialect} server answers")
    return Database(dialect, database_urls(dialect))


@pytest.fixture(params=databases.DIALECTS)
def spare(request: pytest.FixtureRequest, tmp_path: Path) -> SpareDatabase:
    """A second database, empty or absent."""
    dialect: str = request.param
    if dialect != "sqlite" and not databases.answers(dialect):
        pytest.skip(f"no {dialect} server answers")
    return SpareDatabase(dialect, databases.spare(dialect, tmp_path))


@pytest.fixture
async def tortoise(database: Database) -> AsyncIterator[TortoiseContext]:
    """Tortoise on an empty database, initialised by hand; no lifespan runs."""
    async with TortoiseContext() as context:
        await context.init(databases.config(database.url, database.dialect))
        await databases.empty(context, database.dialect)
        yield context


@pytest.fixture(autouse=True, scope="session")
def _default_settings() -> None:
    """They are read from the environment when first named: not from that which a test has made."""
    assert config.settings


@pytest.fixture(autouse=True)
def _own_statements() -> None:
    """Tortoise keeps the SQL of a connection by its name, that of another dialect from a test before too."""
    EXECUTOR_CACHE.clear()


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is logged, though a test before may have had the same within a second."""
    monkeypatch.setattr(failures, "_quiet", failures._Quiet())


@pytest.fixture
def clock() -> Clock:
    """The clock of the app under test."""
    return Clock()


@pytest.fixture(scope="session")
def mail_server() -> Iterator[MailServer]:
    """A real SMTP server on loopback."""
    with MailServer() as server:
        yield server


@dataclass(frozen=True)
class Mailbox:
    """The mails that have arrived."""

    server: MailServer

    @property
    def messages(self) -> list[EmailMessage]:
        """All mails, the oldest first."""
        return list(self.server.messages)

    def link(self, recipient: str = EMAIL) -> str:
        """The path and query of the link in the newest mail to this address."""
        newest = [message for message in self.messages if message["To"] == recipient][-1]
        return link_in(newest).removeprefix("http://localhost:8000")

    def token(self, recipient: str = EMAIL) -> str:
        """The token in that link."""
        return self.link(recipient).rsplit("/", 1)[1]

    def clear(self) -> None:
        """Forgets all mails."""
        self.server.clear()


@pytest.fixture
def mailbox(mail_server: MailServer) -> Mailbox:
    """An empty mailbox behind the SMTP server."""
    mail_server.clear()
    mail_server.behaviour, mail_server.delay = "accept", 0.0
    return Mailbox(mail_server)


@pytest.fixture
def settings(mail_server: MailServer) -> AuthSettings:
    """Settings with fast hashes and the SMTP server of the tests; a test may change them at any time."""
    return AuthSettings(
        _env_file=None,
        jwt_secret=SECRET,
        bcrypt_rounds=4,
        smtp_host="127.0.0.1",
        smtp_port=mail_server.port,
        smtp_security="plain",
        throttle_free_attempts=1000,
        mail_limit=1000,
        database_timeout=60,  # the machine of the tests may be busy
    )


@pytest.fixture
def features() -> list[Feature]:
    """What the host app turns on: nothing, unless the tests of a file say so."""
    return []


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, features: list[Feature]) -> FastAPI:
    """A host app."""
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, features=features)
    return app


@pytest.fixture
async def auth(app: FastAPI) -> AsyncIterator[Auth]:
    """The app's services."""
    auth: Auth = app.state.pluggable_auth
    yield auth
    await auth.close()


@pytest.fixture
async def client(
    app: FastAPI, tortoise: TortoiseContext, mailbox: Mailbox
) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the app. Mail that a request causes has arrived when its response has."""
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield client
    await app.state.pluggable_auth.close()


def claims_of(token: str) -> dict[str, Any]:
    """What a signed token says, without a look at its signature."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


@dataclass
class Account:
    """A signed-in user, with the tokens of the newest login."""

    client: httpx.AsyncClient
    mailbox: Mailbox
    email: str
    password: str
    access_token: str = ""
    refresh_token: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The header that authenticates."""
        return {"Authorization": f"Bearer {self.access_token}"}

    async def login(self, code: str | None = None) -> httpx.Response:
        """Logs in, with a code where one is given, and keeps the tokens."""
        body = {"email": self.email, "password": self.password} | ({"code": code} if code else {})
        response = await self.client.post("/auth/login", json=body)
        if response.status_code == 200:
            self.access_token = response.json()["access_token"]
            self.refresh_token = response.json()["refresh_token"]
        return response

    async def refresh(self, token: str | None = None) -> httpx.Response:
        """Spends a refresh token, the newest one by default; keeps nothing."""
        return await self.client.post("/auth/refresh", json={"token": token or self.refresh_token})

    async def me(self, access_token: str | None = None) -> httpx.Response:
        """Asks who the access token stands for."""
        token = access_token or self.access_token
        return await self.client.get("/auth/me", headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def register(client: httpx.AsyncClient, mailbox: Mailbox) -> Callable[..., object]:
    """Signs up, follows the mailed link and logs in; returns the `Account`."""

    async def register(email: str = EMAIL, password: str = PASSWORD) -> Account:
        signup = await client.post("/auth/signup", json={"email": email, "password": password})
        assert signup.status_code == 201, signup.text
        assert (await client.get(mailbox.link(email))).status_code == 200
        account = Account(client, mailbox, email, password)
        assert (await account.login()).status_code == 200
        return account

    return register


@pytest.fixture
async def account(register: Callable[..., object]) -> Account:
    """A verified, signed-in user."""
    account: Account = await register()  # type: ignore[misc]
    return account


@pytest.fixture
def template_dir(tmp_path: Path) -> Path:
    """A folder for an app's own templates."""
    folder = tmp_path / "templates"
    folder.mkdir()
    return folder


@pytest.fixture
def docs_server(settings: AuthSettings, mailbox: Mailbox, tmp_path: Path) -> Iterator[DocsServer]:
    """A served app, for the curl commands of the docs."""
    from .docs_server import DocsServer
    from .live import serving
    from .test_plugin import app_with_plain_init_in_lifespan

    database = tmp_path / "docs_server.sqlite3"
    own = PasskeySettings(_env_file=None, passkey_related_origins=["https://example.de"])  # type: ignore[call-arg]
    app = app_with_plain_init_in_lifespan(f"sqlite://{database}")
    include_auth(
        app,
        settings=settings,
        roles={"editor": ["notes:write"]},
        features=[
            Administration(),
            PersonalTokens(scopes={"notes:read": "Read your notes"}),
            OAuthServer(resources=["/api"]),
            AuditLog(),
            Passkeys(own),
        ],
        pages=True,
    )
    with serving(app) as base:
        yield DocsServer(base, database, mailbox)
