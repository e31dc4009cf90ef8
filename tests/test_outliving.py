"""Each flow that writes what must outlive a refusal, in an app that wraps each request in a transaction and
rolls it back, whatever the answer is."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from starlette.middleware.base import RequestResponseEndpoint
from starlette.types import ASGIApp, Receive, Scope, Send
from tortoise.context import TortoiseContext
from tortoise.transactions import in_transaction

import fastapi_pluggable_auth
from fastapi_pluggable_auth import Auth, AuthSettings, CurrentUser
from fastapi_pluggable_auth.errors import AuthError
from fastapi_pluggable_auth.features import AuditLog, Feature
from fastapi_pluggable_auth.flows.login import login
from fastapi_pluggable_auth.flows.sessions import start_session
from fastapi_pluggable_auth.models import AuditEvent, Device, Mail, RefreshToken, Session, Throttle, User
from fastapi_pluggable_auth.testing import FakeClock as Clock

from . import databases
from .conftest import EMAIL, PASSWORD, Account, Database, Mailbox
from .proxy import Proxy

CREDENTIALS = {"email": EMAIL, "password": PASSWORD}
WRONG = {"email": EMAIL, "password": "not the right one"}
BASE = "https://testserver"
OWN_PAGE = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}


class Rollback(Exception):
    """Leaves a transaction."""


class Switch:
    """Whether requests run in a transaction that is rolled back."""

    on = False


class RolledBackAround:
    """Plain ASGI: the answer is sent before the rollback."""

    def __init__(self, app: ASGIApp, switch: Switch, name: str) -> None:
        self._app = app
        self._switch = switch
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app."""
        if scope["type"] != "http" or not self._switch.on:
            await self._app(scope, receive, send)
            return
        try:
            async with in_transaction(self._name):
                await self._app(scope, receive, send)
                raise Rollback
        except Rollback:
            pass


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    settings.cookies, settings.public_base_url = True, BASE
    settings.throttle_free_attempts = 5
    settings.throttle_first_pause = timedelta(seconds=10)  # on a busy machine one passes between two guesses
    return settings


@pytest.fixture
def features() -> list[Feature]:
    return [AuditLog()]


@pytest.fixture
def switch() -> Switch:
    """Turns on the transactions of the host."""
    return Switch()


@pytest.fixture(params=["dispatch", "plain ASGI"])
def app(request: pytest.FixtureRequest, app: FastAPI, switch: Switch, database: Database) -> FastAPI:
    """A host app with such a middleware."""
    if request.param == "plain ASGI":
        app.add_middleware(RolledBackAround, switch=switch, name=database.dialect)
        return app

    @app.middleware("http")
    async def rolled_back(request: Request, call_next: RequestResponseEndpoint) -> Response:
        if not switch.on:
            return await call_next(request)
        response = Response(status_code=500)
        try:
            async with in_transaction(database.dialect):
                response = await call_next(request)
                raise Rollback
        except Rollback:
            return response

    return app


in_each_way = pytest.mark.parametrize(
    ("database", "app"),
    [
        ("sqlite", "dispatch"),
        ("sqlite", "plain ASGI"),
        ("postgres", "dispatch"),
        ("mysql", "plain ASGI"),
        pytest.param("postgres", "plain ASGI", marks=pytest.mark.full),
        pytest.param("mysql", "dispatch", marks=pytest.mark.full),
    ],
    indirect=True,
)
"""On each database, and each way that a middleware may go."""


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    """No request hangs: each test has a minute."""
    async with asyncio.timeout(60):
        yield


async def statuses(client: httpx.AsyncClient, times: int, body: dict[str, str]) -> list[int]:
    return [(await client.post("/auth/login", json=body)).status_code for _ in range(times)]


@in_each_way
@pytest.mark.parametrize("email", [EMAIL, "nobody@example.com"])
async def test_wrong_passwords_are_throttled_as_without_the_transaction(
    client: httpx.AsyncClient, account: Account, switch: Switch, email: str
) -> None:
    """A-13; and on nobody else."""
    now = datetime.now(UTC)
    other = await Throttle.create(id="other", count=1, started_at=now, blocked_until=now)
    switch.on = True
    assert await statuses(client, 7, WRONG | {"email": email}) == [401] * 5 + [429] * 2
    assert [*await Throttle.filter(id="other").values()] == [dict(other)]


@in_each_way
async def test_twelve_wrong_passwords_at_once_are_throttled(
    client: httpx.AsyncClient, account: Account, switch: Switch, database: Database
) -> None:
    switch.on = True
    answers = await asyncio.gather(*(client.post("/auth/login", json=WRONG) for _ in range(12)))
    assert Counter(answer.status_code for answer in answers) == {401: 5, 429: 7}


@in_each_way
async def test_a_right_password_starts_the_count_anew(
    client: httpx.AsyncClient, account: Account, switch: Switch
) -> None:
    switch.on = True
    assert await statuses(client, 4, WRONG) == [401] * 4
    assert await statuses(client, 1, CREDENTIALS) == [200]
    assert await statuses(client, 6, WRONG) == [401] * 5 + [429]


@in_each_way
async def test_a_stolen_session_ends_although_the_refusal_is_rolled_back(
    client: httpx.AsyncClient, account: Account, switch: Switch, clock: Clock, mailbox: Mailbox
) -> None:
    """A-42."""
    rotated = (await account.refresh()).json()
    assert (await account.me(rotated["access_token"])).status_code == 200
    mailbox.clear()
    clock.advance(minutes=1)
    switch.on = True
    assert (await account.refresh()).status_code == 401
    switch.on = False
    assert (await account.me(rotated["access_token"])).status_code == 401
    assert (await account.refresh(rotated["refresh_token"])).status_code == 401
    assert [mail["To"] for mail in mailbox.messages] == [EMAIL]


@in_each_way
async def test_a_rotation_outlives_the_rollback(
    client: httpx.AsyncClient, account: Account, switch: Switch, clock: Clock
) -> None:
    switch.on = True
    tokens = {"refresh_token": account.refresh_token}
    for _ in range(3):
        tokens = (await account.refresh(tokens["refresh_token"])).json()
        assert (await account.me(tokens["access_token"])).status_code == 200
        clock.advance(minutes=20)
    assert await RefreshToken.all().count() == 4


@pytest.fixture
async def browser(app: FastAPI, account: Account, switch: Switch) -> AsyncIterator[httpx.AsyncClient]:
    """A page in a browser, signed in."""

    @app.get("/missing")
    async def missing(user: CurrentUser) -> None:
        raise HTTPException(404)

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=OWN_PAGE) as browser:
        assert (await browser.post("/auth/login", json=CREDENTIALS)).status_code == 200
        yield browser


@in_each_way
async def test_a_page_that_renews_cookies_and_is_not_found_signs_nobody_out(
    browser: httpx.AsyncClient, switch: Switch, clock: Clock
) -> None:
    switch.on = True
    for _ in range(3):
        clock.advance(minutes=20)
        answer = await browser.get("/missing")
        assert answer.status_code == 404
        assert len(answer.headers.get_list("set-cookie")) == 2
    switch.on = False
    clock.advance(minutes=20)
    assert (await browser.get("/auth/me")).status_code == 200
    assert await Session.filter(revoked_at=None).count() == 2


@in_each_way
async def test_that_tokens_were_shown_outlives_the_rollback(
    client: httpx.AsyncClient, account: Account, switch: Switch
) -> None:
    rotated = (await account.refresh()).json()
    switch.on = True
    assert (await account.me(rotated["access_token"])).status_code == 200
    newest = await RefreshToken.get(revoked=False)
    assert (await Session.get()).confirmed_gen == newest.gen > 0


@in_each_way
async def test_a_lost_answer_is_replaced_and_its_thief_ends_the_session(
    browser: httpx.AsyncClient, switch: Switch, clock: Clock
) -> None:
    switch.on = True
    clock.advance(minutes=20)
    before = httpx.Cookies(browser.cookies)
    assert (await browser.get("/missing")).status_code == 404
    lost = httpx.Cookies(browser.cookies)
    assert {*lost.values()} != {*before.values()}
    clock.advance(minutes=1)
    browser.cookies = httpx.Cookies(before)
    assert (await browser.get("/missing")).status_code == 404
    replaced = httpx.Cookies(browser.cookies)
    assert {*replaced.values()} != {*lost.values()}
    browser.cookies = httpx.Cookies(lost)
    assert (await browser.get("/missing")).status_code == 401
    switch.on = False
    browser.cookies = httpx.Cookies(replaced)
    assert (await browser.get("/auth/me")).status_code == 401


@in_each_way
async def test_a_transaction_that_a_dependency_begins_before_the_user_is_known_signs_nobody_out(
    app: FastAPI, browser: httpx.AsyncClient, clock: Clock, database: Database
) -> None:
    async def transaction() -> AsyncIterator[None]:
        async with in_transaction(database.dialect):
            yield

    @app.get("/order/{number}", dependencies=[Depends(transaction)])
    async def order(number: int, user: CurrentUser) -> int:
        if number == 0:
            raise HTTPException(404)
        return number

    for number, status in ((0, 404), (1, 200), (0, 404)):
        clock.advance(minutes=20)
        answer = await browser.get(f"/order/{number}")
        assert answer.status_code == status
        assert len(answer.headers.get_list("set-cookie")) == 2
    assert (await browser.get("/auth/me")).status_code == 200


@in_each_way
@pytest.mark.parametrize("path", ["/auth/forgot-password", "/auth/verify/resend"])
async def test_mails_that_anybody_may_ask_for_arrive_and_are_limited(
    client: httpx.AsyncClient, settings: AuthSettings, switch: Switch, mailbox: Mailbox, path: str
) -> None:
    signup = await client.post("/auth/signup", json=CREDENTIALS)
    assert signup.status_code == 201
    mailbox.clear()
    settings.mail_limit = 2
    switch.on = True
    for _ in range(4):
        assert (await client.post(path, json={"email": EMAIL})).status_code == 200
    assert [mail["To"] for mail in mailbox.messages] == [EMAIL] * 2


@in_each_way
async def test_the_code_of_a_mail_waits_and_its_tries_are_counted(
    client: httpx.AsyncClient, account: Account, switch: Switch, mailbox: Mailbox
) -> None:
    switch.on = True
    for right in (True, False):
        asked = await client.post("/auth/forgot-password", json={"email": EMAIL, "mailed_code": True})
        text = mailbox.messages[-1].get_body(("plain",))
        assert text is not None
        (code,) = re.findall(r"(?m)^\d{6}\r?$", text.get_content())
        body = {"challenge": asked.json()["challenge"], "new_password": "a new horse battery"}
        wrong = {**body, "code": f"{(int(code) + 1) % 10**6:06}"}
        for _ in range(2 if right else 5):
            assert (await client.post("/auth/reset-password/code", json=wrong)).status_code == 400
        answer = await client.post("/auth/reset-password/code", json={**body, "code": code.strip()})
        assert answer.status_code == (200 if right else 400), answer.text


@in_each_way
async def test_too_many_guesses_end_the_session_in_which_they_were_made(
    client: httpx.AsyncClient, account: Account, switch: Switch
) -> None:
    switch.on = True
    body = {"password": "not the right one"}
    answers = [
        (await client.post("/auth/reauthenticate", json=body, headers=account.headers)).status_code
        for _ in range(20)
    ]
    assert answers == [403] * 20
    switch.on = False
    assert (await account.me()).status_code == 401


@in_each_way
async def test_too_many_guesses_make_a_device_unknown(
    client: httpx.AsyncClient, account: Account, switch: Switch, clock: Clock
) -> None:
    answer = await client.post("/auth/login", json=CREDENTIALS | {"device": None})
    known = {"device": answer.json()["device"]}
    switch.on = True
    for _ in range(20):
        assert await statuses(client, 1, WRONG | known) == [401]
        clock.advance(hours=1)
    assert await Device.all().count() == 0


@in_each_way
async def test_what_was_refused_is_in_the_audit_log(
    client: httpx.AsyncClient, account: Account, switch: Switch
) -> None:
    before = await AuditEvent.filter(kind="login", outcome="failure").count()
    switch.on = True
    assert await statuses(client, 2, WRONG) == [401, 401]
    assert await AuditEvent.filter(kind="login", outcome="failure").count() == before + 2


@in_each_way
async def test_a_change_falls_with_the_transaction(
    client: httpx.AsyncClient, account: Account, switch: Switch, mailbox: Mailbox
) -> None:
    """As the host wants it: what a transaction is for."""
    mailbox.clear()
    switch.on = True
    body = {"old_password": PASSWORD, "new_password": "another good password"}
    answer = await client.post("/account/change-password", json=body, headers=account.headers)
    assert answer.status_code == 204
    switch.on = False
    assert (await account.me()).status_code == 200
    assert (await account.login()).status_code == 200
    assert mailbox.messages == []


@in_each_way
@pytest.mark.parametrize("served", [True, False])
async def test_who_signs_up_and_in_within_one_transaction_is_known_in_it(
    app: FastAPI, mailbox: Mailbox, tortoise: TortoiseContext, database: Database, clock: Clock, served: bool
) -> None:
    """A user and a session of this transaction are invisible to every other connection."""
    auth: Auth = app.state.pluggable_auth

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {}} if served else scope, receive, send)

    transport = httpx.ASGITransport(server)
    async with (
        in_transaction(database.dialect),
        httpx.AsyncClient(transport=transport, base_url=BASE) as client,
    ):
        await User.create(email=EMAIL, hashed_password=await auth.hasher.hash(PASSWORD), is_verified=True)
        tokens = (await client.post("/auth/login", json=CREDENTIALS)).json()
        rotated = (await client.post("/auth/refresh", json={"token": tokens["refresh_token"]})).json()
        headers = {"Authorization": f"Bearer {rotated['access_token']}"}
        assert (await client.get("/auth/me", headers=headers)).status_code == 200
        assert (await Session.get()).confirmed_gen == 1
        clock.advance(minutes=1)
        reused = await client.post("/auth/refresh", json={"token": tokens["refresh_token"]})
        assert reused.status_code == 401
        assert (await Session.get()).revoked_at is not None
        assert (await client.get("/auth/me", headers=headers)).status_code == 401
        mailbox.clear()
        forgotten = await client.post("/auth/forgot-password", json={"email": EMAIL})
        assert forgotten.status_code == 200
        arrives = not served or database.dialect != "mysql"
        assert [mail["To"] for mail in mailbox.messages] == ([EMAIL] if arrives else [])
    assert await Session.all().count() == 1
    await auth.close()


@in_each_way
async def test_the_transaction_of_a_test_takes_back_everything(
    app: FastAPI, client: httpx.AsyncClient, database: Database, mailbox: Mailbox
) -> None:
    """As many test suites have one around each test: nothing is left to the next one, and no connection."""
    auth: Auth = app.state.pluggable_auth
    for _ in range(2):
        with suppress(Rollback):
            async with in_transaction(database.dialect):
                assert (await client.post("/auth/signup", json=CREDENTIALS)).status_code == 201
                assert (await client.get(mailbox.link())).status_code == 200
                assert await statuses(client, 3, WRONG) == [401] * 3
                assert await statuses(client, 6, WRONG | {"email": "no@example.com"}) == [401] * 5 + [429]
                tokens = (await client.post("/auth/login", json=CREDENTIALS)).json()
                token = {"token": tokens["refresh_token"]}
                assert (await client.post("/auth/refresh", json=token)).status_code == 200
                assert (await client.post("/auth/refresh", json=token)).status_code == 401
                for email in (EMAIL, "no@example.com"):
                    await client.post("/auth/forgot-password", json={"email": email})
                headers = {"Authorization": f"Bearer {tokens['access_token']}"}
                for status in [403] * 20 + [401]:
                    body = {"password": "not the right one"}
                    answer = await client.post("/auth/reauthenticate", json=body, headers=headers)
                    assert answer.status_code == status
                assert await AuditEvent.filter(kind="login", outcome="failure").count() == 3
                raise Rollback
        tables = (User, Session, RefreshToken, Throttle, Mail, AuditEvent)
        assert [await table.all().count() for table in tables] == [0] * 6
    assert not auth.unwritten
    assert not auth.autonomous._clients
    assert not auth.autonomous._under_way


@pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)
async def test_a_row_that_the_transaction_locks_holds_no_refresh_up_for_long(
    app: FastAPI, browser: httpx.AsyncClient, clock: Clock, database: Database
) -> None:
    """The new token refers to the account, which the host has locked."""

    async def locked() -> AsyncIterator[None]:
        async with in_transaction(database.dialect):
            await User.select_for_update().get(email=EMAIL)
            yield

    @app.get("/locked", dependencies=[Depends(locked)])
    async def refused(user: CurrentUser) -> None:
        raise HTTPException(404)

    for _ in range(2):
        clock.advance(minutes=20)
        async with asyncio.timeout(5):
            answer = await browser.get("/locked")
        assert answer.status_code == 404
        assert len(answer.headers.get_list("set-cookie")) == 2
    assert (await browser.get("/auth/me")).status_code == 200


@pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)
async def test_fifty_requests_on_a_pool_of_five_are_answered_and_counted(
    app: FastAPI, switch: Switch, mailbox: Mailbox, database: Database, clock: Clock
) -> None:
    auth: Auth = app.state.pluggable_auth
    async with TortoiseContext() as context:
        await context.init(databases.config(f"{database.url}?minsize=1&maxsize=5", database.dialect))
        await databases.empty(context, database.dialect)
        hashed = await auth.hasher.hash(PASSWORD)
        users = [User(email=f"u{n}@example.com", hashed_password=hashed, is_verified=True) for n in range(25)]
        await User.bulk_create(users)
        refreshed = [(await start_session(auth, user)).refresh_token for user in users]
        switch.on = True
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
            answers = await asyncio.gather(
                *(client.post("/auth/login", json=WRONG | {"email": user.email}) for user in users),
                *(client.post("/auth/refresh", json={"token": token}) for token in refreshed),
            )
        assert Counter(answer.status_code for answer in answers) == {401: 25, 200: 25}
        assert await Throttle.all().count() == 25
        assert await RefreshToken.filter(revoked=False).count() == 25
        assert await AuditEvent.filter(kind="login", outcome="failure").count() == 25
        assert databases.lent(database.dialect) == 0
        await auth.close()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_count_that_could_not_be_written_after_the_transaction_holds_nobody_up(
    client: httpx.AsyncClient,
    account: Account,
    auth: Auth,
    settings: AuthSettings,
    database: Database,
    clock: Clock,
) -> None:
    """It is written with the next attempt."""
    settings.throttle_daily_limit = 5
    for _ in range(3):
        with suppress(AuthError):
            async with in_transaction(database.dialect):
                await login(auth, EMAIL, "not the right one")
        for task in auth.autonomous._under_way:
            task.cancel()
        await asyncio.sleep(0)
    assert await statuses(client, 3, WRONG) == [401] * 2 + [429]
    clock.advance(hours=25)
    assert (await account.login()).status_code == 200
    assert not auth.unwritten


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_count_that_is_written_late_takes_back_nothing_that_another_process_has_counted_since(
    client: httpx.AsyncClient, account: Account, auth: Auth, settings: AuthSettings, database: Database
) -> None:
    settings.throttle_daily_limit = 5
    with suppress(AuthError):
        async with in_transaction(database.dialect):
            await login(auth, EMAIL, "not the right one")
    for task in auth.autonomous._under_way:
        task.cancel()
    await asyncio.sleep(0)
    assert auth.unwritten
    other = Auth(settings, clock=auth.clock)
    for _ in range(4):
        with pytest.raises(AuthError):
            await login(other, EMAIL, "not the right one")
    assert await statuses(client, 2, WRONG) == [401, 429]
    await other.close()


@pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)
@pytest.mark.parametrize("queues", [False, True], ids=["refused", "queued"])
async def test_where_the_pool_has_all_connections_that_there_are_guesses_are_counted_and_tokens_kept(
    app: FastAPI, switch: Switch, mailbox: Mailbox, database: Database, clock: Clock, queues: bool
) -> None:
    """A server, or a pooler in front of it, gives no more than the host has taken."""
    auth: Auth = app.state.pluggable_auth
    with Proxy(database.url) as proxy:
        async with TortoiseContext() as context:
            await context.init(databases.config(f"{proxy.url}?minsize=2&maxsize=2", database.dialect))
            await databases.empty(context, database.dialect)
            hashed = await auth.hasher.hash(PASSWORD)
            user = await User.create(email=EMAIL, hashed_password=hashed, is_verified=True)
            token = (await start_session(auth, user)).refresh_token
            await asyncio.gather(User.all(), User.all())
            proxy.most, proxy.queues = 2, queues
            switch.on = True
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                began = time.monotonic()
                assert await statuses(client, 6, WRONG) == [401] * 5 + [429]
                # One more after each pause, which double from a second, that has passed meanwhile.
                answers = await statuses(client, 6, WRONG)
                counted = 5 + answers.count(401)
                assert counted <= 5 + int(math.log2(1 + time.monotonic() - began))
                for _ in range(2):
                    clock.advance(minutes=20)
                    refreshed = await client.post("/auth/refresh", json={"token": token})
                    assert refreshed.status_code == 200
                    token = refreshed.json()["refresh_token"]
            assert (await Throttle.get()).count == counted
            assert await RefreshToken.all().count() == 3
            await auth.close()


def test_counters_are_written_in_one_place_which_knows_of_the_transaction() -> None:
    """A statement elsewhere would be taken back."""
    package = Path(fastapi_pluggable_auth.__file__).parent
    names = re.compile(r"tables\.throttle|\bThrottle\b")
    writers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if names.search(path.read_text("utf-8")) and path.parent.name not in {"models", "migrations"}
    }
    assert writers == {"flows/counters.py", "flows/purge.py"}
