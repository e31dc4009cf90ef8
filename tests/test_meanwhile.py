"""Nothing is written over what has changed since it was looked at.

Each request here waits for a row that another transaction has changed and not committed yet: it has read the
account as it was, and must find that out when it writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pyotp
import pytest
from fastapi import FastAPI
from passlib.hash import django_pbkdf2_sha256
from tortoise.connection import get_connections
from tortoise.expressions import Q
from tortoise.transactions import in_transaction

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.features import PersonalTokens
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import (
    Mail,
    MailState,
    PersonalToken,
    RecoveryCode,
    RefreshToken,
    Session,
    User,
)
from fastapi_pluggable_auth.security.rehashes import rehash_note

from .conftest import EMAIL, PASSWORD, Account, Clock, Database
from .form_browser import FormBrowser, Page

DIALECTS = ("postgres",)
NEW = "a new horse battery"
WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

T = TypeVar("T")


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """With pages, and scopes for personal tokens."""
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        clock=clock,
        pages=True,
        features=[PersonalTokens(scopes={"notes:read": "Read notes"})],
    )
    return app


async def raced(database: Database, request: Awaitable[T], change: Callable[[], Awaitable[object]]) -> T:
    """What comes of a request while this change is not committed yet."""
    made, waits = asyncio.Event(), asyncio.Event()

    async def other() -> None:
        async with in_transaction(database.dialect):
            await change()
            made.set()
            await waits.wait()

    changing = asyncio.create_task(other())
    await made.wait()
    asking = asyncio.ensure_future(request)
    connection = get_connections().get(database.dialect)
    try:
        while not await connection.execute_query_dict(WAITING):
            assert not asking.done(), f"it did not wait: {asking.result()}"
            await asyncio.sleep(0.005)
    finally:
        waits.set()
        await changing
    return await asking


class Actor:
    """Somebody with an account, who prepares the requests that others come between."""

    def __init__(self, account: Account, auth: Auth, clock: Clock, visitor: FormBrowser) -> None:
        self.account, self.auth, self.clock, self.visitor = account, auth, clock, visitor

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        return await self.account.client.post(path, json=body, headers=self.account.headers)

    async def enrol(self) -> pyotp.TOTP:
        """Begins with a second factor."""
        begun = await self.post("/auth/2fa/enable")
        totp: pyotp.TOTP = pyotp.parse_uri(begun.json()["otpauth_uri"])  # type: ignore[assignment]
        return totp

    async def with_two_factor(self) -> pyotp.TOTP:
        """Turns it on; its next code is a fresh one."""
        totp = await self.enrol()
        assert (await self.post("/auth/2fa/verify", {"code": totp.at(self.clock())})).is_success
        return totp


Request = Callable[[], Awaitable[Any]]


async def resets(actor: Actor) -> Request:
    await actor.post("/auth/forgot-password", {"email": EMAIL})
    link = actor.account.mailbox.link()
    return lambda: actor.post(link, {"new_password": NEW})


async def claims(actor: Actor) -> Request:
    await User.filter(email=EMAIL).update(is_verified=False, last_login_at=None)
    return await resets(actor)


async def changes_the_password(actor: Actor) -> Request:
    body = {"old_password": PASSWORD, "new_password": NEW}
    return lambda: actor.post("/account/change-password", body)


async def verifies(actor: Actor) -> Request:
    await User.filter(email=EMAIL).update(is_verified=False)
    await actor.post("/auth/verify/resend", {"email": EMAIL})
    link = actor.account.mailbox.link()
    return lambda: actor.account.client.post(link)


async def confirms_an_address(actor: Actor) -> Request:
    await actor.account.client.patch(
        "/account", json={"email": "new@example.com"}, headers=actor.account.headers
    )
    link = actor.account.mailbox.link("new@example.com")
    return lambda: actor.account.client.post(link)


async def keeps_the_address(actor: Actor) -> Request:
    await confirms_an_address(actor)
    link = actor.account.mailbox.link(EMAIL)
    return lambda: actor.account.client.post(link)


async def logs_in(actor: Actor) -> Request:
    return actor.account.login


async def logs_in_with_a_code(actor: Actor) -> Request:
    totp = await actor.with_two_factor()
    actor.clock.advance(seconds=31)
    return lambda: actor.account.login(totp.at(actor.clock()))


async def answers_a_challenge(actor: Actor) -> Request:
    totp = await actor.with_two_factor()
    actor.clock.advance(seconds=31)
    await actor.visitor.open("/account/sign-in")
    await actor.visitor.submit("password", email=EMAIL, password=PASSWORD)
    return lambda: actor.visitor.submit("code", code=totp.at(actor.clock()))


async def reauthenticates(actor: Actor) -> Request:
    return lambda: actor.post("/auth/reauthenticate", {"password": PASSWORD})


async def begins_two_factor(actor: Actor) -> Request:
    return lambda: actor.post("/auth/2fa/enable")


async def activates_two_factor(actor: Actor) -> Request:
    totp = await actor.enrol()
    return lambda: actor.post("/auth/2fa/verify", {"code": totp.at(actor.clock())})


async def renews_recovery_codes(actor: Actor) -> Request:
    await actor.with_two_factor()
    return lambda: actor.post("/auth/2fa/recovery-codes")


async def makes_a_token(actor: Actor) -> Request:
    return lambda: actor.post("/account/tokens", {"name": "build", "scopes": ["notes:read"]})


NOW = datetime(2031, 1, 1, tzinfo=UTC)
ADDRESS = {"email": "other@example.com"}
HASH = {"hashed_password": django_pbkdf2_sha256.using(rounds=1000).hash("another one")}
DISABLED = {"is_active": False}
EPOCH = {"access_epoch": 77}
ANOTHER = {"pending_email": "evil@example.com"}
ELSEWHERE = {"pending_email_session": uuid4()}
ENROLLED = {"totp_enrolled_at": NOW}
CODE_SPENT = {"totp_last_step": 2**40}

MEANWHILE: dict[Callable[[Actor], Awaitable[Request]], tuple[int, tuple[dict[str, Any], ...]]] = {
    resets: (400, (ADDRESS, HASH, DISABLED)),
    claims: (400, (ADDRESS, HASH, DISABLED, {"is_verified": True})),
    changes_the_password: (403, (ADDRESS, HASH, DISABLED, EPOCH)),
    verifies: (400, (ADDRESS, {"is_verified": True})),
    confirms_an_address: (400, (ADDRESS, HASH, DISABLED, ANOTHER, ELSEWHERE)),
    keeps_the_address: (400, (ADDRESS, ANOTHER, ELSEWHERE)),
    logs_in: (401, (HASH, DISABLED, {"password_reset_required": True})),
    logs_in_with_a_code: (401, (HASH, ENROLLED, CODE_SPENT, {"totp_confirmed": False})),
    answers_a_challenge: (400, (HASH, EPOCH, CODE_SPENT, {"last_login_at": NOW})),
    reauthenticates: (403, (HASH, DISABLED)),
    begins_two_factor: (409, ({"totp_confirmed": True},)),
    activates_two_factor: (400, (ENROLLED, CODE_SPENT, {"totp_confirmed": True})),
    renews_recovery_codes: (409, ({"totp_confirmed": False},)),
    makes_a_token: (401, (DISABLED, EPOCH)),
}


@pytest.fixture
async def actor(account: Account, auth: Auth, clock: Clock, client: httpx.AsyncClient) -> Actor:
    """Somebody who is signed in, and another account that is as it was."""
    await User.create(email="bob@example.com", hashed_password="x")
    return Actor(account, auth, clock, FormBrowser(client))


@pytest.mark.parametrize(
    ("does", "status", "columns"),
    [(does, status, columns) for does, (status, changes) in MEANWHILE.items() for columns in changes],
    ids=lambda each: each.__name__ if callable(each) else next(iter(each)) if isinstance(each, dict) else "",
)
async def test_what_changes_meanwhile_is_kept_and_the_request_refused(
    does: Callable[[Actor], Awaitable[Request]],
    status: int,
    columns: dict[str, Any],
    actor: Actor,
    database: Database,
) -> None:
    request = await does(actor)
    account = User.filter(id=(await User.get(email=EMAIL)).id)
    (before,) = await account.values()
    rows = [await table.all().count() for table in (Session, PersonalToken, RecoveryCode)]
    answer = await raced(database, request(), lambda: account.update(**columns))
    told = answer.answer if isinstance(answer, Page) else answer
    assert told.status_code == status, told.text[:200]
    assert await account.values() == [before | columns]
    assert [await table.all().count() for table in (Session, PersonalToken, RecoveryCode)] == rows


@pytest.mark.parametrize("does", [does for does, (_, changes) in MEANWHILE.items() if HASH in changes])
async def test_another_hash_of_the_same_password_refuses_nothing(
    does: Callable[[Actor], Awaitable[Request]], actor: Actor, database: Database, auth: Auth
) -> None:
    """As a sign-in beside it stores one after an import."""
    request = await does(actor)
    user = await User.get(email=EMAIL)
    new = await auth.hasher.hash(PASSWORD)
    columns = {"hashed_password": new, "rehash_note": rehash_note(new, user.password_id)}
    answer = await raced(database, request(), lambda: User.filter(id=user.id).update(**columns))
    told = answer.answer if isinstance(answer, Page) else answer
    assert told.status_code < 400, told.text[:200]


async def test_a_hash_that_is_renewed_brings_no_old_password_back(
    account: Account, database: Database, auth: Auth
) -> None:
    await User.all().update(hashed_password=django_pbkdf2_sha256.using(rounds=1000).hash(PASSWORD))
    new = await auth.hasher.hash(NEW)
    login = await raced(database, account.login(), lambda: User.all().update(hashed_password=new))
    assert login.status_code == 401
    assert (await User.get()).hashed_password == new
    account.password = NEW
    assert (await account.login()).status_code == 200


async def test_a_mail_that_another_process_takes_meanwhile_is_not_given_up(
    account: Account, auth: Auth, clock: Clock, database: Database
) -> None:
    """It had waited for too long when this process looked."""
    await Mail.all().delete()
    await auth.outbox.add(MailKind.RESET, EMAIL)
    await Mail.all().update(give_up_at=clock())
    taken = {"state": MailState.SENDING, "next_attempt_at": clock() + timedelta(minutes=2)}
    assert await raced(database, auth.outbox.claim(1), lambda: Mail.all().update(**taken)) == []
    assert (await Mail.get()).state is MailState.SENDING


async def test_a_mail_that_is_tried_again_meanwhile_is_not_purged(
    account: Account, auth: Auth, clock: Clock, database: Database
) -> None:
    await Mail.all().delete()
    await auth.outbox.add(MailKind.RESET, EMAIL)
    old = clock() - timedelta(days=400)
    await Mail.all().update(state=MailState.DEAD, created_at=old)
    deleted = await raced(database, purge(auth), lambda: auth.outbox.retry(Q()))
    assert deleted["auth_mail"] == 0
    assert (await Mail.get()).state is MailState.WAITING


@pytest.mark.parametrize("what", ["spent", "shown", "ended"])
async def test_a_pair_is_not_replaced_that_is_spent_shown_or_ended_meanwhile(
    what: str, account: Account, clock: Clock, database: Database, settings: AuthSettings
) -> None:
    """Its answer seemed to be lost."""
    settings.refresh_idempotent = True
    spent = account.refresh_token
    assert (await account.refresh()).status_code == 200
    clock.advance(seconds=30)
    unseen = RefreshToken.filter(revoked=False)
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "spent": lambda: unseen.update(revoked=True, rotated_at=clock(), replaced_by="another"),
        "shown": lambda: Session.all().update(confirmed_gen=1),
        "ended": lambda: Session.all().update(revoked_at=clock()),
    }
    before = await RefreshToken.all().count()
    answer = await raced(database, account.refresh(spent), changes[what])
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert await RefreshToken.all().count() == before
    assert not await RefreshToken.filter(superseded=True).exists()
    assert (await Session.get()).revoked_at is not None


async def test_a_pair_that_is_superseded_while_it_is_shown_ends_its_session_alone(
    account: Account, database: Database
) -> None:
    """Another request has replaced it: two have the answer."""
    await account.login()
    session, other = await Session.all().order_by("-id")
    answer = await account.refresh()
    account.access_token = answer.json()["access_token"]
    superseded = {"confirmed_gen": 1, "superseded": "1"}
    shown = await raced(database, account.me(), lambda: Session.filter(id=session.id).update(**superseded))
    assert (shown.status_code, shown.json()["code"]) == (401, "invalid_token")
    assert (await Session.get(id=session.id)).revoked_at is not None
    assert (await Session.get(id=other.id)).revoked_at is None


async def test_what_is_shown_late_unsays_nothing_newer(account: Account, database: Database) -> None:
    answer = await account.refresh()
    account.access_token = answer.json()["access_token"]
    shown = await raced(database, account.me(), lambda: Session.all().update(confirmed_gen=3))
    assert shown.status_code == 200
    assert (await Session.get()).confirmed_gen == 3


async def test_the_hash_that_is_read_again_is_the_one_of_the_account(
    actor: Actor, database: Database, auth: Auth
) -> None:
    """The other account is the later row of both."""
    request = await resets(actor)
    user = await User.get(email=EMAIL)
    new = await auth.hasher.hash(PASSWORD)

    async def change() -> None:
        note = rehash_note(new, user.password_id)
        await User.filter(id=user.id).update(hashed_password=new, rehash_note=note)
        await User.create(email="carol@example.com", hashed_password="x")

    assert (await raced(database, request(), change)).status_code == 200
