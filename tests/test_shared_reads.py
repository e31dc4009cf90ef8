"""Look-ups that share a statement are as good as those that have one each: no request gets what another one
asked for, fails as another one does, or learns how things were before it asked."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import re
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from tortoise.backends.sqlite.client import SqliteClient
from tortoise.context import TortoiseContext
from tortoise.exceptions import OperationalError
from tortoise.transactions import in_transaction

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings, include_auth
from fastapi_pluggable_auth import shared_reads as shared_reads_module
from fastapi_pluggable_auth.autonomous import Request
from fastapi_pluggable_auth.failures import WrongRowError
from fastapi_pluggable_auth.features import PersonalTokens
from fastapi_pluggable_auth.features.personal_tokens import flows as personal_tokens
from fastapi_pluggable_auth.features.personal_tokens.secret import digest_of, generate_secret
from fastapi_pluggable_auth.flows.authentication import Authentication, authenticate
from fastapi_pluggable_auth.flows.sessions import end_session
from fastapi_pluggable_auth.models import PersonalToken, Session, User
from fastapi_pluggable_auth.security.jwt import ACCESS

from . import databases
from .conftest import Clock

SELECT = re.compile(r"SELECT .*auth_(session|personal_token)")
EXAMPLES = 15

on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    features = [PersonalTokens(scopes={"notes:read": "Read notes", "notes:write": "Write notes"})]
    include_auth(app, settings=settings, clock=clock, features=features)
    return app


async def open_sessions(auth: Auth, count: int) -> list[tuple[UUID, UUID]]:
    """Of a user each: their ids."""
    now = auth.clock()
    times = {"authenticated_at": now, "expires_at": now + timedelta(days=1)}
    opened = []
    for _ in range(count):
        user = await User.create(email=f"{uuid4().hex}@example.com", hashed_password="x", is_verified=True)
        opened.append((user.id, (await Session.create(user=user, **times)).id))
    return opened


def token_of(auth: Auth, user_id: UUID, session_id: UUID) -> str:
    now = auth.clock()
    ends = now + timedelta(hours=1)
    return auth.signer.sign(ACCESS, user_id, issued_at=now, expires_at=ends, sid=str(session_id))


async def ask(auth: Auth, user_id: UUID, session_id: UUID) -> Authentication:
    return await authenticate(auth, token_of(auth, user_id, session_id))


async def outcome(auth: Auth, user_id: UUID, session_id: UUID) -> tuple[UUID, UUID | None] | str:
    """Who it is, or the code of the refusal."""
    try:
        found = await ask(auth, user_id, session_id)
    except AuthError as error:
        return error.code.code
    return found.user.id, found.session_id


def statements(caplog: pytest.LogCaptureFixture) -> int:
    return len([line for line in caplog.messages if SELECT.match(line)])


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """Statements of SQLite wait, or fail, as a test says."""
    held = Held(SqliteClient.execute_query_dict)
    monkeypatch.setattr(SqliteClient, "execute_query_dict", held.run)
    return held


class Held:
    """Stands between Tortoise and the database."""

    def __init__(self, run: Callable[..., Awaitable[list[dict[str, Any]]]]) -> None:
        self._run = run
        self.gates: list[asyncio.Event] = []
        """Each keeps the next look-up until it is set."""
        self.asked: list[int] = []
        """How many keys each look-up has."""
        self.cancelled = 0
        self.answer: Callable[[bool, list[dict[str, Any]]], list[dict[str, Any]]] = lambda _, rows: rows

    def hold(self) -> asyncio.Event:
        self.gates.append(gate := asyncio.Event())
        return gate

    @property
    def run(self) -> Any:
        async def run(client: SqliteClient, query: str, values: Any = None) -> list[dict[str, Any]]:
            if not SELECT.match(query):
                return await self._run(client, query, values)
            many = " IN (" in query
            self.asked.append(len(set(values)) if many else 1)
            try:
                if self.gates:
                    await self.gates.pop(0).wait()
                return self.answer(many, await self._run(client, query, values))
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

        return run


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_look_ups_at_once_take_two_statements(
    auth: Auth, tortoise: TortoiseContext, caplog: pytest.LogCaptureFixture
) -> None:
    """That of the first, who waits for nobody, and that of all others."""
    opened = await open_sessions(auth, 40)
    with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
        caplog.clear()
        found = await asyncio.gather(*(ask(auth, *each) for each in opened))
    assert [(each.user.id, each.session_id) for each in found] == opened
    assert statements(caplog) == 2


async def test_requests_at_once_are_answered_to_who_has_asked(client: httpx.AsyncClient, auth: Auth) -> None:
    opened = await open_sessions(auth, 8) * 4
    headers = [{"Authorization": f"Bearer {token_of(auth, *each)}"} for each in opened]
    answers = await asyncio.gather(*(client.get("/auth/me", headers=each) for each in headers))
    assert [UUID(answer.json()["id"]) for answer in answers] == [user_id for user_id, _ in opened]


@on_sqlite
async def test_a_request_leaves_nothing_to_the_garbage_collector(
    app: FastAPI, auth: Auth, tortoise: TortoiseContext
) -> None:
    """Which else ran through the whole process again and again while requests came."""
    opened = await open_sessions(auth, 8)
    tokens = [token_of(auth, *each) for each in opened]
    statuses: list[int] = []

    async def ask_as_a_server(token: str) -> None:  # httpx makes cycles of its own
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        headers = [(b"authorization", f"Bearer {token}".encode())]
        scope = {"type": "http", "method": "GET", "path": "/auth/me", "query_string": b"", "headers": headers}
        await app(scope, receive, send)

    await asyncio.gather(*map(ask_as_a_server, tokens))
    gc.collect()
    gc.disable()
    try:
        await asyncio.gather(*map(ask_as_a_server, tokens))
        assert statuses == [200] * 16
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert not [each for each in gc.garbage if isinstance(each, Request)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_no_mix_of_look_ups_changes_what_any_of_them_finds(
    auth: Auth, tortoise: TortoiseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions that live and that have ended, of nobody, of another user, asked for several times, given up
    at any moment; in statements of every size."""
    chance = random.Random(24)  # noqa: S311 - the same each time
    opened = await open_sessions(auth, 12)
    for _, session_id in opened[:3]:
        await Session.filter(id=session_id).update(revoked_at=auth.clock())
    swapped = [(user_id, opened[-1 - index][1]) for index, (user_id, _) in enumerate(opened)]
    unknown = [(opened[0][0], uuid4()), (uuid4(), opened[5][1]), (uuid4(), uuid4())]
    refused = {*opened[:3], *swapped, *unknown}
    for _ in range(EXAMPLES):
        monkeypatch.setattr(shared_reads_module, "MOST_TOGETHER", chance.choice((1, 2, 5, 128)))
        asked = chance.choices([*opened * 2, *swapped, *unknown], k=chance.randint(1, 50))
        tasks = [asyncio.create_task(outcome(auth, *each)) for each in asked]
        for task in chance.sample(tasks, k=len(tasks) // 4):
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        for each, came in zip(asked, found, strict=True):
            right = "invalid_token" if each in refused else each
            assert came == right or isinstance(came, asyncio.CancelledError)


async def test_two_look_ups_of_one_session_have_users_of_their_own(
    auth: Auth, tortoise: TortoiseContext
) -> None:
    """A route may change the one that it is given."""
    (only,) = await open_sessions(auth, 1)
    users = [found.user for found in await asyncio.gather(*(ask(auth, *only) for _ in range(5)))]
    assert len({id(user) for user in users}) == 5
    assert [vars(user) for user in users] == [vars(await User.get(id=only[0]))] * 5


async def test_a_session_that_was_ended_is_refused_at_once_under_load(
    auth: Auth, tortoise: TortoiseContext
) -> None:
    opened = await open_sessions(auth, 12)
    going_on = True

    async def load(user_id: UUID, session_id: UUID) -> None:
        while going_on:
            await ask(auth, user_id, session_id)

    tasks = [asyncio.create_task(load(*each)) for each in opened[6:]]
    try:
        for user_id, session_id in opened[:6]:
            assert await outcome(auth, user_id, session_id) == (user_id, session_id)
            await end_session(auth, user_id, session_id)
            assert await outcome(auth, user_id, session_id) == "invalid_token"
    finally:
        going_on = False
        await asyncio.gather(*tasks)


@on_sqlite
async def test_a_row_is_read_after_it_was_asked_for(
    auth: Auth, tortoise: TortoiseContext, held: Held
) -> None:
    """Who comes while a statement is under way does not join it: it may have read the session already."""
    (user_id, session_id), *others = await open_sessions(auth, 4)
    gates = held.hold(), held.hold()
    first = asyncio.create_task(outcome(auth, *others[0]))
    await until(lambda: held.asked == [1])
    second = [asyncio.create_task(outcome(auth, *each)) for each in others[1:]]
    await asyncio.sleep(0)
    gates[0].set()
    await until(lambda: held.asked == [1, 2])
    await end_session(auth, user_id, session_id)
    late = asyncio.create_task(outcome(auth, user_id, session_id))
    await asyncio.sleep(0)
    gates[1].set()
    assert await asyncio.gather(first, *second, late) == [*others, "invalid_token"]
    assert held.asked == [1, 2, 1]


@on_sqlite
@pytest.mark.parametrize("given_up", [{0}, {1}, {1, 2, 3}, {0, 2, 4}, {0, 1, 2, 3, 4}])
async def test_who_gives_up_ends_no_other_look_up(
    given_up: set[int], auth: Auth, tortoise: TortoiseContext, held: Held
) -> None:
    """The first has a statement of its own, the others share one; the statement of those who have all gone is
    ended."""
    opened = await open_sessions(auth, 5)
    gates = held.hold(), held.hold()
    tasks = [asyncio.create_task(outcome(auth, *each)) for each in opened]
    await until(lambda: held.asked == [1, 4])  # after the longest wait: the first is held
    for number in given_up:
        tasks[number].cancel()
    await until(lambda: all(tasks[number].done() for number in given_up))
    await until(lambda: held.cancelled == (0 in given_up) + ({1, 2, 3, 4} <= given_up))
    for gate in gates:
        gate.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    for number, came in enumerate(found):
        assert isinstance(came, asyncio.CancelledError) if number in given_up else came == opened[number]
    assert await outcome(auth, *opened[0]) == opened[0]


@on_sqlite
async def test_those_who_give_up_before_their_statement_leave_nothing_behind(
    auth: Auth, tortoise: TortoiseContext, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_reads_module, "LONGEST_WAIT_SECONDS", 600)
    opened = await open_sessions(auth, 3)
    gate = held.hold()
    tasks = [asyncio.create_task(outcome(auth, *each)) for each in opened]
    await until(lambda: held.asked == [1])
    tasks[1].cancel()
    tasks[2].cancel()
    gate.set()
    assert await tasks[0] == opened[0]
    assert await outcome(auth, *opened[1]) == opened[1]
    assert held.asked == [1, 1]


@on_sqlite
async def test_a_slow_statement_holds_up_no_other(auth: Auth, tortoise: TortoiseContext, held: Held) -> None:
    opened = await open_sessions(auth, 6)
    gate = held.hold()
    slow = asyncio.create_task(outcome(auth, *opened[0]))
    await until(lambda: held.asked == [1])
    for _ in range(3):
        assert await asyncio.gather(*(outcome(auth, *each) for each in opened[1:])) == opened[1:]
    assert not slow.done()
    gate.set()
    assert await slow == opened[0]


def _fails(many: bool, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    raise OperationalError("refused")


def _fails_for_many(many: bool, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return _fails(many, rows) if many else rows


def _answers_another_question(many: bool, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, ".id": str(uuid4())} for row in rows]


def _answers_another_question_for_many(many: bool, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return _answers_another_question(many, rows) if many else rows


@on_sqlite
@pytest.mark.parametrize(
    ("answer", "kind"), [(_fails, OperationalError), (_answers_another_question, WrongRowError)]
)
async def test_a_failure_reaches_each_as_its_own(
    answer: Any, kind: type[Exception], auth: Auth, tortoise: TortoiseContext, held: Held
) -> None:
    """A traceback that several tasks add to would grow, and name the frames of others."""
    opened = await open_sessions(auth, 5)
    held.answer = answer
    failures = await asyncio.gather(*(ask(auth, *each) for each in opened), return_exceptions=True)
    assert {type(failure) for failure in failures} == {kind}
    assert len({id(failure) for failure in failures}) == 5


@on_sqlite
@pytest.mark.parametrize("answer", [_fails_for_many, _answers_another_question_for_many])
async def test_what_fails_for_several_is_asked_for_by_each(
    answer: Any, auth: Auth, tortoise: TortoiseContext, held: Held
) -> None:
    opened = await open_sessions(auth, 5)
    held.answer = answer
    assert await asyncio.gather(*(outcome(auth, *each) for each in opened)) == opened
    assert held.asked[:2] == [1, 4]


@on_sqlite
async def test_a_rows_user_has_to_be_that_of_the_session(
    auth: Auth, tortoise: TortoiseContext, held: Held
) -> None:
    opened = await open_sessions(auth, 3)

    def others(many: bool, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, "id": str(opened[0][0])} for row in rows]

    held.answer = others
    found = await asyncio.gather(*(ask(auth, *each) for each in opened), return_exceptions=True)
    assert [type(each) for each in found] == [Authentication, WrongRowError, WrongRowError]


async def test_a_transaction_of_the_host_reads_for_itself(
    auth: Auth, tortoise: TortoiseContext, database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It sees what it has not committed yet, which no other request may see."""
    opened = await open_sessions(auth, 6)
    async with in_transaction(database.dialect):
        await Session.filter(id=opened[0][1]).update(revoked_at=auth.clock())
        with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
            caplog.clear()
            found = await asyncio.gather(*(outcome(auth, *each) for each in opened))
        assert found == ["invalid_token", *opened[1:]]
        assert statements(caplog) == 6


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_requests_beside_a_transaction_of_the_host_do_not_see_into_it(
    auth: Auth, tortoise: TortoiseContext, database: Any
) -> None:
    opened = await open_sessions(auth, 6)
    begun, done = asyncio.Event(), asyncio.Event()

    async def host() -> list[object]:
        async with in_transaction(database.dialect):
            await Session.all().update(revoked_at=auth.clock())
            begun.set()
            found = await asyncio.gather(*(outcome(auth, *each) for each in opened))
            await done.wait()
            return list(found)

    inside = asyncio.create_task(host())
    await begun.wait()
    try:
        assert await asyncio.gather(*(outcome(auth, *each) for each in opened)) == opened
    finally:
        done.set()
    assert await inside == ["invalid_token"] * 6


def test_event_loops_share_nothing(tmp_path: Path, settings: AuthSettings) -> None:
    """Nor do apps on other databases, where the `Auth` is the same."""
    auth = Auth(settings)
    results: list[object] = []

    async def run(number: int) -> None:
        async with TortoiseContext() as context:
            url = f"sqlite://{tmp_path / f'{number}.sqlite3'}"
            await context.init(databases.config(url, "sqlite"))
            await context.generate_schemas()
            opened = await open_sessions(auth, 10)
            for _ in range(20):
                results.append(await asyncio.gather(*(outcome(auth, *each) for each in opened)) == opened)

    threads = [threading.Thread(target=asyncio.run, args=(run(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 60


async def test_personal_tokens_share_statements_too(
    auth: Auth, tortoise: TortoiseContext, caplog: pytest.LogCaptureFixture
) -> None:
    opened, secrets = await open_sessions(auth, 12), [generate_secret() for _ in range(12)]
    scopes = [frozenset({("notes:read", "notes:write")[number % 2]}) for number in range(12)]
    for (user_id, _), secret, allowed in zip(opened, secrets, scopes, strict=True):
        await PersonalToken.create(
            user_id=user_id,
            name="backup",
            digest=digest_of(secret),
            scopes=allowed,
            last_used_at=auth.clock(),
        )
    with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
        caplog.clear()
        asked = (personal_tokens.authenticate_token(auth, secret) for secret in secrets)
        found = await asyncio.gather(*asked)
    assert [(each.user.id, each.scopes) for each in found] == [
        (user_id, allowed) for (user_id, _), allowed in zip(opened, scopes, strict=True)
    ]
    assert statements(caplog) == 2

    await PersonalToken.filter(digest=digest_of(secrets[3])).delete()
    asked = (personal_tokens.authenticate_token(auth, secret) for secret in secrets)
    kinds = [type(each) for each in await asyncio.gather(*asked, return_exceptions=True)]
    assert kinds == [Authentication] * 3 + [AuthError] + [Authentication] * 8
