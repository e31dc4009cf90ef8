"""A transaction that the host app wraps around each request, and what must outlive its rollback."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tortoise import Tortoise
from tortoise.context import TortoiseContext
from tortoise.transactions import atomic, in_transaction

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth import autonomous as autonomous_module
from fastapi_pluggable_auth.auth import autonomous, transactional
from fastapi_pluggable_auth.models import Throttle, User
from fastapi_pluggable_auth.testing import FakeClock as Clock

from . import databases
from .conftest import EMAIL, PASSWORD, Database, Mailbox
from .live import serving

START = datetime(2026, 1, 1, tzinfo=UTC)


class RolledBack(Exception):
    """Leaves a transaction with the answer that is to be sent."""

    def __init__(self, response: Response) -> None:
        self.response = response


def wrap_by_dispatch(app: FastAPI, name: str) -> None:
    """The usual middleware: the answer is sent when the transaction has ended."""

    @app.middleware("http")
    async def in_a_transaction(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        try:
            async with in_transaction(name):
                response = await call_next(request)
                if response.status_code >= 400:
                    raise RolledBack(response)
        except RolledBack as error:
            return error.response
        return response


class TransactionAround:
    """The same in plain ASGI: the answer is sent while the transaction is open."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            async with in_transaction(self._name):
                await self._app(scope, receive, note_status)
                if status >= 400:
                    raise InterruptedError
        except InterruptedError:
            pass


def wrap_in_plain_asgi(app: FastAPI, name: str) -> None:
    app.add_middleware(TransactionAround, name=name)


WRAPPERS = {"dispatch": wrap_by_dispatch, "plain ASGI": wrap_in_plain_asgi}
on_all_wrappers = pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)


@autonomous
async def keep(auth: Auth, key: str) -> bool:
    """Writes a row, once."""
    await auth.tables.throttle.create(id=key, count=1, started_at=START, blocked_until=START)
    return True


@autonomous
async def rename(auth: Auth, user_id: object, name: str) -> int:
    """Changes a row, once."""
    return await auth.tables.user.filter(id=user_id, display_name=None).update(display_name=name)


@transactional
async def change(auth: Auth, key: str) -> None:
    """Writes a row that belongs to a change."""
    await auth.tables.throttle.create(id=key, count=1, started_at=START, blocked_until=START)


@pytest.fixture
def host(app: FastAPI) -> FastAPI:
    """A host app with a route that keeps something and then refuses, and one that does not."""
    auth: Auth = app.state.pluggable_auth

    @app.post("/refuse/{key}")
    async def refuse(key: str) -> None:
        await change(auth, f"change {key}")
        await keep(auth, key)
        raise HTTPException(418)

    @app.post("/allow/{key}")
    async def allow(key: str) -> None:
        await change(auth, f"change {key}")
        await keep(auth, key)

    @app.post("/stream/{key}")
    async def stream(key: str) -> StreamingResponse:
        await keep(auth, key)
        return StreamingResponse((b"0" * 2**18 for _ in range(8)), 418)

    return app


async def kept() -> list[str]:
    return await Throttle.all().order_by("id").values_list("id", flat=True)  # type: ignore[return-value]


@on_all_wrappers
async def test_what_must_outlive_a_refusal_does_and_a_change_does_not(
    host: FastAPI, client: httpx.AsyncClient, wrap: Callable[[FastAPI, str], None], database: Database
) -> None:
    wrap(host, database.dialect)
    async with asyncio.timeout(20):
        assert (await client.post("/refuse/a")).status_code == 418
        assert await kept() == ["a"]
        assert (await client.post("/allow/b")).status_code == 200
        assert await kept() == ["a", "b", "change b"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@on_all_wrappers
async def test_the_answer_waits_until_what_was_rolled_back_is_written_again(
    host: FastAPI, client: httpx.AsyncClient, wrap: Callable[[FastAPI, str], None], database: Database
) -> None:
    """Not only soon after it: the next request may come to another worker."""
    seen: list[list[str]] = []
    inner = host.build_middleware_stack

    def spied() -> ASGIApp:
        stack = inner()

        async def spy(scope: Scope, receive: Receive, send: Send) -> None:
            async def look(message: Message) -> None:
                if message["type"] == "http.response.start":
                    seen.append(await kept())
                await send(message)

            await stack(scope, receive, look)

        return spy

    wrap(host, database.dialect)
    host.build_middleware_stack = spied  # type: ignore[method-assign]
    assert (await client.post("/refuse/a")).status_code == 418
    assert seen == [["a"]]


async def transaction_of_request(database: str) -> AsyncIterator[None]:
    async with in_transaction(database):
        yield


@pytest.mark.parametrize("status", [200, 418])
async def test_a_transaction_in_a_dependency_or_on_the_route_is_no_other(
    host: FastAPI, client: httpx.AsyncClient, database: Database, status: int
) -> None:
    auth: Auth = host.state.pluggable_auth
    name = database.dialect

    async def dependency() -> AsyncIterator[None]:
        async with in_transaction(name):
            yield

    async def write(key: str) -> None:
        await change(auth, f"change {key}")
        await keep(auth, key)
        if status != 200:
            raise HTTPException(status)

    @host.post("/dependency", dependencies=[Depends(dependency)])
    async def by_dependency() -> None:
        await write("dependency")

    @host.post("/atomic")
    @atomic(name)
    async def by_decorator() -> None:
        await write("atomic")

    @host.post("/nested", dependencies=[Depends(dependency)])
    async def nested() -> None:
        try:
            async with in_transaction(name):
                await write("nested")
                raise InterruptedError
        except InterruptedError:
            return

    async with asyncio.timeout(20):
        for path in ("dependency", "atomic", "nested"):
            assert (await client.post(f"/{path}")).status_code == status
    changes = [] if status != 200 else ["change atomic", "change dependency"]
    assert await kept() == ["atomic", *changes, "dependency", "nested"]


@pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)
async def test_fifty_requests_in_transactions_on_a_pool_of_five_are_all_answered(
    host: FastAPI, mailbox: object, database: Database
) -> None:
    wrap_by_dispatch(host, database.dialect)
    async with TortoiseContext() as context:
        await context.init(databases.config(f"{database.url}?minsize=1&maxsize=5", database.dialect))
        await databases.empty(context, database.dialect)
        transport = httpx.ASGITransport(host)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            async with asyncio.timeout(30):
                answers = await asyncio.gather(*(client.post(f"/refuse/{n:02}") for n in range(50)))
        assert {answer.status_code for answer in answers} == {418}
        assert await kept() == [f"{n:02}" for n in range(50)]
        await host.state.pluggable_auth.close()


async def test_what_the_hosts_transaction_has_made_is_written_inside_it(
    host: FastAPI, client: httpx.AsyncClient, database: Database
) -> None:
    auth: Auth = host.state.pluggable_auth
    async with in_transaction(database.dialect):
        user = await User.create(email="new@example.com", hashed_password="!")
        assert await rename(auth, user.id, "Ada")
    assert (await User.get(id=user.id)).display_name == "Ada"


async def test_a_row_that_the_hosts_transaction_holds_is_written_in_it_and_again_after_it(
    host: FastAPI, client: httpx.AsyncClient, database: Database
) -> None:
    auth: Auth = host.state.pluggable_auth
    user = await User.create(email="held@example.com", hashed_password="!")

    @host.post("/hold")
    async def hold() -> None:
        await User.filter(id=user.id).update(is_verified=True)
        assert await rename(auth, user.id, "Ada")
        raise HTTPException(418)

    wrap_by_dispatch(host, database.dialect)
    async with asyncio.timeout(10):
        assert (await client.post("/hold")).status_code == 418
    written = await User.get(id=user.id)
    assert (written.display_name, written.is_verified) == ("Ada", False)


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_an_answer_that_cannot_wait_names_the_middleware_in_the_log(
    host: FastAPI, client: httpx.AsyncClient, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    wrap_in_plain_asgi(host, database.dialect)
    with caplog.at_level(logging.ERROR):
        assert len((await client.post("/stream/a")).content) == 2**21
    (error,) = [record.getMessage() for record in caplog.records]
    assert "POST /stream/a" in error
    assert f"{__name__}.TransactionAround." in error
    await host.state.pluggable_auth.close()
    assert await kept() == ["a"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_transaction_around_an_app_that_is_mounted_takes_back_nothing_for_long(
    host: FastAPI, tortoise: TortoiseContext, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    outer = FastAPI()
    outer.mount("/sub", host)
    wrap_by_dispatch(outer, database.dialect)
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        with caplog.at_level(logging.ERROR):
            assert (await client.post("/sub/refuse/a")).status_code == 418
    assert "POST /sub/refuse/a is answered before the transaction around it ends" in caplog.text
    await host.state.pluggable_auth.close()
    assert await kept() == ["a"]


@pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)
async def test_a_transaction_of_the_host_is_never_begun_anew_by_a_part_of_it(
    host: FastAPI, client: httpx.AsyncClient, database: Database
) -> None:
    """MariaDB ends the whole of a transaction to break a deadlock: what ran again would be committed
    statement by statement."""
    auth: Auth = host.state.pluggable_auth
    runs: list[str] = []

    @transactional
    async def meet(auth: Auth, first: str, second: str, met: asyncio.Barrier) -> None:
        runs.append(first)
        await auth.tables.throttle.filter(id=first).update(count=2)
        if len(runs) <= 2:
            await met.wait()
        await auth.tables.throttle.filter(id=second).update(count=2)

    async def in_a_host_transaction(first: str, second: str, met: asyncio.Barrier) -> None:
        async with in_transaction(database.dialect):
            await meet(auth, first, second, met)

    for key in ("a", "b"):
        await change(auth, key)
    met = asyncio.Barrier(2)
    async with asyncio.timeout(20):
        ended = await asyncio.gather(
            in_a_host_transaction("a", "b", met),
            in_a_host_transaction("b", "a", met),
            return_exceptions=True,
        )
    assert sorted(runs) == ["a", "b"]
    assert [result for result in ended if result is not None], "no deadlock"
    runs.clear()
    met = asyncio.Barrier(2)
    async with asyncio.timeout(20):
        await asyncio.gather(meet(auth, "a", "b", met), meet(auth, "b", "a", met))
    # Or twice: what is begun anew may take its first row before the other has woken up, and meet it again.
    assert len(runs) >= 3


async def test_without_a_transaction_of_the_host_no_connection_is_opened(
    host: FastAPI, client: httpx.AsyncClient, database: Database
) -> None:
    auth: Auth = host.state.pluggable_auth
    await keep(auth, "a")
    async with in_transaction(database.dialect):
        pass
    assert (await client.post("/allow/b")).status_code == 200
    assert await kept() == ["a", "b", "change b"]
    assert not auth.autonomous._clients


@on_all_wrappers
async def test_mails_are_sent_when_the_transaction_around_their_request_has_ended(
    host: FastAPI,
    client: httpx.AsyncClient,
    mailbox: Mailbox,
    wrap: Callable[[FastAPI, str], None],
    database: Database,
) -> None:
    wrap(host, database.dialect)
    async with asyncio.timeout(20):
        answer = await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
        assert answer.status_code == 201
        assert (await client.get(mailbox.link())).status_code == 200


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_a_transaction_on_another_connection_is_none_of_ours(
    app: FastAPI, database: Database, tmp_path: Path
) -> None:
    auth: Auth = app.state.pluggable_auth
    config = databases.config(database.url, database.dialect)
    config["connections"]["other"] = f"sqlite://{tmp_path / 'other.sqlite3'}"
    async with TortoiseContext() as context, asyncio.timeout(20):
        await context.init(config)
        await databases.empty(context, database.dialect)
        with suppress(InterruptedError):
            async with in_transaction("other"):
                await keep(auth, "a")
                await change(auth, "change a")
                raise InterruptedError
        assert await kept() == ["a", "change a"]
    await auth.close()


@pytest.mark.parametrize(
    ("beside_seconds", "surplus"),
    [(30, 0), (0.02, autonomous_module.MOST_CONNECTIONS)],
    ids=["beside", "late"],
)
@on_all_wrappers
async def test_a_server_throttles_guesses_and_keeps_refreshes_inside_transactions(
    monkeypatch: pytest.MonkeyPatch,
    beside_seconds: float,
    surplus: int,
    settings: AuthSettings,
    mailbox: Mailbox,
    tortoise: TortoiseContext,
    database: Database,
    wrap: Callable[[FastAPI, str], None],
) -> None:
    """Fifty connections at once, more than the pool has; also where none beside it comes in time. As
    the count moves into memory then, those on their way to the database may be forgotten."""
    monkeypatch.setattr(autonomous_module, "BESIDE_SECONDS", beside_seconds)
    settings.throttle_free_attempts, settings.require_verified_email = 5, False
    settings.throttle_first_pause = timedelta(seconds=10)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await Tortoise.init(databases.config(database.url, database.dialect))
        yield
        await Tortoise.close_connections()

    app = FastAPI(lifespan=lifespan)
    include_auth(app, settings=settings, clock=Clock())
    wrap(app, database.dialect)
    with serving(app) as base:
        async with httpx.AsyncClient(base_url=base, timeout=60) as client, asyncio.timeout(60):

            async def login(password: str, email: str = EMAIL) -> httpx.Response:
                return await client.post("/auth/login", json={"email": email, "password": password})

            signup = await client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
            assert signup.status_code == 201
            tokens = [(await login(PASSWORD)).json()["refresh_token"] for _ in range(10)]
            guesses = [login("not the right one") for _ in range(12)]
            names = [login(PASSWORD, f"x{n}@example.com") for n in range(18)]
            refreshes = [client.post("/auth/refresh", json={"token": token}) for token in tokens]
            again = [client.post("/auth/refresh", json={"token": token}) for token in tokens]
            answers = await asyncio.gather(*guesses, *names, *refreshes, *again)
    statuses = [answer.status_code for answer in answers]
    assert {*statuses[:12]} == {401, 429}
    assert abs(Counter(statuses[:12])[401] - 5) <= surplus
    assert Counter(statuses[12:30]) == {401: 18}
    refreshed = Counter(statuses[30:])
    # MariaDB may end a transaction of the host for a deadlock, which only the host can repeat.
    assert refreshed.keys() <= {200, 401} | ({503} if database.dialect == "mysql" else set())
    assert refreshed[200] == 10
