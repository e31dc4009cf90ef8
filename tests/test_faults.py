"""Faults of networks, databases and machines, under uvicorn with two workers."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import httpx
import pyotp
import pytest
from fastapi import FastAPI
from jose import jwt
from tortoise.context import TortoiseContext
from tortoise.transactions import in_transaction

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.email.tokens import Purpose, link_state
from fastapi_pluggable_auth.features.feature import MailTable
from fastapi_pluggable_auth.features.two_factor.flows import TwoFactorMail
from fastapi_pluggable_auth.flows.rotation import rotate
from fastapi_pluggable_auth.flows.session_tokens import TokenSet
from fastapi_pluggable_auth.flows.sessions import start_session
from fastapi_pluggable_auth.models import Mail, RefreshToken, Session, User
from fastapi_pluggable_auth.security import hashing
from fastapi_pluggable_auth.security.hashing import hash_password
from fastapi_pluggable_auth.security.totp import generate_totp_secret

from . import databases
from .conftest import PASSWORD, Account, Database, Mailbox
from .proxy import Proxy
from .smtp_server import MailServer
from .test_workers import Server

TIMEOUT = 1.0
"""`DATABASE_TIMEOUT` of a server in a hurry."""

PATIENCE = 30.0
"""`DATABASE_TIMEOUT` otherwise: enough under any load."""

SWITCHED_ON = TwoFactorMail.TWO_FACTOR_ENABLED

moments = random.SystemRandom()

on_postgres = pytest.mark.parametrize("database", ["postgres"], indirect=True)
on_servers = pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

IN_TRANSACTION = {
    "postgres": "SELECT 1 FROM pg_stat_activity WHERE state <> 'idle'"
    " AND datname = current_database() AND pid <> pg_backend_pid()",
    "mysql": "SELECT 1 FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
    " ON p.id = t.trx_mysql_thread_id WHERE p.db = DATABASE()",
}

CONNECTIONS = 5
"""Those of a worker's pool, unless the app says otherwise."""

WAITING = (
    "SELECT count(*) AS connections FROM pg_locks WHERE NOT granted AND relation = 'refreshtoken'::regclass"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)

Settled = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Deployment:
    """A server that stays up from test to test, and the proxy that it takes for its database."""

    server: Server
    proxy: Proxy


@pytest.fixture(scope="module")
def deployments(
    mail_server: MailServer, database_urls: Callable[[str], str]
) -> Iterator[Callable[[str], Deployment]]:
    """Gives the deployment of a dialect, which is started on first use."""
    running: dict[str, Deployment] = {}
    with pytest.MonkeyPatch.context() as patch, ExitStack() as proxies:
        patch.setenv("AUTH_DATABASE_TIMEOUT", str(PATIENCE))
        patch.setenv("AUTH_THROTTLE_FREE_ATTEMPTS", "1000")

        def start(dialect: str) -> Deployment:
            if dialect not in running:
                proxy = proxies.enter_context(Proxy(database_urls(dialect)))
                server = Server(Database(dialect, proxy.url), mail_server.port)
                running[dialect] = Deployment(server, proxy)
            return running[dialect]

        yield start
        for deployment in running.values():
            deployment.server.stop()


@pytest.fixture
async def deployment(
    deployments: Callable[[str], Deployment], database: Database, tortoise: TortoiseContext, mailbox: Mailbox
) -> AsyncIterator[Deployment]:
    """Two workers on an empty database, and replaced after a test that they did not get over."""
    deployment = deployments(database.dialect)
    yield deployment
    deployment.proxy.recover()
    try:
        async with client_of(deployment.server) as http:
            await until(lambda: idle(http, deployment.server, database.dialect, tortoise), 5)
    except (TimeoutError, httpx.TransportError):
        deployment.server.kill()
        deployment.server.start()


@pytest.fixture
def server(deployment: Deployment) -> Server:
    return deployment.server


@pytest.fixture
def proxy(deployment: Deployment) -> Proxy:
    return deployment.proxy


@pytest.fixture
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(server) as http:
        yield http


def client_of(server: Server) -> httpx.AsyncClient:
    """A client that opens a connection for each request, so that both workers get some."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=server.base, limits=limits, timeout=20)


@pytest.fixture
def settled(
    http: httpx.AsyncClient, server: Server, database: Database, tortoise: TortoiseContext
) -> Settled:
    """Waits until all connections are given back and all transactions ended."""
    return lambda: until(lambda: idle(http, server, database.dialect, tortoise))


@asynccontextmanager
async def in_a_hurry(http: httpx.AsyncClient, server: Server) -> AsyncIterator[None]:
    """Both workers give the database `TIMEOUT` seconds meanwhile."""

    async def wait(seconds: float) -> None:
        told: set[int] = set()
        while told < server.workers:
            told.add((await http.put(f"/database-timeout/{seconds}")).json())

    await wait(TIMEOUT)
    try:
        yield
    finally:
        await wait(PATIENCE)


async def user_of(auth: Auth, email: str, **columns: object) -> User:
    """A verified user, stored by hand."""
    hashed = hash_password(PASSWORD, auth.settings)
    return await User.create(email=email, hashed_password=hashed, is_verified=True, **columns)


async def sessions_of(auth: Auth, user: User, count: int) -> list[TokenSet]:
    """New sessions of the user, started behind the server's back."""
    async with in_transaction():
        return [await start_session(auth, user) for _ in range(count)]


async def refresh(http: httpx.AsyncClient, tokens: TokenSet, **headers: str) -> httpx.Response:
    return await http.post("/auth/refresh", json={"token": tokens.refresh_token}, headers=headers)


async def me(http: httpx.AsyncClient, tokens: TokenSet) -> httpx.Response:
    return await http.get("/auth/me", headers={"Authorization": f"Bearer {tokens.access_token}"})


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 15) -> None:
    """Asks again until it is so."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def lent(http: httpx.AsyncClient, server: Server) -> dict[int, int]:
    """How many connections each worker has lent."""
    lent: dict[int, int] = {}
    while set(lent) < server.workers:
        lent |= dict([(await http.get("/busy")).json()])
    return lent


async def idle(http: httpx.AsyncClient, server: Server, dialect: str, connection: TortoiseContext) -> bool:
    """Whether no worker has lent a connection, and the database knows no transaction of theirs."""
    client = connection.connections.get(dialect)
    return (
        not any((await lent(http, server)).values())
        and not (await client.execute_query(IN_TRANSACTION[dialect]))[0]
    )


async def recovered(http: httpx.AsyncClient, tokens: TokenSet) -> None:
    """Waits until the server answers as if nothing had been, on both workers."""

    async def well() -> bool:
        answers = await asyncio.gather(*(me(http, tokens) for _ in range(20)))
        assert {answer.status_code for answer in answers} <= {200, 503}
        return {answer.status_code for answer in answers} == {200}

    await until(well)


def is_unavailable(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json().get("code")) == (503, "database_unavailable")


async def outcome(tokens: TokenSet) -> str:
    """What became of a refresh, which is whole or undone, in the eyes of one query."""
    claims = jwt.get_unverified_claims(tokens.refresh_token)
    family = {token.jti: token for token in await RefreshToken.filter(session_id=claims["sid"])}
    spent = family.pop(claims["jti"])
    if not spent.revoked:
        assert (family, spent.rotated_at, spent.replaced_by) == ({}, None, None)
        return "undone"
    assert [(jti, token.revoked) for jti, token in family.items()] == [(spent.replaced_by, False)]
    assert spent.rotated_at is not None
    return "done"


async def hang_up(server: Server, tokens: TokenSet) -> None:
    """Sends a refresh and resets the connection a moment later."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    body = f'{{"token": "{tokens.refresh_token}"}}'
    head = "POST /auth/refresh HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    await asyncio.sleep(moments.uniform(0, 0.02))
    writer.transport.abort()


async def lose_patience(http: httpx.AsyncClient, tokens: TokenSet) -> None:
    """A refresh that the host cancels a moment later."""
    answer = await refresh(http, tokens, **{"x-patience": str(moments.expovariate(40))})
    assert answer.status_code in {200, 504}


@on_servers
@pytest.mark.parametrize("way", ["hang_up", "lose_patience"])
async def test_refreshes_that_are_given_up_are_whole_or_undone_and_lose_no_connection(
    way: str, http: httpx.AsyncClient, server: Server, auth: Auth, settled: Settled
) -> None:
    """R-06: by clients that hang up, and by a host that cancels requests."""
    user, other = [await user_of(auth, f"{name}@example.com") for name in ("ada", "eve")]
    sessions = [*await sessions_of(auth, user, 100), *await sessions_of(auth, other, 100)]
    for start in range(0, 200, 8):
        batch = sessions[start : start + 8]
        if way == "hang_up":
            await asyncio.gather(*(hang_up(server, tokens) for tokens in batch))
        else:
            await asyncio.gather(*(lose_patience(http, tokens) for tokens in batch))
    await settled()
    outcomes = [await outcome(tokens) for tokens in sessions]
    assert set(outcomes) == {"done", "undone"} or way == "hang_up"
    undone = [tokens for tokens, ended in zip(sessions, outcomes, strict=True) if ended == "undone"]
    answers = await asyncio.gather(*(refresh(http, tokens) for tokens in undone[:20]))
    assert {answer.status_code for answer in answers} <= {200}
    login = await http.post("/auth/login", json={"email": user.email, "password": PASSWORD})
    assert login.status_code == 200


@pytest.mark.parametrize("way", ["request", "flow"])
async def test_a_cancelled_refresh_is_whole_or_undone_and_loses_no_connection(
    way: str, account: Account, auth: Auth, database: Database
) -> None:
    """R-06: at any moment, on any database; SQLite has one connection to lose."""
    user = await User.get(email=account.email)
    for tokens in await sessions_of(auth, user, 60):
        token = tokens.refresh_token
        call = account.refresh(token) if way == "request" else rotate(auth, token)
        task: asyncio.Task[object] = asyncio.create_task(call)
        await asyncio.wait({task}, timeout=moments.uniform(0, 0.008))
        task.cancel()
        with suppress(asyncio.CancelledError):
            answer = await task
            assert not isinstance(answer, httpx.Response) or answer.status_code == 200

        async def given_back() -> bool:
            return databases.lent(database.dialect) == 0

        await until(given_back, 5)
        await outcome(tokens)
    assert (await account.login()).status_code == 200


@on_servers
async def test_a_rotation_cut_before_its_commit_is_undone(
    http: httpx.AsyncClient, proxy: Proxy, auth: Auth, settled: Settled
) -> None:
    """R-28: more often than the pools have connections."""
    tokens, *others = await sessions_of(auth, await user_of(auth, "ada@example.com"), 2)
    await recovered(http, others[0])
    for needle in [b"COMMIT", b"BEGIN"] * 6:
        proxy.trap(needle, "cut")
        answer = await refresh(http, tokens)
        await proxy.sprung()
        assert is_unavailable(answer), answer.text
        assert answer.headers["retry-after"] == "1"
        assert is_unavailable(await refresh(http, tokens))
        proxy.recover()
        await recovered(http, others[0])
    assert await outcome(tokens) == "undone"
    assert (await refresh(http, tokens)).status_code == 200
    assert await outcome(tokens) == "done"
    await settled()


@on_servers
async def test_a_rotation_whose_commit_got_no_answer_counts_as_a_race(
    http: httpx.AsyncClient, server: Server, proxy: Proxy, auth: Auth, settled: Settled
) -> None:
    """R-29: the connection dies after COMMIT was sent, at once or after the server has given up on it."""
    for number, patient in enumerate((False, True)):
        user = await user_of(auth, f"u{number}@example.com")
        tokens, other = await sessions_of(auth, user, 2)
        await recovered(http, other)
        async with in_a_hurry(http, server):
            proxy.trap(b"COMMIT", "drop_replies")
            request = asyncio.create_task(refresh(http, tokens))
            await proxy.sprung()
            await until(lambda tokens=tokens: is_done(tokens))
            if patient:
                assert is_unavailable(await request)
            proxy.recover()
            assert is_unavailable(await request)
        await recovered(http, other)
        retry = await refresh(http, tokens)
        assert (retry.status_code, retry.json()["code"]) == (401, "refresh_raced")
        assert await outcome(tokens) == "done"
        assert (await me(http, tokens)).status_code == 200
        await RefreshToken.filter(user_id=user.id).update(created_at=datetime.now(UTC) - timedelta(minutes=1))
        for _ in range(2):  # after the leeway too: the answer was lost
            retry = await refresh(http, tokens)
            assert (retry.status_code, retry.json()["code"]) == (401, "refresh_raced")
    assert await Session.filter(revoked_at=None).count() == 4
    assert await Mail.filter(kind=MailKind.SESSION_REUSE).count() == 0
    await settled()


async def is_done(tokens: TokenSet) -> bool:
    return (await RefreshToken.get(token=tokens.refresh_token)).revoked


@on_postgres
async def test_a_server_killed_at_any_moment_leaves_a_whole_database(
    http: httpx.AsyncClient, server: Server, auth: Auth
) -> None:
    """R-30: each change with all that belongs to it, or nothing of it; what was answered has happened."""
    seen: Counter[str] = Counter()
    for number in range(5):
        await one_kill(http, server, auth, f"r{number}", 4 * number, seen)
    assert min(seen["done"], seen["undone"]) > 0, seen


async def one_kill(
    http: httpx.AsyncClient, server: Server, auth: Auth, name: str, answered: int, seen: Counter[str]
) -> None:
    """Refreshes, signups, resets and first codes in flight; kill -9 after some answers; then a look."""
    count = 6
    secret = generate_totp_secret()
    refresher = await user_of(auth, f"{name}-refresh@example.com")
    chains = await sessions_of(auth, refresher, count)
    forgetful = [await user_of(auth, f"{name}-reset{n}@example.com") for n in range(count)]
    careful = [await user_of(auth, f"{name}-2fa{n}@example.com", totp_secret=secret) for n in range(count)]
    for user in forgetful:
        await sessions_of(auth, user, 2)
    phones = [(await sessions_of(auth, user, 2))[0] for user in careful]
    for user, phone in zip(careful, phones, strict=True):
        begun = {"totp_pending_session": phone.session_id, "totp_enrolled_at": auth.clock()}
        await User.filter(id=user.id).update(**begun)
    code = pyotp.TOTP(secret).now()

    async def sign_up(n: int) -> httpx.Response:
        return await http.post(
            "/auth/signup", json={"email": f"{name}-new{n}@example.com", "password": PASSWORD}
        )

    async def reset(user: User) -> httpx.Response:
        token = auth.links.generate(Purpose.RESET, user.id, link_state(Purpose.RESET, user))
        return await http.post(f"/auth/reset-password/{token}", json={"new_password": "another password"})

    async def verify(phone: TokenSet) -> httpx.Response:
        headers = {"Authorization": f"Bearer {phone.access_token}"}
        return await http.post("/auth/2fa/verify", json={"code": code}, headers=headers)

    # Turn and turn about, so that each kind is under way at any moment.
    requests: list[asyncio.Task[httpx.Response]] = []
    for n in range(count):
        calls = (refresh(http, chains[n]), sign_up(n), reset(forgetful[n]), verify(phones[n]))
        requests += [asyncio.create_task(call) for call in calls]
    for request in itertools.islice(asyncio.as_completed(requests), answered):
        await request
    await asyncio.sleep(moments.uniform(0, 0.01))
    server.kill()
    answers = await asyncio.gather(*requests, return_exceptions=True)
    ok = [isinstance(answer, httpx.Response) and answer.status_code in {200, 201} for answer in answers]
    assert all(
        good or isinstance(answer, httpx.TransportError) for good, answer in zip(ok, answers, strict=True)
    )
    start = asyncio.create_task(asyncio.to_thread(server.start))
    ended = [
        ended
        for n in range(count)
        for ended in (
            await outcome(chains[n]),
            await outcome_of_signup(f"{name}-new{n}@example.com"),
            await outcome_of_change(forgetful[n], MailKind.PASSWORD_CHANGED, "hashed_password", survivors=0),
            await outcome_of_change(
                careful[n], TwoFactorMail.TWO_FACTOR_ENABLED, "totp_confirmed", survivors=1
            ),
        )
    ]
    assert all(what == "done" for good, what in zip(ok, ended, strict=True) if good)
    seen.update(ended)
    await start
    for tokens, what in zip(chains, ended[::4], strict=True):
        assert (await refresh(http, tokens)).status_code == (200 if what == "undone" else 401)


async def outcome_of_signup(email: str) -> str:
    """An account and its mail, or neither."""
    users = await User.filter(email=email).count()
    mails = await Mail.filter(recipient=email, kind=MailKind.VERIFY.value).count()
    assert users == mails
    return "done" if users else "undone"


async def outcome_of_change(before: User, kind: MailTable, column: str, *, survivors: int) -> str:
    """A changed account, its sessions ended and its owner told; or none of it."""
    after = await User.get(id=before.id)
    changed = getattr(after, column) != getattr(before, column)
    mails = await Mail.filter(user_id=before.id, kind=kind.value).count()
    sessions = await Session.filter(user_id=before.id, revoked_at=None).count()
    tokens = await RefreshToken.filter(user_id=before.id, revoked=False).count()
    assert (mails, sessions, tokens) == ((1, survivors, survivors) if changed else (0, 2, 2))
    return "done" if changed else "undone"


async def all_unavailable_in_time(requests: Sequence[Awaitable[httpx.Response]]) -> None:
    """503 for all: nobody was given the time that the server gives when it is not in a hurry."""
    started = time.monotonic()
    answers = await asyncio.gather(*requests)
    assert all(is_unavailable(answer) for answer in answers), [answer.text for answer in answers]
    assert time.monotonic() - started < PATIENCE / 2


@pytest.mark.parametrize(
    ("database", "fault"),
    [("postgres", "silent"), ("postgres", "slow"), ("mysql", "silent")],
    indirect=["database"],
)
async def test_a_database_that_does_not_answer_in_time_gives_503_until_it_does(
    fault: str, http: httpx.AsyncClient, server: Server, proxy: Proxy, auth: Auth, settled: Settled
) -> None:
    """R-31: with more requests than the pools have connections, which therefore wait for one in vain."""
    user = await user_of(auth, "ada@example.com")
    sessions = await sessions_of(auth, user, 14)
    await recovered(http, sessions[0])
    if fault == "silent":
        proxy.stall()
    else:
        proxy.delay = 1.5 * TIMEOUT
    login = {"email": user.email, "password": PASSWORD}
    async with in_a_hurry(http, server):
        await all_unavailable_in_time(
            [
                *(refresh(http, tokens) for tokens in sessions),
                *(me(http, tokens) for tokens in sessions),
                http.post("/auth/login", json=login),
                http.post("/auth/signup", json={"email": "new@example.com", "password": PASSWORD}),
            ]
        )
    proxy.recover()
    await recovered(http, sessions[0])
    await settled()
    assert {await outcome(tokens) for tokens in sessions} == {"undone"}
    assert {(await refresh(http, tokens)).status_code for tokens in sessions} == {200}
    assert (await http.post("/auth/login", json=login)).status_code == 200


@on_postgres
async def test_an_exhausted_pool_gives_503_until_it_is_not(
    http: httpx.AsyncClient, server: Server, auth: Auth, settled: Settled
) -> None:
    """R-31: somebody else holds a lock that all connections wait for, longer than others may."""
    user = await user_of(auth, "ada@example.com")
    late, patient = await sessions_of(auth, user, 30), await sessions_of(auth, user, 60)
    await recovered(http, late[0])
    async with in_transaction() as connection:
        await connection.execute_query("LOCK TABLE refreshtoken")
        waiting = []
        while (await connection.execute_query(WAITING))[1][0]["connections"] < CONNECTIONS * server.count:
            some = patient[len(waiting) : len(waiting) + 10]
            assert some, "no more to fill the pools with"
            waiting += [asyncio.create_task(refresh(http, tokens)) for tokens in some]
            await lent(http, server)
        async with in_a_hurry(http, server):
            others = [(me(http, tokens), refresh(http, tokens)) for tokens in late[:10]]
            await all_unavailable_in_time([request for both in others for request in both])
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
    async with in_a_hurry(http, server), in_transaction() as connection:
        await connection.execute_query("LOCK TABLE refreshtoken")
        await all_unavailable_in_time([refresh(http, tokens) for tokens in late])
    await recovered(http, late[0])
    await settled()
    assert {await outcome(tokens) for tokens in late} == {"undone"}
    assert {(await refresh(http, tokens)).status_code for tokens in late} == {200}


@on_sqlite
async def test_slow_hashes_and_slow_clients_are_not_taken_for_a_slow_database(
    client: httpx.AsyncClient, account: Account, settings: AuthSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-31: only the database has to be in time."""
    verify_password = hashing.verify_password

    def slowly(*arguments: object) -> bool:
        time.sleep(0.5)
        return verify_password(*arguments)  # type: ignore[arg-type]

    async def body() -> AsyncIterator[bytes]:
        yield b'{"token": '
        await asyncio.sleep(0.5)
        yield f'"{account.refresh_token}"}}'.encode()

    settings.database_timeout = timedelta(seconds=0.3)
    monkeypatch.setattr(hashing, "verify_password", slowly)
    headers = {"Content-Type": "application/json"}
    assert (await client.post("/auth/refresh", content=body(), headers=headers)).status_code == 200
    assert (await account.login()).status_code == 200
    settings.database_timeout = timedelta(seconds=0)
    assert is_unavailable(await account.login())


@on_servers
async def test_a_hundred_writers_at_once_get_documented_answers_only(
    http: httpx.AsyncClient, app: FastAPI, auth: Auth
) -> None:
    """R-32: on the same few accounts."""
    users = [await user_of(auth, f"u{number}@example.com") for number in range(3)]
    sessions = [await sessions_of(auth, user, 3) for user in users]
    calls: list[tuple[str, str, dict[str, object], TokenSet]] = []
    for number in range(100):
        user, tokens = users[number % 3], sessions[number % 3][number // 3 % 3]
        credentials: dict[str, object] = {"email": user.email, "password": PASSWORD}
        calls.append(
            [
                ("post", "/auth/refresh", {"token": tokens.refresh_token}, tokens),
                ("post", "/auth/login", credentials, tokens),
                ("post", "/auth/signup", credentials | {"email": f"n{number % 4}@example.com"}, tokens),
                ("post", "/auth/forgot-password", {"email": user.email}, tokens),
                ("post", "/auth/2fa/enable", {}, tokens),
                ("post", "/auth/login", credentials | {"password": "a wrong password"}, tokens),
                ("post", "/auth/reauthenticate", {"password": PASSWORD}, tokens),
                ("post", "/auth/logout", {}, tokens),
                (
                    "post",
                    "/account/change-password",
                    {"old_password": PASSWORD, "new_password": PASSWORD},
                    tokens,
                ),
            ][number % 9]
        )
    answers = await asyncio.gather(
        *(
            http.request(verb, path, json=body, headers={"Authorization": f"Bearer {tokens.access_token}"})
            for verb, path, body, tokens in calls
        )
    )
    paths = app.openapi()["paths"]
    for (verb, path, _, _), answer in zip(calls, answers, strict=True):
        assert str(answer.status_code) in paths[path][verb]["responses"], (path, answer.text)
        assert answer.is_success or not is_unavailable(answer), path
    assert Counter(answer.is_success for answer in answers)[True] > 20


@pytest.fixture
def lone_server(database: Database, tortoise: TortoiseContext, mailbox: Mailbox) -> Iterator[Server]:
    """Two workers of their own that give the database time, also after they were replaced."""
    server = Server(database, mailbox.server.port, AUTH_DATABASE_TIMEOUT="30")
    yield server
    server.stop()


@on_postgres
async def test_a_rolling_restart_under_load_ends_no_session_and_loses_no_mail(
    lone_server: Server, mailbox: Mailbox, auth: Auth
) -> None:
    """R-35."""
    async with client_of(lone_server) as http:
        await roll(http, lone_server, mailbox, auth)


async def roll(http: httpx.AsyncClient, server: Server, mailbox: Mailbox, auth: Auth) -> None:
    """Replaces both workers while two sessions are in use."""
    mailbox.server.behaviour = "temporary"
    addresses = [f"new{number}@example.com" for number in range(4)]
    for address in addresses:
        answer = await http.post("/auth/signup", json={"email": address, "password": PASSWORD})
        assert answer.status_code == 201
    chains = await sessions_of(auth, await user_of(auth, "ada@example.com"), 2)
    statuses: Counter[int] = Counter()
    over = asyncio.Event()

    async def use(tokens: TokenSet) -> None:
        while not over.is_set():
            with suppress(httpx.TransportError):  # a worker that goes may hang up before it has read anything
                answer = await me(http, tokens)
                statuses[answer.status_code] += 1
                answer = await refresh(http, tokens)
                statuses[answer.status_code] += 1
                assert answer.status_code == 200, answer.text
                tokens = replace(
                    tokens, **{key: answer.json()[key] for key in ("access_token", "refresh_token")}
                )

    load = [asyncio.create_task(use(tokens)) for tokens in chains]
    old, server.workers = server.workers, set()
    os.kill(server.process.pid, signal.SIGHUP)

    async def replaced() -> bool:
        try:
            worker = (await http.get("/worker")).json()
        except httpx.TransportError:
            return False
        if worker not in old:
            server.workers.add(worker)
        return worker not in old

    async def all_replaced() -> bool:
        return all([await replaced() for _ in range(20)]) and len(server.workers) == 2

    await until(replaced)
    mailbox.server.behaviour = "accept"
    await Mail.all().update(next_attempt_at=datetime(2026, 1, 1, tzinfo=UTC))
    await until(all_replaced, 40)
    over.set()
    await asyncio.gather(*load)
    assert set(statuses) == {200}
    assert await Session.filter(revoked_at=None).count() == len(chains)
    await mailbox.server.wait(len(addresses), 10)
    assert sorted(message["To"] for message in mailbox.messages) == addresses
