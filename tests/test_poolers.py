"""A pooler in front of PostgreSQL: found where it mixes up statements, and never believed."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import httpx
import pyotp
import pytest
from fastapi import Depends, FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, include_auth, poolers, require
from fastapi_pluggable_auth.features import AuditLog, PersonalTokens
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.poolers import mixes_up_statements

from . import databases, pgbouncer
from .conftest import PASSWORD, Clock, Database, Mailbox
from .pgbouncer import PgBouncer
from .test_workers import ROOT

DIALECTS = ("postgres",)
SAFE = "?statement_cache_size=0"

pytestmark = pytest.mark.skipif(pgbouncer.missing() is not None, reason=str(pgbouncer.missing()))


@asynccontextmanager
async def tortoise_on(url: str) -> AsyncIterator[TortoiseContext]:
    async with TortoiseContext() as context:
        await context.init(databases.config(url, "postgres"))
        yield context


@pytest.fixture
def empty(database: Database) -> None:
    async def empty() -> None:
        async with tortoise_on(database.url) as context:
            await databases.empty(context, "postgres")

    asyncio.run(empty())


async def mixes_up(url: str) -> bool:
    async with tortoise_on(url):
        return await mixes_up_statements(User)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "transaction"},
        {"mode": "transaction", "default_pool_size": 1},
        {"mode": "transaction", "server_round_robin": 1},
        {"mode": "statement"},
    ],
    ids=str,
)
async def test_a_pooler_that_mixes_up_statements_is_found_also_while_nobody_uses_it(
    options: dict[str, Any], database: Database
) -> None:
    with PgBouncer(database.url, **options) as pooler:
        assert await mixes_up(pooler.url)
        assert not await mixes_up(pooler.url + SAFE)


async def test_a_pooler_that_others_keep_busy_is_found(database: Database) -> None:
    with PgBouncer(database.url, default_pool_size=3) as pooler:
        others = [await asyncpg.connect(pooler.url, statement_cache_size=0) for _ in range(6)]

        async def use(connection: asyncpg.Connection) -> None:
            while True:
                await connection.execute("SELECT pg_sleep(0.002)")

        busy = [asyncio.create_task(use(each)) for each in others]
        try:
            assert await mixes_up(pooler.url)
            assert not await mixes_up(pooler.url + SAFE)
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
            for each in others:
                each.terminate()


async def test_nothing_is_said_of_a_server_or_of_a_pooler_that_keeps_connections_apart(
    database: Database,
) -> None:
    assert not await mixes_up(database.url)
    with PgBouncer(database.url, "session") as pooler:
        assert not await mixes_up(pooler.url)


async def test_an_app_behind_a_pooler_that_mixes_up_statements_does_not_start(
    database: Database, app: FastAPI
) -> None:
    with PgBouncer(database.url) as pooler:
        async with tortoise_on(pooler.url):
            with pytest.raises(RuntimeError, match="statement_cache_size=0"):
                async with app.router.lifespan_context(app):
                    pass
        async with tortoise_on(pooler.url + SAFE), app.router.lifespan_context(app):
            pass


async def test_an_app_starts_where_nobody_can_tell(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    async with tortoise_on("postgres://nobody@127.0.0.1:1/none"), app.router.lifespan_context(app):
        assert [each for each in caplog.messages if "A pooler could not be looked for" in each]


async def login(app: FastAPI) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        return await client.post("/auth/login", json={"email": "ada@example.com", "password": PASSWORD})


async def test_an_app_whose_lifespan_never_ran_answers_nobody_behind_a_pooler_that_mixes_up_statements(
    database: Database, app: FastAPI, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    other = FastAPI()
    include_auth(other, settings=settings)
    with PgBouncer(database.url) as pooler:
        async with tortoise_on(pooler.url):
            answers = await asyncio.gather(*(login(app) for _ in range(5)))
            answers.append(await login(app))
        assert {(each.status_code, each.json()["code"]) for each in answers} == {
            (503, "database_unavailable")
        }
        assert [each for each in caplog.messages if "statement_cache_size=0" in each]
        async with tortoise_on(pooler.url + SAFE):
            assert (await login(other)).status_code == 401


async def test_an_app_that_started_before_its_database_looks_for_a_pooler_later(
    database: Database, app: FastAPI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poolers, "PAUSE_SECONDS", 0.0)
    with PgBouncer(database.url) as pooler:
        pass
    async with tortoise_on(pooler.url), app.router.lifespan_context(app):
        assert (await login(app)).status_code == 503
        caplog.clear()
        with pooler:
            assert (await login(app)).status_code == 503
        assert [each for each in caplog.messages if "A pooler mixes up prepared statements" in each]


async def test_a_pooler_with_no_second_connection_holds_requests_up_once_at_most(
    database: Database, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poolers, "LOOKING_SECONDS", 0.5)
    with PgBouncer(database.url, "session", default_pool_size=1) as pooler:
        async with tortoise_on(pooler.url + "?maxsize=1"):
            assert [(await login(app)).status_code for _ in range(2)] == [401, 401]


def both(url: str, rounds: int) -> list[dict[str, Any]]:
    """What two processes behind the pooler saw."""
    command = [sys.executable, "-m", "tests.pooled", url]
    processes = [
        subprocess.Popen([*command, name, str(rounds)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for name in ("a", "b")
    ]
    return [json.loads(process.communicate(timeout=120)[0]) for process in processes]


@pytest.mark.usefixtures("empty")
def test_two_processes_behind_a_pooler_with_the_setting_are_served_as_without_one(database: Database) -> None:
    with PgBouncer(database.url, default_pool_size=4) as pooler:
        for saw in both(pooler.url + SAFE, 4):
            assert {status[-3:] for status in saw["statuses"]} == {"200", "201"}
            assert saw["statuses"]["/auth/refresh 200"] == 8
            assert (saw["foreign"], saw["mixed_up"], saw["logged"]) == ([], 0, {})


@pytest.mark.full
@pytest.mark.usefixtures("empty")
def test_two_processes_without_the_setting_never_answer_with_the_rows_of_the_other(
    database: Database,
) -> None:
    with PgBouncer(database.url, default_pool_size=3) as pooler:
        saw = both(pooler.url, 12)
    assert [each["foreign"] for each in saw] == [[], []]
    assert any("503" in status for each in saw for status in each["statuses"])
    assert sum(each["logged"].get("advice", 0) for each in saw)


class Shadow:
    """A client behind a pooler with one connection to the server, where it prepares its statements under the
    names of those that the app has prepared: as another process does, by chance."""

    def __init__(self, server: asyncpg.Connection) -> None:
        self._server = server

    async def statements(self, used: set[str]) -> list[tuple[str, str, str]]:
        """Name, text and types of the parameters of those that the app has prepared, of these texts."""
        prepared = "SELECT name, statement, parameter_types::text[] AS types FROM pg_prepared_statements"
        return [
            (row["name"], row["statement"], ", ".join(row["types"]))
            for row in await self._server.fetch(prepared)
            if row["statement"] in used
        ]

    async def fetch(self, query: str, *values: object) -> list[Any]:
        return list(await self._server.fetch(query, *values))

    async def prepare(self, name: str, statement: str, types: str) -> None:
        await self._server.execute(f"DEALLOCATE {name}; PREPARE {name} ({types}) AS {statement}")


def turned_round(statement: str, owner: str) -> Iterator[str]:
    """The same query for one other row, of this owner if possible: with each of its conditions, and with
    several, turned round."""
    (table,) = re.findall(r'SELECT .*? FROM "(\w+)"', statement)
    column = "id" if table == "user" else "holder" if table == "auth_throttle" else "user_id"
    parts = re.fullmatch(r"(.*?)(?: LIMIT (\$\d+))?( FOR UPDATE.*)?", statement)
    assert parts
    query, limit, lock = parts.groups("")
    first = f' ORDER BY "{table}"."{column}"::text = \'{owner}\' DESC LIMIT ' + (
        f"least({limit}, 1)" if limit else "1"
    )
    if "ORDER BY" in statement or "COUNT(*)" in statement:
        first = f" LIMIT {limit}" if limit else ""
    texts = re.split(r"((?<![<>!])=(?=\$\d)| IN )", query)
    turned = {"=": " IS DISTINCT FROM ", " IN ": " NOT IN "}
    for choice in itertools.product((False, True), repeat=len(texts) // 2):
        if any(choice):
            signs = [turned[sign] if turn else sign for sign, turn in zip(texts[1::2], choice, strict=True)]
            found = "".join(itertools.chain.from_iterable(zip(texts[::2], (*signs, ""), strict=True)))
            yield found + first + lock


class Two:
    """Ada, who asks, and Bob, of whom nothing may come back. Each has a row of every kind."""

    def __init__(self, client: httpx.AsyncClient, mailbox: Mailbox) -> None:
        self.client = client
        self.mailbox = mailbox
        self.codes: dict[str, list[str]] = {}
        self.tokens: dict[str, dict[str, str]] = {}
        self.personal: dict[str, str] = {}
        self.marks: set[str] = set()
        self.link = self.ended = ""

    async def sign_up(self, name: str) -> None:
        client, email = self.client, f"{name}@example.com"
        signup = await client.post("/auth/signup", json={"email": email, "password": PASSWORD})
        assert (await client.get(self.mailbox.link(email))).status_code == 200
        await self.sign_in(name)
        await self.send(name, "patch", "/account", json={"display_name": f"The real {name}"})
        body = {"name": f"of {name}", "scopes": ["notes:read"]}
        made = await self.send(name, "post", "/account/tokens", json=body)
        assert made.status_code == 201, made.text
        self.personal[name] = made.json()["token"]
        if name == "bob":
            self.marks |= {signup.json()["id"], email, "The real bob", "of bob", made.json()["id"]}
            sessions = (await self.send(name, "get", "/account/sessions")).json()
            self.marks |= {each["id"] for each in sessions}

    async def enable_two_factor(self, name: str) -> None:
        await self.send(name, "post", "/auth/2fa/enable")
        user = await User.get(email=f"{name}@example.com")
        code = pyotp.TOTP(user.totp_secret or "").now()
        assert (await self.send(name, "post", "/auth/2fa/verify", json={"code": code})).status_code == 200
        self.codes[name] = (await self.send(name, "post", "/auth/2fa/recovery-codes")).json()["codes"]

    async def sign_in(self, name: str, **more: object) -> httpx.Response:
        body = {"email": f"{name}@example.com", "password": PASSWORD} | more
        answer = await self.client.post("/auth/login", json=body)
        if answer.status_code == 200:
            self.tokens[name] = answer.json()
        return answer

    async def send(self, name: str, verb: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[name]['access_token']}"}
        return await self.client.request(verb, path, headers=headers, **options)


Ask = Callable[[Two], Awaitable[httpx.Response]]


def by_ada(verb: str, path: str, **options: Any) -> Ask:
    return lambda two: two.send("ada", verb, path, **options)


async def with_token(two: Two) -> httpx.Response:
    headers = {"Authorization": f"Bearer {two.personal['ada']}"}
    return await two.client.get("/notes", headers=headers)


async def refresh(two: Two) -> httpx.Response:
    answer = await two.client.post("/auth/refresh", json={"token": two.tokens["ada"]["refresh_token"]})
    if answer.status_code == 200:
        two.tokens["ada"] = answer.json()
    return answer


async def reset(two: Two) -> httpx.Response:
    return await two.client.post(two.link, json={"new_password": PASSWORD})


async def with_a_code_of_bob(two: Two) -> httpx.Response:
    return await two.sign_in("carol", code=two.codes["bob"][0])


async def in_an_ended_session(two: Two) -> httpx.Response:
    headers = {"Authorization": f"Bearer {two.ended}"}
    return await two.client.get("/auth/me", headers=headers)


async def with_a_code(two: Two) -> httpx.Response:
    return await two.sign_in("carol", code=two.codes["carol"][0])


async def prepare(two: Two, asked: str) -> None:
    """What has to be there before each try."""
    await two.sign_in("ada")
    if asked == "reset":
        await two.client.post("/auth/forgot-password", json={"email": "dave@example.com"})
        two.link = two.mailbox.link("dave@example.com")
    if asked == "recovery code":
        two.codes["carol"] = (await two.send("carol", "post", "/auth/2fa/recovery-codes")).json()["codes"]
    if asked == "ended session":
        two.ended = two.tokens["ada"]["access_token"]
        await two.send("ada", "post", "/auth/logout")


ASKED: dict[str, tuple[Ask, int]] = {
    "me": (by_ada("get", "/auth/me"), 200),
    "account": (by_ada("get", "/account"), 200),
    "change": (by_ada("patch", "/account", json={"display_name": "Ada"}), 200),
    "sessions": (by_ada("get", "/account/sessions"), 200),
    "tokens": (by_ada("get", "/account/tokens"), 200),
    "activity": (by_ada("get", "/account/activity"), 200),
    "login": (lambda two: two.sign_in("ada"), 200),
    "refresh": (refresh, 200),
    "personal token": (with_token, 200),
    "reset": (reset, 200),
    "recovery code": (with_a_code, 200),
    "recovery code of another": (with_a_code_of_bob, 401),
    "ended session": (in_an_ended_session, 401),
}


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """An app in which Ada may ask for all that is asked here."""
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        clock=clock,
        features=[PersonalTokens(scopes={"notes:read": "Read your notes"}), AuditLog()],
    )

    @app.get("/notes")
    async def notes(user: Annotated[User, Depends(require(scope="notes:read"))]) -> str:
        return user.email

    @app.get("/unchecked/{user_id}")
    async def unchecked(user_id: UUID) -> str:
        """As a host may do it."""
        return (await User.get(id=user_id)).email

    return app


@pytest.fixture
async def shadow(database: Database) -> AsyncIterator[tuple[str, Shadow]]:
    with PgBouncer(database.url, default_pool_size=1) as pooler:
        server = await asyncpg.connect(pooler.url, statement_cache_size=0)
        yield f"{pooler.url}?minsize=1&maxsize=1", Shadow(server)
        await server.close()


@pytest.fixture
async def two(app: FastAPI, shadow: tuple[str, Shadow], mailbox: Mailbox) -> AsyncIterator[Two]:
    async with tortoise_on(shadow[0]) as context:
        await databases.empty(context, "postgres")
        app.state.pluggable_auth.pooler.settled = True  # as where the pooler came later
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            two = Two(client, mailbox)
            for name in ("ada", "bob", "carol", "dave"):
                await two.sign_up(name)
            for name in ("bob", "carol"):
                await two.enable_two_factor(name)
            yield two
        await app.state.pluggable_auth.close()


async def rows_of_bob(shadow: Shadow) -> dict[str, list[Any]]:
    bob = await shadow.fetch('SELECT * FROM "user" WHERE email = $1', "bob@example.com")
    owned = set(databases.TABLES) - {"user", "auth_throttle", "auth_oauth_client", "auth_oauth_client_token"}
    of = {table: f"SELECT * FROM {table} WHERE user_id = $1 ORDER BY id" for table in owned}
    return {"user": bob} | {table: await shadow.fetch(query, bob[0]["id"]) for table, query in of.items()}


QUICK = ("me", "sessions", "login", "refresh", "recovery code of another")


@pytest.mark.parametrize(
    "asked", [each if each in QUICK else pytest.param(each, marks=pytest.mark.full) for each in ASKED]
)
async def test_whatever_a_pooler_answers_nobody_gets_what_is_another_s(
    asked: str, two: Two, shadow: tuple[str, Shadow], caplog: pytest.LogCaptureFixture
) -> None:
    """Each query that a request makes is answered with the rows of another, in every way there is."""
    (ask, right), (_, other) = ASKED[asked], shadow
    before = await rows_of_bob(other)
    for _ in range(2):
        await prepare(two, asked)
        with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
            caplog.clear()
            assert (await ask(two)).status_code == right
    used = {line.rpartition(": ")[0] for line in caplog.messages if line.startswith("SELECT")}
    queries = [each for each in await other.statements(used) if "$1" in each[1]]
    assert queries
    answers = Counter()
    for name, statement, types in queries:
        for turned in turned_round(statement, str(before["user"][0]["id"])):
            await prepare(two, asked)
            await other.prepare(name, turned, types)
            answer = await ask(two)
            await other.prepare(name, statement, types)
            answers[answer.status_code] += 1
            assert not [mark for mark in two.marks if mark in answer.text], (turned, answer.text)
            assert right == 200 or answer.status_code >= 400, (turned, answer.text)
    assert answers[503]
    assert await rows_of_bob(other) == before


async def test_a_token_is_not_spent_by_the_statement_of_another(
    two: Two, shadow: tuple[str, Shadow], caplog: pytest.LogCaptureFixture
) -> None:
    """Which spends those of everybody else: what it wrote is taken back."""
    before = await rows_of_bob(shadow[1])
    with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
        assert (await refresh(two)).status_code == 200
    used = {line.rpartition(": ")[0] for line in caplog.messages if line.startswith("UPDATE")}
    ((name, statement, types),) = [
        each for each in await shadow[1].statements(used) if each[1].startswith('UPDATE "refreshtoken"')
    ]
    await shadow[1].prepare(name, statement.replace('"token"=', '"token"<>'), types)
    assert (await refresh(two)).status_code == 503
    assert await rows_of_bob(shadow[1]) == before


async def test_a_query_without_a_check_would_be_answered_with_the_rows_of_another(
    two: Two, shadow: tuple[str, Shadow], caplog: pytest.LogCaptureFixture
) -> None:
    """So the test above sees what it looks for."""
    path = f"/unchecked/{(await two.send('ada', 'get', '/auth/me')).json()['id']}"
    with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
        caplog.clear()
        assert (await two.client.get(path)).json() == "ada@example.com"
    used = {line.rpartition(": ")[0] for line in caplog.messages if line.startswith("SELECT")}
    ((name, statement, types),) = await shadow[1].statements(used)
    bob = (await rows_of_bob(shadow[1]))["user"][0]["id"]
    (turned,) = turned_round(statement, str(bob))
    await shadow[1].prepare(name, turned, types)
    assert (await two.client.get(path)).json() == "bob@example.com"
