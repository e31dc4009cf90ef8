"""Databases that are down, half there, in the way or moved: what requests, the background and the log make of
it."""

from __future__ import annotations

import ast
import asyncio
import logging
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from asyncmy.errors import OperationalError as MariaDBError
from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.middleware.base import RequestResponseEndpoint
from tortoise.context import TortoiseContext
from tortoise.exceptions import DoesNotExist, OperationalError
from tortoise.transactions import atomic, in_transaction

import fastapi_pluggable_auth
from fastapi_pluggable_auth import Auth, AuthSettings, failures, include_auth, open_session
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.database import in_one_transaction
from fastapi_pluggable_auth.email import dispatcher as dispatcher_module
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.failures import Failure, failure_of, sentence
from fastapi_pluggable_auth.features import (
    Administration,
    AuditLog,
    EmailSignIn,
    OAuthServer,
    Passkeys,
    PersonalTokens,
)
from fastapi_pluggable_auth.features.administration.users import create_user
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import (
    AuditEvent,
    Identity,
    Mail,
    OAuthClient,
    OAuthClientToken,
    OAuthDevice,
    OAuthGrant,
    OAuthToken,
    Passkey,
    Pending,
    PersonalToken,
    RecoveryCode,
    Tables,
    Throttle,
    User,
)

from . import databases, postgres
from .conftest import EMAIL, PASSWORD, Account, Mailbox
from .proxy import Proxy
from .spare_database import SpareDatabase
from .test_input import VALID
from .test_keys import EC, pem_of

PACKAGE = Path(fastapi_pluggable_auth.__file__).parent
LOGIN = {"email": EMAIL, "password": PASSWORD}

on_postgres = pytest.mark.parametrize("spare", ["postgres"], indirect=True)
on_mariadb = pytest.mark.parametrize("spare", ["mysql"], indirect=True)
on_servers = pytest.mark.parametrize("spare", ["postgres", "mysql"], indirect=True)


def new_app(settings: AuthSettings) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, pages=True)
    return app


@asynccontextmanager
async def served(
    settings: AuthSettings, dialect: str, url: str, *, user: bool = True, app: FastAPI | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, Auth]]:
    """An app that runs on this database, and its client."""
    app = app or new_app(settings)
    auth: Auth = app.state.pluggable_auth
    async with TortoiseContext() as context:
        await context.init(databases.config(url, dialect))
        async with app.router.lifespan_context(app):
            if user:
                await create_user(auth, EMAIL, PASSWORD, verified=True)
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
                yield client, auth


async def code(answer: Awaitable[httpx.Response]) -> tuple[int, str]:
    response = await answer
    return response.status_code, response.json().get("code", "")


async def log_in(client: httpx.AsyncClient) -> tuple[int, str]:
    return await code(client.post("/auth/login", json=LOGIN))


async def me(client: httpx.AsyncClient, token: str) -> tuple[int, str]:
    return await code(client.get("/auth/me", headers={"Authorization": f"Bearer {token}"}))


async def token_of(client: httpx.AsyncClient) -> str:
    return str((await client.post("/auth/login", json=LOGIN)).json()["access_token"])


HALF_MIGRATED = [("user", "signup_binding"), ("auth_session", "superseded"), ("auth_mail", "context")]
ORDINARY = ("count", "attempts", "created_at", "time", "digest")
"""A column of each table that may be written."""
UNAVAILABLE = (503, "database_unavailable")
OK = (200, "")


def loud(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What anybody has logged about a fault, but for events of security, and asyncpg's pool, which tells of
    its connections by itself, with pauses that grow."""
    others = {"fastapi_pluggable_auth.security", "asyncpg.pool"}
    lines = [each for each in caplog.records if each.levelno >= logging.WARNING and each.name not in others]
    assert [each for each in lines if each.exc_info] == [], "a line is a line"
    return [each.getMessage() for each in lines]


@on_postgres
async def test_connections_that_have_become_read_only_are_dropped(
    spare: SpareDatabase, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a failover by name. The pool would keep them for ever."""
    await spare.create("fastapi_pluggable_auth.models")
    async with served(settings, spare.dialect, f"{spare.url}?minsize=3&maxsize=3") as (client, _):
        token = await token_of(client)
        name = spare.url.rpartition("/")[2]
        await spare.query(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        await spare.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for _ in range(10):
            await me(client, token)
        assert await me(client, token) == OK, "it can still be read"
        assert await log_in(client) == UNAVAILABLE
        assert "read-only, as a standby is" in caplog.text
        for _ in range(10):
            await me(client, token)
        async with in_transaction() as connection:
            await connection.execute_script("SET TRANSACTION READ WRITE")
            await connection.execute_script(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await log_in(client)
        assert [await log_in(client) for _ in range(5)] == [OK] * 5


@on_mariadb
async def test_read_only_connections_to_mariadb_are_dropped_too(
    spare: SpareDatabase, settings: AuthSettings
) -> None:
    await spare.create("fastapi_pluggable_auth.models")
    async with served(settings, spare.dialect, f"{spare.url}?maxsize=1") as (client, _):
        assert await log_in(client) == OK
        await User._meta.db.execute_query("SET SESSION TRANSACTION READ ONLY")
        assert await log_in(client) == UNAVAILABLE
        assert await log_in(client) == OK


@on_mariadb
async def test_those_that_a_transaction_of_the_host_held_are_dropped_after_it(
    spare: SpareDatabase, settings: AuthSettings
) -> None:
    await spare.create("fastapi_pluggable_auth.models")
    app = new_app(settings)

    @app.middleware("http")
    async def in_a_transaction(request: Request, call_next: RequestResponseEndpoint) -> Response:
        async with in_transaction():
            return await call_next(request)

    async with served(settings, spare.dialect, f"{spare.url}?maxsize=1", app=app) as (client, _):
        assert await log_in(client) == OK
        await User._meta.db.execute_query("SET SESSION TRANSACTION READ ONLY")
        assert await log_in(client) == UNAVAILABLE
        async with asyncio.timeout(10):
            while await log_in(client) != OK:
                await asyncio.sleep(0.1)


@on_mariadb
async def test_a_statement_that_has_waited_too_long_for_a_lock_is_tried_again(
    spare: SpareDatabase, settings: AuthSettings
) -> None:
    await spare.create("fastapi_pluggable_auth.models")
    init = "init_command=SET SESSION innodb_lock_wait_timeout=1"
    async with served(settings, spare.dialect, f"{spare.url}?{init}") as (_, auth):
        await rows_of_every_kind(auth)
        async with in_transaction():
            await Throttle.filter(id="x").update(count=2)
            waiting = asyncio.create_task(beside(auth, Throttle, "x", "count", 3))
            await asyncio.sleep(1.3)
            assert not waiting.done()
        assert await waiting == 1
        assert (await Throttle.get(id="x")).count == 3


@on_mariadb
async def test_a_row_that_has_changed_since_the_snapshot_is_read_again(
    spare: SpareDatabase, settings: AuthSettings
) -> None:
    """MariaDB 11.6 and later say so by default, with an error of its own."""
    await spare.create("fastapi_pluggable_auth.models")
    init = "init_command=SET SESSION innodb_snapshot_isolation=ON"
    async with served(settings, spare.dialect, f"{spare.url}?{init}") as (_, auth):
        await rows_of_every_kind(auth)
        seen: list[int] = []

        async def count() -> None:
            seen.append((await Throttle.get(id="x")).count)
            if len(seen) == 1:
                await asyncio.create_task(beside(auth, Throttle, "x", "count", 7))
            await Throttle.filter(id="x").update(count=seen[-1] + 1)

        await in_one_transaction(spare.dialect, count)
        assert seen == [1, 7]
        assert (await Throttle.get(id="x")).count == 8


@on_postgres
async def test_a_migration_beneath_a_running_app_costs_no_request(
    spare: SpareDatabase, settings: AuthSettings
) -> None:
    """A statement that was prepared before gives other types now: PostgreSQL refuses it once."""
    await spare.create("fastapi_pluggable_auth.models")
    async with served(settings, spare.dialect, f"{spare.url}?maxsize=1") as (_, auth):
        await rows_of_every_kind(auth)

        async def count() -> int:
            return (await Throttle.get(id="x")).count

        assert await in_one_transaction(spare.dialect, count) == 1
        await spare.query("ALTER TABLE auth_throttle ALTER COLUMN count TYPE BIGINT")
        assert await in_one_transaction(spare.dialect, count) == 1


@on_postgres
async def test_a_server_that_is_not_what_the_url_asks_for_is_an_outage(
    spare: SpareDatabase,
    settings: AuthSettings,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncpg raises an `InternalClientError`, which is none of its other classes."""
    monkeypatch.setattr(dispatcher_module, "POLL_SECONDS", 0.01)
    await spare.create("fastapi_pluggable_auth.models")
    name = spare.url.rpartition("/")[2]
    await spare.query(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    url = f"{spare.url}?target_session_attrs=read-write"
    try:
        async with served(settings, spare.dialect, url, user=False) as (client, auth):
            assert await log_in(client) == UNAVAILABLE
            with pytest.raises(Exception, match="None of the hosts") as raised:
                await purge(auth)
            assert failure_of(raised.value) is Failure.UNAVAILABLE
            while "Taking mails from the outbox failed" not in caplog.text:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert auth.dispatcher._running is not None
            assert not auth.dispatcher._running.done()
        assert caplog.text.count("Taking mails from the outbox failed") == 1
        assert "Traceback" not in caplog.text
        assert await asyncio.to_thread(main, ["check", "--database-url", url]) == 1
        assert await asyncio.to_thread(main, ["check", "--database-url", spare.url]) == 1
    finally:
        await postgres_admin(spare, f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    shown = [line for line in capsys.readouterr().out.splitlines() if " database: " in line]
    assert ["TargetServerAttributeNotMatched" in shown[0], "read-only" in shown[1]] == [True, True], shown


async def postgres_admin(spare: SpareDatabase, sql: str) -> None:
    async with spare.opened(), in_transaction() as connection:
        await connection.execute_script("SET TRANSACTION READ WRITE")
        await connection.execute_script(sql)


@on_servers
async def test_an_app_that_starts_before_its_database_works_once_that_is_there(
    spare: SpareDatabase, settings: AuthSettings, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "POLL_SECONDS", 0.01)
    await spare.create("fastapi_pluggable_auth.models")
    with Proxy(spare.url) as proxy:
        proxy.refuse()
        async with served(settings, spare.dialect, proxy.url, user=False) as (client, _):
            assert await log_in(client) == UNAVAILABLE
            proxy.recover()
            signup = await client.post("/auth/signup", json=LOGIN)
            assert signup.status_code == 201
            await mailbox.server.wait(1)


@on_servers
async def test_a_database_that_is_down_makes_a_line_a_second_for_all_requests(
    spare: SpareDatabase,
    settings: AuthSettings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever logs: the library, Tortoise, the driver or asyncio."""
    monkeypatch.setattr(dispatcher_module, "POLL_SECONDS", 0.01)
    await spare.create("fastapi_pluggable_auth.models")
    with Proxy(spare.url) as proxy:
        async with served(settings, spare.dialect, proxy.url) as (client, _):
            token = await token_of(client)
            proxy.refuse()
            caplog.clear()
            loop = asyncio.get_running_loop()
            started = loop.time()
            signup = {"email": "new@example.com", "password": PASSWORD}
            for _ in range(10):
                answers = await asyncio.gather(
                    *(me(client, token) for _ in range(5)),
                    *(log_in(client) for _ in range(3)),
                    code(client.post("/auth/signup", json=signup)),
                    code(client.post("/auth/forgot-password", json={"email": EMAIL})),
                )
                assert {*answers} == {UNAVAILABLE}
            seconds = loop.time() - started
            lines = loud(caplog)
            proxy.recover()
    assert "Taking mails from the outbox failed" in str(lines)
    assert 2 <= len(lines) <= 2 + 1 + seconds, lines


async def test_tables_and_columns_that_are_missing_are_one_line_that_says_what_to_do(
    spare: SpareDatabase, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    await spare.create()
    settings.deliver_mail = False
    async with served(settings, spare.dialect, spare.url, user=False) as (client, _):
        caplog.clear()
        missing = (503, "database_not_migrated")
        assert [await log_in(client) for _ in range(5)] == [missing] * 5
        assert len(loud(caplog)) == 1
        assert "run `tortoise migrate`" in caplog.text
        assert "Traceback" not in caplog.text
    await spare.create("fastapi_pluggable_auth.models")
    async with served(settings, spare.dialect, spare.url) as (client, _):
        for table, column in HALF_MIGRATED:
            statement = f"ALTER TABLE {spare.quoted(table)} DROP COLUMN {column}"
            await User._meta.db.execute_script(statement)
            signup = code(
                client.post("/auth/signup", json={"email": f"{column}@example.com", "password": PASSWORD})
            )
            assert missing in (await log_in(client), await signup), column


@pytest.mark.parametrize("spare", ["postgres"], indirect=True)
async def test_a_statement_by_itself_is_tried_again_on_every_table(
    spare: SpareDatabase, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Where another transaction changes the row first, a serializable one fails: a real conflict, of code
    that knows nothing of it."""
    await spare.create("fastapi_pluggable_auth.models")
    name = spare.url.rpartition("/")[2]
    await spare.query(f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable')
    settings.deliver_mail = False
    async with served(settings, spare.dialect, spare.url) as (client, auth):
        assert await log_in(client) == OK
        await rows_of_every_kind(auth)
        for table in Tables():
            column = next(each for each in ORDINARY if each in table._meta.fields_map)
            row = await table.first()
            assert row is not None, table
            async with in_transaction():
                await table.filter(pk=row.pk).update(**{column: getattr(row, column)})
                context = asyncio.create_task(beside(auth, table, row.pk, column, getattr(row, column)))
                await asyncio.sleep(0.05)
                assert not context.done(), f"{table} was not in the way"
            assert await context == 1, table
    assert [line for line in loud(caplog) if "conflict" in line or "serialize" in line] == []


async def beside(auth: Auth, table: Any, key: Any, column: str, value: Any) -> int:
    """The same update on another connection, by itself."""
    from fastapi_pluggable_auth._frameworks import root_of

    connections = auth.tortoise_context.connections  # type: ignore[union-attr]
    name = table._meta.default_connection
    connections.set(name, root_of(connections.get(name)))
    return int(await table.filter(pk=key).update(**{column: value}))


async def rows_of_every_kind(auth: Auth) -> None:
    tables, now, user = auth.tables, auth.clock(), await User.get()
    later = now + timedelta(days=1)
    await auth.outbox.add(MailKind.VERIFY, EMAIL, user_id=user.id)
    await tables.of(RecoveryCode).create(user_id=user.id, digest="0" * 64)
    await tables.of(PersonalToken).create(
        user_id=user.id, name="x", digest="1" * 64, expires_at=later, created_at=now
    )
    await tables.device.create(user_id=user.id, digest="2" * 64, expires_at=later, last_used_at=now)
    await Pending.create(id="3" * 64, user_id=user.id, kind="x", data="", expires_at=later)
    await Throttle.create(id="x", count=1, started_at=now, blocked_until=now)
    await tables.of(AuditEvent).create(time=now, user_id=user.id, kind="login", outcome="success")
    await tables.of(Passkey).create(
        user_id=user.id,
        digest="4" * 64,
        credential_id="eA",
        public_key="eA",
        transports=[],
        aaguid=UUID(int=0),
        backup_eligible=False,
        backed_up=False,
        verifies_user=True,
        name="x",
    )
    await tables.of(Identity).create(user_id=user.id, provider="x", issuer="x", subject="x", digest="5" * 64)
    client = await tables.of(OAuthClient).create(client_id="x", digest="6" * 64, name="x")
    own = {"user_id": user.id, "expires_at": later}
    grant = await tables.of(OAuthGrant).create(client_id=client.id, authorized_at=now, **own)
    await tables.of(OAuthToken).create(grant_id=grant.id, kind="code", digest="7" * 64, **own)
    waiting = {"client_id": client.id, "expires_at": later}
    await tables.of(OAuthDevice).create(digest="8" * 64, user_code_digest="9" * 64, **waiting)
    await tables.of(OAuthClientToken).create(digest="a" * 64, **waiting)


@pytest.mark.parametrize("spare", [pytest.param("postgres", marks=pytest.mark.full), "mysql"], indirect=True)
async def test_a_storm_on_one_account_is_no_outage(
    spare: SpareDatabase,
    settings: AuthSettings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Serializable transactions, all on the same few rows: logins, wrong passwords, refreshes, mails, the
    outbox and the purge."""
    monkeypatch.setattr(dispatcher_module, "POLL_SECONDS", 0.01)
    settings.database_timeout = timedelta(seconds=30)
    settings.throttle_free_attempts = 1000
    await spare.create("fastapi_pluggable_auth.models")
    if spare.dialect == "postgres":
        name = spare.url.rpartition("/")[2]
        await spare.query(f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable')
    init = (
        ""
        if spare.dialect == "postgres"
        else "&init_command=SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"
    )
    async with served(settings, spare.dialect, f"{spare.url}?maxsize=8{init}") as (client, auth):
        tokens = [(await client.post("/auth/login", json=LOGIN)).json() for _ in range(6)]
        caplog.clear()
        wrong = LOGIN | {"password": "a wrong password"}
        answers: list[httpx.Response] = []
        for number in range(3):
            fresh = tokens[2 * number : 2 * number + 2]
            answers += await asyncio.gather(
                *(client.post("/auth/refresh", json={"token": each["refresh_token"]}) for each in fresh),
                *(client.post("/auth/login", json=LOGIN) for _ in range(4)),
                *(client.post("/auth/login", json=wrong) for _ in range(4)),
                *(client.post("/auth/forgot-password", json={"email": EMAIL}) for _ in range(2)),
                *(client.post("/auth/signup", json=LOGIN | {"email": "new@example.com"}) for _ in range(2)),
            )
            await asyncio.gather(purge(auth), purge(auth))
    unavailable = [answer.text for answer in answers if answer.status_code >= 500]
    assert unavailable == []
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_what_follows_on_answers_outlives_every_error(
    account: Account, auth: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    """The jobs behind one that fails are done; by whatever it fails."""
    errors = [ValueError(), OSError(), asyncio.CancelledError(), BaseException(), DoesNotExist("x")]
    done: list[int] = []

    def job(number: int, error: BaseException) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            done.append(number)
            raise error

        return work

    for number, error in enumerate(errors):
        await auth.afterwards.add("a job", job(number, error))
    assert done == [0, 1, 2, 3, 4]
    assert auth.afterwards.idle


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_mails_that_fail_in_any_way_do_not_end_the_dispatcher(
    auth: Auth, tortoise: TortoiseContext, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "POLL_SECONDS", 0.01)
    user = await User.create(email=EMAIL, hashed_password="x")
    claim = auth.outbox.claim
    errors = [OSError(), KeyError(), asyncio.CancelledError(), BaseException(), OperationalError("gone")]

    async def failing(*arguments: Any) -> list[Any]:
        if errors:
            raise errors.pop()
        return await claim(*arguments)

    monkeypatch.setattr(auth.outbox, "claim", failing)
    await auth.outbox.add(MailKind.VERIFY, EMAIL, user_id=user.id)
    auth.dispatcher.start()
    await mailbox.server.wait(1)
    await asyncio.wait_for(auth.dispatcher.stop(), 10)
    assert errors == []
    assert await Mail.filter(state="sent").count() == 1


def test_every_task_in_the_background_is_known_to_these_tests() -> None:
    """A new one comes with a test that it outlives what it meets."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {
                "create_task",
                "ensure_future",
            }:
                found.add(f"{path.relative_to(PACKAGE)}: {ast.unparse(node.args[0])}")
    assert found == {
        "plugin.py: keep_purging(auth, stop)",  # test_purge.py
        "poolers.py: self._look()",  # raises nothing
        "shared_reads.py: self._select.all(database, [*batch.waiting.values()])",  # test_shared_reads.py
        "email/dispatcher.py: self._run()",  # above
        "email/dispatcher.py: self._handle(mail)",  # one mail
        "afterwards.py: self._run()",  # above
        "afterwards.py: _awaited(job.work)",  # one job of it
        "afterwards.py: ask()",  # waited for
        "autonomous.py: self._run_on(client, work, _again_at_once)",  # waited for
        "autonomous.py: work",  # one piece of work, logged
        "database.py: work",  # a request
        "database.py: _drop_later(root_of(client))",  # raises nothing
        "testing.py: app(scope, self._sent.get, self._take)",  # the socket of a test, waited for
    }


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (OperationalError(MariaDBError(1290, "running with the --read-only option")), Failure.READ_ONLY),
        (OperationalError(MariaDBError(1792, "in a READ ONLY transaction")), Failure.READ_ONLY),
        (MariaDBError(1213, "Deadlock found"), Failure.CONFLICT),
        (DoesNotExist("User"), None),
        (OSError("of something else"), None),
        (RuntimeError("a bug"), None),
    ],
)
def test_failures_are_told_apart(error: Exception, meant: Failure | None) -> None:
    assert failure_of(error) is meant


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ConnectionRefusedError("of another service")])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_what_code_of_the_host_raises_below_tortoise_is_no_failure_of_the_database(
    tortoise: TortoiseContext, error: Exception
) -> None:
    """`atomic` calls it, and so do signals and models."""

    @atomic()
    async def work() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await work()
    assert failure_of(raised.value) is None


def test_what_a_database_says_is_logged_as_one_line_of_bounded_length() -> None:
    said = sentence(OperationalError(f"\033[2J gone {'x' * 100_000}\nsecond line"))
    assert "\033" not in said
    assert "second" not in said
    assert "gone x" in said
    assert len(said) < 1000


def check(url: str) -> str:
    """What the command prints, in a process of its own: Tortoise's models have one connection."""
    command = [sys.executable, "-m", "fastapi_pluggable_auth", "check", "--database-url", url]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


@pytest.mark.full
async def test_a_failover_by_name_costs_a_request_and_no_restart(settings: AuthSettings) -> None:
    """With a primary and a standby of its own: the name leads to the standby for a moment, then back; then
    the primary dies and the standby takes over."""
    if problem := postgres.missing():
        pytest.skip(problem)
    with postgres.servers(2) as (primary, standby):
        primary.create()
        primary.start()
        await databases.create(f"{primary.url.rpartition('/')[0]}/app", "postgres")
        await asyncio.to_thread(standby.copy, primary)
        standby.start()
        urls = [f"{server.url.rpartition('/')[0]}/app" for server in (primary, standby)]
        with Proxy(urls[0]) as proxy:
            async with served(settings, "postgres", f"{proxy.url}?minsize=3&maxsize=3") as (client, _):
                token = await token_of(client)
                postgres.wait_until_follows(standby, primary)
                proxy.move(urls[1])
                proxy.cut()
                for _ in range(5):
                    await me(client, token)
                assert await me(client, token) == OK
                assert await log_in(client) == UNAVAILABLE
                await asyncio.gather(*(me(client, token) for _ in range(10)))
                assert "FAIL  database: read-only, as a standby is" in await asyncio.to_thread(check, urls[1])
                strict = f"{urls[1]}?target_session_attrs=read-write"
                assert "TargetServerAttributeNotMatched" in await asyncio.to_thread(check, strict)
                assert "ok    database" in await asyncio.to_thread(check, urls[0])
                proxy.move(urls[0])
                await log_in(client)
                assert [await log_in(client) for _ in range(5)] == [OK] * 5
                postgres.wait_until_follows(standby, primary)
                primary.stop()
                proxy.move(urls[1])
                standby.promote()
                await log_in(client)
                assert [await log_in(client) for _ in range(5)] == [OK] * 5
                assert await me(client, token) == OK


@on_postgres
async def test_a_request_that_fails_for_the_database_writes_one_line_at_most(
    spare: SpareDatabase,
    settings: AuthSettings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On every route, as JSON and as a form, with and without a session, where no line is held back; and one
    for fifty, where they are. Events of security are lines, too; asyncpg's pool has its own, with pauses that
    grow."""
    settings.deliver_mail, settings.cookies = False, True
    settings.jwt_algorithm, settings.jwt_private_key = "ES256", pem_of(EC)
    await spare.create("fastapi_pluggable_auth.models")
    app = FastAPI()
    features = [Administration(), AuditLog(), Passkeys(), PersonalTokens(scopes={"x": "X"}), EmailSignIn()]
    oauth = OAuthSettings(_env_file=None, oauth_registration=True, oauth_openid=True)  # type: ignore[call-arg]
    features.append(OAuthServer(resources=["/api"], settings=oauth))
    include_auth(app, settings=settings, pages=True, features=features)
    operations = {
        (method, re.sub(r"\{\w+\}", str(UUID(int=0)), route.path))
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert len(operations) > 100
    with Proxy(spare.url) as proxy:
        async with served(settings, "postgres", proxy.url, app=app) as (client, auth):
            opened = await open_session(auth, await User.get())
            signed_in = {"Authorization": f"Bearer {opened.access_token}"}
            browser = {"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}
            form = {name: str(value) for name, value in VALID.items()}
            as_anybody: list[dict[str, Any]] = [
                {"json": VALID, "headers": signed_in},
                {"json": VALID},
                {"data": form, "headers": browser},
            ]
            proxy.refuse()
            monkeypatch.setattr(failures, "QUIET_SECONDS", 0.0)
            statuses: Counter[int] = Counter()
            for method, path in sorted(operations):
                for options in as_anybody:
                    caplog.clear()
                    answer = await client.request(method, path, **options)
                    statuses[answer.status_code] += 1
                    written = [
                        each.getMessage()
                        for each in caplog.records
                        if each.levelno >= logging.WARNING and each.name != "asyncpg.pool"
                    ]
                    assert len(written) <= 1, (method, path, answer.status_code, written)
                    assert answer.status_code < 500 or answer.status_code == 503, (method, path)
            assert statuses[503] > 60
            monkeypatch.setattr(failures, "QUIET_SECONDS", 3600.0)
            await me(client, opened.access_token)
            caplog.clear()
            await asyncio.gather(*(me(client, opened.access_token) for _ in range(50)))
            assert loud(caplog) == []
