"""The audit log: what happens to an account is kept, for its user to read, and forgotten in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext
from tortoise.transactions import in_transaction

from fastapi_pluggable_auth import Auth, AuthSettings, afterwards, include_auth
from fastapi_pluggable_auth.events import EventKind, Observation, Origin, Outcome, origin
from fastapi_pluggable_auth.features import AuditLog, Feature
from fastapi_pluggable_auth.features.administration.users import delete_user
from fastapi_pluggable_auth.features.audit_log.flows import list_events
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import AuditEvent, Mail, User
from fastapi_pluggable_auth.security.identifiers import first_id_at, time_ordered_id

from .conftest import EMAIL, PASSWORD, Account, Clock, Database, on_one_database
from .shipped import ALL_CODES, ALL_EVENT_KINDS, ALL_MAILS
from .test_queries import STATEMENT

ANYBODY = "eve@example.com"


@pytest.fixture
def features() -> list[Feature]:
    return [AuditLog()]


async def activity(account: Account, **query: Any) -> dict[str, Any]:
    answer = await account.client.get("/account/activity", params=query, headers=account.headers)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def test_a_user_reads_what_happened_to_the_account_the_newest_first(
    account: Account, client: httpx.AsyncClient, clock: Clock
) -> None:
    """A-90."""
    await Account(client, account.mailbox, EMAIL, "wrong password").login()
    events = (await activity(account))["events"]
    assert [f"{event['event']} {event['outcome']}" for event in events] == [
        "login failure",
        "login success",
        "email_verification success",
        "signup success",
    ]
    failure, login = events[:2]
    assert (failure["reason"], failure["session_id"], failure["factors"]) == ("invalid_credentials", None, [])
    assert (login["reason"], login["factors"], login["by_administrator"]) == (None, ["pwd"], False)
    sessions = (await client.get("/account/sessions", headers=account.headers)).json()
    assert login["session_id"] == sessions[0]["id"]
    assert login["address"] == "192.0.2.7"
    assert login["user_agent"].startswith("python-httpx/")
    assert abs(datetime.fromisoformat(login["time"]) - clock()) < timedelta(minutes=1)


@on_one_database
async def test_nobody_reads_the_activity_of_somebody_else(
    account: Account, register: Callable[..., Any]
) -> None:
    other = await register(ANYBODY)
    mine, theirs = (await activity(account))["events"], (await activity(other))["events"]
    assert len(mine) == len(theirs) == 3
    assert not {event["id"] for event in mine} & {event["id"] for event in theirs}
    assert [event["id"] for event in (await activity(other, after=mine[0]["id"]))["events"]] == []
    assert (await account.client.get("/account/activity")).status_code == 401


async def test_pages_lose_no_event_and_show_none_twice_while_others_are_written(account: Account) -> None:
    for _ in range(5):
        await account.login()
    before = [event["id"] for event in (await activity(account))["events"]]
    assert len(before) == 8
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = await activity(account, limit=3, **after)
        seen += [event["id"] for event in page["events"]]
        await account.login()
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == before


@on_one_database
@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "x"},
        {"limit": "9" * 5000},
        {"after": "x"},
        {"after": ""},
        {"after": "\0"},
        {"after": "1; DROP TABLE auth_audit_event"},
        {"after": "%ff%fe"},
        {"after": "0" * 33},
    ],
)
async def test_a_cursor_or_size_that_is_none_is_refused(query: dict[str, str], account: Account) -> None:
    answer = await account.client.get("/account/activity", params=query, headers=account.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


async def test_any_id_is_a_place_in_the_log(account: Account) -> None:
    assert (await activity(account, after=str(UUID(int=0))))["events"] == []
    assert len((await activity(account, after="f" * 32))["events"]) == 3
    await activity(account, after=str(uuid4()))


@on_one_database
async def test_what_anybody_could_fill_the_table_with_is_not_kept(
    account: Account, client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    before = await AuditEvent.all().count()
    for _ in range(3):
        await Account(client, account.mailbox, "nobody@example.com", PASSWORD).login()
        await account.me("nonsense")
        await client.post("/auth/forgot-password", json={"email": EMAIL})
        await client.get("/auth/verify/nonsense")
    spent = account.refresh_token
    account.refresh_token = (await account.refresh()).json()["refresh_token"]
    for _ in range(3):
        await account.refresh(spent)
    assert await AuditEvent.all().count() == before
    settings.throttle_free_attempts = 2
    wrong = Account(client, account.mailbox, EMAIL, "wrong password")
    statuses = [(await wrong.login()).status_code for _ in range(8)]
    assert statuses.count(401) == await AuditEvent.all().count() - before
    for _ in range(5):
        await client.post("/auth/reauthenticate", json={"password": "wrong"}, headers=account.headers)
    assert await AuditEvent.filter(reason="throttled").count() == 0


async def test_theft_and_lost_answers_are_kept(account: Account, clock: Clock) -> None:
    spent = account.refresh_token
    tokens = (await account.refresh()).json()
    clock.advance(minutes=1)
    await account.refresh(spent)
    await account.me(tokens["access_token"])
    await account.login()
    events = (await activity(account))["events"]
    assert [event["event"] for event in events[:3]] == ["login", "refresh_reuse", "refresh_lost"]


async def test_a_deleted_account_leaves_what_was_done_and_not_from_where(
    account: Account, client: httpx.AsyncClient, auth: Auth, register: Callable[..., Any]
) -> None:
    other = await register(ANYBODY)
    user = await User.get(email=EMAIL)
    actor = await User.get(email=ANYBODY)
    for subject, doer in ((user, actor), (actor, user)):
        observation = Observation(subject.id, actor_id=doer.id)
        await auth.events.emit(EventKind.SESSION_END, Outcome.SUCCESS, observation)
    await AuditEvent.filter(kind="session_end").update(address="192.0.2.9", user_agent="theirs")
    assert (await client.delete("/account", headers=account.headers)).status_code == 204
    rows = await AuditEvent.filter(user_id=user.id).order_by("-id")
    assert [row.kind for row in rows] == [
        "account_deletion",
        "session_end",
        "login",
        "email_verification",
        "signup",
    ]
    by_others = [row for row in rows if row.actor_id]
    assert [(row.address, row.user_agent) for row in by_others] == [("192.0.2.9", "theirs")]
    assert {(row.address, row.user_agent) for row in rows if not row.actor_id} == {("", "")}
    done = await AuditEvent.get(actor_id=user.id)
    assert (done.user_id, done.address, done.user_agent) == (actor.id, "", "")
    # Whoever stays keeps what is theirs.
    assert {row.address for row in await AuditEvent.filter(user_id=actor.id, actor_id=None)} == {"192.0.2.7"}
    assert EMAIL not in str([dict(row) for row in await AuditEvent.all()])
    assert (await activity(other))["events"][0]["by_administrator"] is True


async def test_a_refused_deletion_forgets_nothing(account: Account, clock: Clock) -> None:
    clock.advance(hours=1)
    await account.client.delete("/account", headers=account.headers)
    await account.login()
    events = (await activity(account))["events"]
    assert {event["address"] for event in events} == {"192.0.2.7"}


@on_one_database
async def test_nobody_learns_which_administrator_acted_and_from_where(account: Account, auth: Auth) -> None:
    user = await User.get()
    doer = uuid4()
    await auth.events.emit(EventKind.SESSION_END, Outcome.SUCCESS, Observation(user.id, actor_id=doer))
    await AuditEvent.filter(actor_id=doer).update(address="198.51.100.1", user_agent="theirs")
    answer = await account.client.get("/account/activity", headers=account.headers)
    event = answer.json()["events"][0]
    assert (event["by_administrator"], event["address"], event["user_agent"]) == (True, "", "")
    assert str(doer) not in answer.text


async def test_the_log_is_read_by_account_and_by_administrator(account: Account, auth: Auth) -> None:
    user, doer = await User.get(), uuid4()
    await auth.events.emit(EventKind.SESSION_END, Outcome.SUCCESS, Observation(user.id, actor_id=doer))
    await auth.events.emit(EventKind.SESSION_END, Outcome.SUCCESS, Observation(uuid4(), actor_id=doer))
    assert len((await list_events(auth)).events) == 5
    assert len((await list_events(auth, user_id=user.id)).events) == 4
    assert len((await list_events(auth, actor_id=doer)).events) == 2
    assert len((await list_events(auth, actor_id=doer, user_id=user.id)).events) == 1
    page = await list_events(auth, limit=5)
    assert page.next is None


async def test_events_are_purged_after_their_time(account: Account, auth: Auth, clock: Clock) -> None:
    clock.advance(days=89)
    await account.login()
    assert (await purge(auth))["auth_audit_event"] == 0
    clock.advance(days=2)
    assert (await purge(auth))["auth_audit_event"] == 3
    assert [row.kind for row in await AuditEvent.all()] == ["login"]
    auth.settings.audit_retention = timedelta(days=1)
    assert (await purge(auth))["auth_audit_event"] == 1


async def test_a_log_that_cannot_be_written_breaks_no_login(
    account: Account, caplog: pytest.LogCaptureFixture, tortoise: TortoiseContext, database: Database
) -> None:
    connection = tortoise.connections.get(database.dialect)
    before = await AuditEvent.all().count()
    await connection.execute_script("ALTER TABLE auth_audit_event RENAME TO audit_away")
    try:
        assert (await account.login()).status_code == 200
    finally:
        await connection.execute_script("ALTER TABLE audit_away RENAME TO auth_audit_event")
    assert "Not done after the answer: the audit row of login" in caplog.text
    assert (await account.me()).status_code == 200
    assert await AuditEvent.all().count() == before


async def test_a_log_that_is_locked_breaks_no_login(
    account: Account,
    auth: Auth,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As while somebody alters the table: rows wait, more than there is room for too; none is lost."""
    if database.dialect == "sqlite":
        pytest.skip("one lock for all tables")
    monkeypatch.setattr(afterwards, "MOST_JOBS", 2)
    before = await AuditEvent.all().count()
    scheme, module = ("asyncpg", "postgres") if database.dialect == "postgres" else ("asyncmy", "mysql")
    locking = await _second_connection(scheme, database.url)
    try:
        await locking.begin()
        logins = [asyncio.ensure_future(account.login()) for _ in range(5)]
        done, _ = await asyncio.wait(logins, timeout=3)
        assert [login.result().status_code for login in done] == [200] * len(done), module
        assert len(done) >= 2
    finally:
        await locking.end()
    assert [login.status_code for login in await asyncio.gather(*logins)] == [200] * 5
    assert len((await activity(account))["events"]) == before + 5


async def test_no_transaction_of_the_host_takes_a_row_back(
    app: FastAPI, account: Account, database: Database
) -> None:
    """Rows are written when the answer is out, whatever wraps the request."""

    class RolledBack:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            with suppress(ZeroDivisionError):
                async with in_transaction(database.dialect):
                    await self.app(scope, receive, send)
                    raise ZeroDivisionError

    app.middleware_stack = None
    app.add_middleware(RolledBack)
    before = await AuditEvent.all().count()
    wrong = Account(account.client, account.mailbox, EMAIL, "wrong password")
    statuses = [(await wrong.login()).status_code for _ in range(3)]
    assert statuses == [401] * 3
    assert [row.reason for row in (await AuditEvent.all().order_by("-id"))[:3]] == ["invalid_credentials"] * 3
    assert await AuditEvent.all().count() == before + 3


async def test_a_script_finds_the_row_of_what_it_did_and_no_rollback_of_its_own_takes_it_back(
    account: Account, auth: Auth, database: Database
) -> None:
    user = await User.get()
    await auth.events.emit(EventKind.SESSION_END, Outcome.SUCCESS, Observation(user.id))
    assert await AuditEvent.filter(kind="session_end").count() == 1
    with suppress(ZeroDivisionError):
        async with in_transaction(database.dialect):
            await auth.events.emit(EventKind.SESSION_END, Outcome.SUCCESS, Observation(user.id))
            raise ZeroDivisionError
    await auth.close()
    assert await AuditEvent.filter(kind="session_end").count() == 2


async def test_rows_that_wait_are_written_when_the_app_ends(account: Account, auth: Auth) -> None:
    user = await User.get()
    async with auth.autonomous.answering():  # as while a request is answered
        for _ in range(20):
            await auth.events.emit(EventKind.SESSION_END, Outcome.SUCCESS, Observation(user.id))
        assert await AuditEvent.filter(kind="session_end").count() == 0
        await auth.close()
    assert await AuditEvent.filter(kind="session_end").count() == 20


async def test_a_row_that_waits_for_a_deleted_account_does_not_say_from_where(
    account: Account, auth: Auth
) -> None:
    user = await User.get()
    async with auth.autonomous.answering():
        origin.set(lambda: Origin("192.0.2.9", "theirs"))
        await auth.events.emit(EventKind.SESSION_END, Outcome.SUCCESS, Observation(user.id))
        await delete_user(auth, user.id)
    row = await AuditEvent.get(kind="session_end")
    assert (row.address, row.user_agent) == ("", "")


async def test_a_row_that_is_written_while_the_account_is_deleted_does_not_say_from_where(
    account: Account, auth: Auth, database: Database
) -> None:
    """It waits for the one connection of SQLite until the account is gone."""
    user = await User.get()
    async with auth.autonomous.answering():
        origin.set(lambda: Origin("192.0.2.9", "theirs"))
        await auth.events.emit(EventKind.SESSION_END, Outcome.SUCCESS, Observation(user.id))
        async with in_transaction(database.dialect):
            await auth.afterwards.flush()
            await delete_user(auth, user.id)
    await auth.afterwards.flush()
    row = await AuditEvent.get(kind="session_end")
    assert (row.address, row.user_agent) == ("", "")


class _Locking:
    def __init__(self, connection: Any, lock: list[str], unlock: list[str], run: Callable[..., Any]) -> None:
        self.connection, self.lock, self.unlock, self.run = connection, lock, unlock, run

    async def begin(self) -> None:
        for statement in self.lock:
            await self.run(statement)

    async def end(self) -> None:
        for statement in self.unlock:
            await self.run(statement)
        closing = self.connection.close()
        if closing is not None:
            await closing


async def _second_connection(driver: str, url: str) -> _Locking:
    if driver == "asyncpg":
        import asyncpg

        connection = await asyncpg.connect(url)
        lock = ["BEGIN", "LOCK TABLE auth_audit_event IN ACCESS EXCLUSIVE MODE"]
        return _Locking(connection, lock, ["ROLLBACK"], connection.execute)
    import asyncmy

    address = httpx.URL(url.replace("mysql", "http", 1))
    connection = await asyncmy.connect(
        host=address.host, port=address.port, user=address.username, db=address.path.strip("/")
    )

    async def run(statement: str) -> None:
        async with connection.cursor() as cursor:
            await cursor.execute(statement)

    return _Locking(connection, ["LOCK TABLES auth_audit_event WRITE"], ["UNLOCK TABLES"], run)


async def test_a_kept_event_takes_one_statement_and_none_where_the_log_is_off(
    account: Account, settings: AuthSettings, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    quiet = FastAPI()
    plain = include_auth(quiet, settings=settings, clock=clock)
    transport = httpx.ASGITransport(quiet)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        unlogged = Account(client, account.mailbox, EMAIL, PASSWORD)
        assert (await client.get("/account/activity", headers=account.headers)).status_code == 404
        before = await AuditEvent.all().count()
        counts = []
        for who in (unlogged, account):
            with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
                caplog.clear()
                assert (await who.login()).status_code == 200
            counts.append(len([line for line in caplog.messages if STATEMENT.match(line)]))
    await plain.close()
    assert counts[1] == counts[0] + 1
    assert await AuditEvent.all().count() == before + 1


def test_ids_are_uuids_of_version_7_in_the_order_of_time() -> None:
    """RFC 9562: its own example, and the order of any two moments."""
    example = datetime.fromtimestamp(1645557742, UTC)  # appendix A.6
    assert str(first_id_at(example)).startswith("017f22e2-79b0-7000-8000-")
    moments = [example + timedelta(microseconds=step) for step in (0, 1, 2, 499, 999, 1000, 1001, 10**9)]
    ids = [time_ordered_id(moment) for moment in moments]
    assert ids == sorted(ids)
    assert [str(each) for each in ids] == sorted(str(each) for each in ids)
    assert {(each.version, each.variant) for each in ids} == {(7, "specified in RFC 4122")}
    for moment, each in zip(moments, ids, strict=True):
        assert first_id_at(moment) <= each < first_id_at(moment + timedelta(microseconds=1))
    assert len({time_ordered_id(example) for _ in range(1000)}) == 1000


def test_whatever_an_event_says_fits_its_column() -> None:
    columns = AuditEvent._meta.fields_map
    said = {
        "kind": [kind.value for kind in ALL_EVENT_KINDS],
        "outcome": [outcome.value for outcome in Outcome],
        "reason": [code.code for code in ALL_CODES],
        "factors": ["pwd recovery", "pwd otp"],
    }
    for column, values in said.items():
        assert max(map(len, values)) <= columns[column].constraints["max_length"], column
    kinds = [kind.value for kind in ALL_MAILS]
    assert max(map(len, kinds)) <= Mail._meta.fields_map["kind"].constraints["max_length"]


@pytest.mark.parametrize("named", [[], [AuditLog()]])
def test_the_setting_turns_it_on_as_naming_it_does(settings: AuthSettings, named: list[Feature]) -> None:
    app = FastAPI()
    chosen = settings.model_copy(update={"audit_log": True})
    auth = include_auth(app, settings=chosen, features=named)
    assert "/account/activity" in app.openapi()["paths"]
    assert [feature.name for feature in auth.features].count("audit_log") == 1
