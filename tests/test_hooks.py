"""Hooks: what an app hears of its accounts, what it may refuse, and what it stores along."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pyotp
import pytest
from fastapi import FastAPI, HTTPException
from starlette.types import Message, Receive, Scope, Send
from tortoise.context import TortoiseContext
from tortoise.exceptions import IntegrityError, OperationalError

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings, ErrorCode, Refused, include_auth
from fastapi_pluggable_auth import hooks as hooks_module
from fastapi_pluggable_auth.events import Origin
from fastapi_pluggable_auth.flows.signup import signup
from fastapi_pluggable_auth.hooks import (
    AccountDeleted,
    AfterEvent,
    BeforeAccountDeletion,
    BeforeEmailChange,
    BeforeEvent,
    BeforeLogin,
    BeforePasswordChange,
    BeforeSignup,
    ChangingEmail,
    DeletingAccount,
    DuringEvent,
    EmailChanged,
    EmailVerified,
    Event,
    HookError,
    LoggedIn,
    LoggedOut,
    MailboxClaimed,
    OtherSessionsEnded,
    PasswordChanged,
    ProfileChanged,
    SessionEnded,
    SignedUp,
    SigningUp,
    TwoFactorDisabled,
    TwoFactorEnabled,
)
from fastapi_pluggable_auth.models import Mail, RecoveryCode, RefreshToken, Session, User
from fastapi_pluggable_auth.testing import FakeClock as Clock

from . import databases, own_tables
from .conftest import EMAIL, PASSWORD, Account, Mailbox, on_one_database
from .form_browser import BROWSER, FormBrowser
from .spare_database import SpareDatabase
from .test_notices import enable_two_factor
from .test_own_user import NewUser
from .test_password import NEW, forgot
from .test_readme import ROOT, python_block
from .test_recovery import renew

EVE = "eve@example.com"
REFUSAL = {"detail": "Not today, {sir} & <madam>.", "code": "not_today"}
EVENTS = [
    thing
    for thing in vars(hooks_module).values()
    if isinstance(thing, type) and issubclass(thing, Event) and not thing.__subclasses__()
]
only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def refuse(event: Event) -> None:
    raise Refused(REFUSAL["detail"], code=REFUSAL["code"])


@dataclass
class FlowRun:
    """A run of one flow: what it needs, what was stored when it began, and which events were heard since."""

    account: Account
    auth: Auth
    clock: Clock
    heard: list[Event] = field(default_factory=list)
    rows: dict[str, Any] = field(default_factory=dict)
    handlers: list[tuple[type[Event], Callable[[Any], object]]] = field(default_factory=list)

    @property
    def client(self) -> httpx.AsyncClient:
        return self.account.client

    @property
    def headers(self) -> dict[str, str]:
        return self.account.headers

    def then(self, event: type[Event], handler: Callable[[Any], object]) -> None:
        """Adds a handler where the flow begins."""
        self.handlers.append((event, handler))

    async def begins(self) -> None:
        """What came before was preparation."""
        self.heard.clear()
        self.rows = await stored()
        for event, handler in self.handlers:
            self.auth.on(event)(handler)
        self.handlers = []

    async def code(self) -> str:
        return pyotp.TOTP((await User.get(email=EMAIL)).totp_secret or "").at(self.clock())


@pytest.fixture
def run(account: Account, auth: Auth, clock: Clock) -> FlowRun:
    run = FlowRun(account, auth, clock)
    auth.on(Event)(run.heard.append)
    return run


@only_sqlite
@pytest.mark.parametrize("quiet", [False, True])
async def test_a_signup_is_answered_after_its_hooks_unless_their_time_would_tell(
    quiet: bool, app: FastAPI, auth: Auth, settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    settings.prevent_enumeration = quiet
    order: list[str] = []
    auth.on(SignedUp)(lambda event: order.append("hook"))

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            order.append(message["type"])
            await send(message)

        await app(scope, receive, noting)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(watched), base_url="http://test") as client:
        await client.post("/auth/signup", json={"email": EVE, "password": PASSWORD})
    assert order.index("hook") == (len(order) - 1 if quiet else 0)


async def signs_up(run: FlowRun) -> httpx.Response:
    await run.begins()
    return await run.client.post("/auth/signup", json={"email": EVE, "password": PASSWORD})


async def verifies(run: FlowRun) -> httpx.Response:
    await signs_up(run)
    await run.begins()
    return await run.client.post(run.account.mailbox.link(EVE))


async def logs_in(run: FlowRun) -> httpx.Response:
    await run.begins()
    return await run.account.login()


async def logs_in_with_a_recovery_code(run: FlowRun) -> httpx.Response:
    await enable_two_factor(run.account)
    codes = (await renew(run.account)).json()["codes"]
    await run.begins()
    return await run.account.login(codes[0])


async def asks_for_another_address(run: FlowRun) -> httpx.Response:
    await run.begins()
    return await run.client.patch("/account", json={"email": EVE}, headers=run.headers)


async def confirms_another_address(run: FlowRun) -> httpx.Response:
    await asks_for_another_address(run)
    await run.begins()
    return await run.client.post(run.account.mailbox.link(EVE))


async def confirms_another_address_unverified(run: FlowRun) -> httpx.Response:
    await asks_for_another_address(run)
    await User.all().update(is_verified=False)
    await run.begins()
    return await run.client.post(run.account.mailbox.link(EVE))


async def changes_the_profile(run: FlowRun) -> httpx.Response:
    await run.client.patch("/account", json={"display_name": "Ada"}, headers=run.headers)
    await run.begins()
    same = await run.client.patch("/account", json={"display_name": "Ada"}, headers=run.headers)
    assert same.status_code == 200
    return await run.client.patch("/account", json={"display_name": "A. L."}, headers=run.headers)


async def changes_the_password(run: FlowRun) -> httpx.Response:
    await run.begins()
    body = {"old_password": PASSWORD, "new_password": NEW}
    return await run.client.post("/account/change-password", json=body, headers=run.headers)


async def resets_the_password(run: FlowRun) -> httpx.Response:
    link = await forgot(run.client, run.account.mailbox)
    await run.begins()
    return await run.client.post(link, json={"new_password": NEW})


async def resets_the_password_unverified(run: FlowRun) -> httpx.Response:
    await enable_two_factor(run.account)
    await User.all().update(is_verified=False)
    return await resets_the_password(run)


async def claims_the_mailbox(run: FlowRun) -> httpx.Response:
    run.auth.settings.require_verified_email = False
    return await resets_the_password_unverified(run)


async def enables_two_factor(run: FlowRun) -> httpx.Response:
    await run.begins()
    return await enable_two_factor(run.account)


async def disables_two_factor(run: FlowRun) -> httpx.Response:
    await enable_two_factor(run.account)
    await run.begins()
    return await run.client.post("/account/2fa/disable", headers=run.headers)


async def cancels_two_factor(run: FlowRun) -> httpx.Response:
    await run.client.post("/auth/2fa/enable", headers=run.headers)
    await run.begins()
    return await run.client.post("/account/2fa/disable", headers=run.headers)


async def logs_out(run: FlowRun) -> httpx.Response:
    await run.begins()
    return await run.client.post("/auth/logout", headers=run.headers)


async def logs_out_others(run: FlowRun) -> httpx.Response:
    await run.begins()
    return await run.client.post("/account/logout-others", headers=run.headers)


async def ends_a_session(run: FlowRun) -> httpx.Response:
    (session,) = (await run.client.get("/account/sessions", headers=run.headers)).json()
    await run.begins()
    return await run.client.delete(f"/account/sessions/{session['id']}", headers=run.headers)


async def loses_a_token(run: FlowRun) -> httpx.Response:
    stolen = (await run.account.refresh()).json()["access_token"]
    assert (await run.account.me(stolen)).status_code == 200
    run.clock.advance(minutes=1)
    await run.begins()
    return await run.account.refresh()


async def deletes_the_account(run: FlowRun) -> httpx.Response:
    await run.begins()
    return await run.client.delete("/account", headers=run.headers)


Flow = Callable[[FlowRun], Awaitable[httpx.Response]]

FLOWS: dict[Flow, list[type[Event]]] = {
    signs_up: [BeforeSignup, SigningUp, SignedUp],
    verifies: [EmailVerified],
    logs_in: [BeforeLogin, LoggedIn],
    logs_in_with_a_recovery_code: [BeforeLogin, LoggedIn],
    asks_for_another_address: [BeforeEmailChange],
    confirms_another_address: [ChangingEmail, EmailChanged],
    confirms_another_address_unverified: [ChangingEmail, EmailChanged, EmailVerified],
    changes_the_profile: [ProfileChanged],
    changes_the_password: [BeforePasswordChange, PasswordChanged],
    resets_the_password: [BeforePasswordChange, PasswordChanged],
    resets_the_password_unverified: [BeforePasswordChange, PasswordChanged, EmailVerified],
    claims_the_mailbox: [
        BeforePasswordChange,
        PasswordChanged,
        EmailVerified,
        MailboxClaimed,
        TwoFactorDisabled,
    ],
    enables_two_factor: [TwoFactorEnabled],
    disables_two_factor: [TwoFactorDisabled],
    cancels_two_factor: [],
    logs_out: [LoggedOut],
    logs_out_others: [OtherSessionsEnded],
    ends_a_session: [SessionEnded],
    loses_a_token: [SessionEnded],
    deletes_the_account: [BeforeAccountDeletion, DeletingAccount, AccountDeleted],
}
STOPPABLE = [
    (flow, event)
    for flow, events in FLOWS.items()
    for event in events
    if issubclass(event, BeforeEvent | DuringEvent)
]
HARMLESS = [
    (flow, event) for flow, events in FLOWS.items() for event in events if issubclass(event, AfterEvent)
]


async def stored() -> dict[str, list[tuple[Any, ...]]]:
    """Every row but the counters of attempts."""
    tables = (User, Session, RefreshToken, Mail, RecoveryCode)
    return {table.__name__: sorted(await table.all().values_list(), key=str) for table in tables}


def test_every_event_has_a_flow_that_tells_it() -> None:
    assert {event for events in FLOWS.values() for event in events} == set(EVENTS)
    assert all(issubclass(event, BeforeEvent | DuringEvent | AfterEvent) for event in EVENTS)


@on_one_database
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
async def test_each_flow_tells_its_events_once_and_in_order(flow: Flow, run: FlowRun) -> None:
    answer = await flow(run)
    assert answer.is_success == (flow is not loses_a_token)
    assert [type(event) for event in run.heard] == FLOWS[flow]
    assert {event.origin.address for event in run.heard} <= {"192.0.2.7"}
    for event in run.heard:
        for name in ("user_id", "session_id"):
            assert isinstance(getattr(event, name, UUID(int=0)), UUID)


@only_sqlite
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
async def test_what_is_done_shows_the_account_as_it_is_now(flow: Flow, run: FlowRun) -> None:
    """But for what a login writes, which is of the one before this one."""
    shown: dict[str, object] = {}

    def look(event: Any) -> None:
        if hasattr(event, "user"):
            shown.update({name: getattr(event.user, name) for name in User._meta.fields_db_projection})

    run.then(AfterEvent, look)
    await flow(run)
    if not shown:
        return
    user = await User.get(id=shown["id"])
    names = shown.keys() - {"last_login_at", "sessions_opened", "totp_last_step"}
    assert {name: shown[name] for name in names} == {name: getattr(user, name) for name in names}


@on_one_database
async def test_events_carry_what_they_say(run: FlowRun) -> None:
    user = await User.get()
    await confirms_another_address(run)
    changing, changed = run.heard
    assert isinstance(changing, ChangingEmail)
    assert isinstance(changed, EmailChanged)
    assert (changing.new_email, changed.user.email, changed.old_email) == (EVE, EVE, EMAIL)
    run.account.email = EVE
    await logs_in(run)
    logged_in = run.heard[-1]
    session = await Session.all().order_by("-created_at").first()
    assert isinstance(logged_in, LoggedIn)
    assert session is not None
    assert (logged_in.session_id, logged_in.factors) == (session.id, ("pwd",))
    await changes_the_profile(run)
    assert isinstance(run.heard[0], ProfileChanged)
    assert run.heard[0].fields == ("display_name",)
    await logs_out_others(run)
    assert run.heard == [OtherSessionsEnded(user.id, session.id, origin=run.heard[0].origin)]
    await deletes_the_account(run)
    assert run.heard[-1] == AccountDeleted(user.id, EVE, origin=run.heard[-1].origin)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_an_event_is_frozen_and_has_no_room_for_a_secret(event: type[Event]) -> None:
    names = {each.name for each in dataclasses.fields(event)}
    assert names <= {
        "origin", "user", "user_id", "session_id", "email", "new_email", "old_email", "columns", "factors",
        "by_reset", "extra", "fields",
    }  # fmt: skip
    values: dict[str, Any] = dict.fromkeys(names)
    made = event(**values)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.origin = Origin()  # type: ignore[misc]
    assert not hasattr(made, "__dict__")


@on_one_database
@pytest.mark.parametrize(("flow", "event"), STOPPABLE, ids=lambda part: part.__name__)
async def test_a_refusal_reaches_the_client_and_nothing_is_stored(
    flow: Flow, event: type[Event], run: FlowRun, mailbox: Mailbox
) -> None:
    run.then(event, refuse)
    answer = await flow(run)
    assert (answer.status_code, answer.json()) == (403, REFUSAL)
    assert "www-authenticate" not in answer.headers
    assert [type(each) for each in run.heard] == FLOWS[flow][: FLOWS[flow].index(event) + 1]
    assert await stored() == run.rows


@pytest.mark.parametrize(("flow", "event"), STOPPABLE, ids=lambda part: part.__name__)
@pytest.mark.parametrize("error", [KeyError("a bug"), RuntimeError("a bug"), IntegrityError("a bug")])
@only_sqlite
async def test_a_bug_of_a_hook_stops_the_flow_and_is_no_answer_to_the_client(
    flow: Flow, event: type[Event], error: Exception, run: FlowRun
) -> None:
    async def fails(event: Event) -> None:
        raise error

    run.then(event, fails)
    with pytest.raises(HookError, match=f"fails failed on {event.__name__}") as raised:
        await flow(run)
    assert raised.value.__cause__ is error
    assert await stored() == run.rows
    assert not [each for each in run.heard if isinstance(each, AfterEvent)]


@pytest.mark.parametrize(("flow", "event"), HARMLESS, ids=lambda part: part.__name__)
@only_sqlite
async def test_a_failing_hook_changes_nothing_and_the_others_run(
    flow: Flow, event: type[Event], run: FlowRun, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(event: Event) -> None:
        raise HTTPException(400, "a bug")

    def waits_for_something_that_ended(event: Event) -> None:
        raise asyncio.CancelledError

    later: list[Event] = []
    for handler in (fails, refuse, waits_for_something_that_ended, later.append):
        run.then(event, handler)
    answer = await flow(run)
    assert answer.is_success == (flow is not loses_a_token)
    assert [type(each) for each in run.heard] == FLOWS[flow]
    assert [type(each) for each in later] == [event]
    failures = [record for record in caplog.records if record.name == hooks_module.__name__]
    names = ("fails", "refuse", "waits_for_something_that_ended")
    assert len(failures) == 3
    for record, name in zip(failures, names, strict=True):
        assert record.getMessage().endswith(f"{name} failed on {event.__name__}")
        assert record.exc_info is not None


REQUESTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "taken": ("POST", "/auth/signup", {"email": EMAIL, "password": PASSWORD}),
    "common password": ("POST", "/auth/signup", {"email": EVE, "password": "12345678"}),
    "wrong password": ("POST", "/auth/login", {"email": EMAIL, "password": "no"}),
    "unknown": ("POST", "/auth/login", {"email": EVE, "password": PASSWORD}),
    "dead link": ("POST", "/auth/verify/x", {}),
    "dead change": ("POST", "/auth/email-change/x", {}),
    "dead reset": ("POST", "/auth/reset-password/x", {"new_password": NEW}),
    "wrong old password": (
        "POST",
        "/account/change-password",
        {"old_password": "no", "new_password": NEW},
    ),
    "wrong code": ("POST", "/auth/2fa/verify", {"code": "000000"}),
    "no session": ("DELETE", f"/account/sessions/{UUID(int=0)}", {}),
    "late change": ("PATCH", "/account", {"email": EVE}),
    "late deletion": ("DELETE", "/account", {}),
    "late disabling": ("POST", "/account/2fa/disable", {}),
}


@pytest.mark.parametrize("request_of", REQUESTS)
@only_sqlite
async def test_what_was_refused_is_not_told_as_done(request_of: str, run: FlowRun) -> None:
    method, path, body = REQUESTS[request_of]
    if request_of.startswith("late"):
        run.clock.advance(minutes=20)
        run.auth.settings.access_token_expires = timedelta(hours=1)
        run.account.access_token = run.auth.signer.access_token(
            (await User.get()).id, (await Session.get()).id
        )
    await run.begins()
    answer = await run.client.request(method, path, json=body or None, headers=run.headers)
    assert answer.is_client_error, answer.text
    allowed = [BeforeSignup] if path.endswith("signup") else []
    assert [type(event) for event in run.heard] == allowed


@on_one_database
async def test_only_the_invited_sign_up_and_nobody_learns_who_has(
    client: httpx.AsyncClient, account: Account, auth: Auth, settings: AuthSettings, mailbox: Mailbox
) -> None:
    """The same refusal for a taken address, whether or not signups tell."""
    invited = {"grace@example.com"}

    @auth.on(BeforeSignup)
    async def invitation(event: BeforeSignup) -> None:
        assert event.columns == {}
        if event.email not in invited:
            raise Refused("Sign up by invitation only.", code="not_invited", status=409)

    mailbox.clear()
    for silent in (False, True):
        settings.prevent_enumeration = silent
        answers = [
            await client.post("/auth/signup", json={"email": email, "password": PASSWORD})
            for email in (EMAIL, EVE)
        ]
        assert [answer.status_code for answer in answers] == [409, 409]
        assert answers[0].content == answers[1].content
        assert answers[0].json() == {"detail": "Sign up by invitation only.", "code": "not_invited"}
    assert (await User.all().count(), mailbox.messages) == (1, [])
    body = {"email": "Grace@Example.com", "password": PASSWORD}
    assert (await client.post("/auth/signup", json=body)).status_code == 201


@only_sqlite
async def test_a_plain_function_allows_domains(client: httpx.AsyncClient, auth: Auth) -> None:
    @auth.on(BeforeSignup)
    def our_domain_only(event: BeforeSignup) -> None:
        if event.email.rpartition("@")[2] != "example.com":
            raise Refused("Use your address at example.com.", code="domain_not_allowed")

    statuses = [
        (await client.post("/auth/signup", json={"email": email, "password": PASSWORD})).status_code
        for email in ("ada@example.com", "ada@example.org", "ada@sub.example.com")
    ]
    assert statuses == [201, 403, 403]


@on_one_database
async def test_a_silent_signup_of_a_taken_address_is_told_to_no_hook(
    run: FlowRun, settings: AuthSettings
) -> None:
    settings.prevent_enumeration = True
    await run.begins()
    answer = await run.client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    assert answer.status_code == 201
    assert [type(event) for event in run.heard] == [BeforeSignup]


@on_one_database
async def test_a_refused_login_tells_only_whoever_knows_password_and_code(
    run: FlowRun, settings: AuthSettings
) -> None:
    """And is no guess: the owner is not slowed down."""
    await enable_two_factor(run.account)
    codes = (await renew(run.account)).json()["codes"]
    settings.throttle_free_attempts = 4
    run.then(BeforeLogin, refuse)
    await run.begins()

    async def code_of(email: str, password: str, code: str | None) -> str:
        said = await Account(run.client, run.account.mailbox, email, password).login(code)
        told: str = said.json()["code"]
        return told

    assert await code_of(EMAIL, "wrong password", codes[0]) == "invalid_credentials"
    assert await code_of(EVE, PASSWORD, codes[0]) == "invalid_credentials"
    assert await code_of(EMAIL, PASSWORD, None) == "two_factor_required"
    assert await code_of(EMAIL, PASSWORD, "000000") == "invalid_credentials"
    assert await code_of(EMAIL, PASSWORD, "-".join(["aaaa"] * 6)) == "invalid_credentials"
    assert run.heard == []
    for _ in range(6):
        assert await code_of(EMAIL, PASSWORD, codes[0]) == "not_today"
    assert [type(event) for event in run.heard] == [BeforeLogin] * 6
    assert await stored() == run.rows


async def test_a_refused_reset_leaves_the_link(run: FlowRun) -> None:
    link = await forgot(run.client, run.account.mailbox)
    refusals = [True]

    @run.auth.on(BeforePasswordChange)
    def once(event: BeforePasswordChange) -> None:
        if refusals and event.by_reset:
            refusals.pop()
            raise Refused("Not now.")

    answers = [await run.client.post(link, json={"new_password": NEW}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [403, 200]
    assert answers[0].json()["code"] == "refused"


@dataclass
class Host:
    """An app with a user and a table of its own: each user has a company of the same name."""

    auth: Auth
    client: httpx.AsyncClient

    async def sign_up(self, name: str = "ada") -> httpx.Response:
        body = {"email": f"{name}@example.com", "password": PASSWORD, "username": name}
        return await self.client.post("/auth/signup", json=body)

    async def rows(self) -> tuple[int, int, int]:
        """How many users, companies and mails there are."""
        tables = (own_tables.User, own_tables.Company, self.auth.tables.mail)
        users, companies, mails = [await table.all().count() for table in tables]
        return users, companies, mails


@pytest.fixture
async def host(settings: AuthSettings, spare: SpareDatabase, mailbox: Mailbox) -> AsyncIterator[Host]:
    await databases.create(spare.url, spare.dialect, own_tables.__name__, "shop")
    app = FastAPI()
    auth = include_auth(app, settings=settings, user_model=own_tables.User, user_create=NewUser)

    @auth.on(SigningUp[own_tables.User])
    async def found(event: SigningUp[own_tables.User]) -> None:
        event.user.company = await own_tables.Company.create(name=event.user.username)
        await event.user.save(update_fields=["company_id"])

    @auth.on(DeletingAccount)
    async def close(event: DeletingAccount[own_tables.User]) -> None:
        user = await own_tables.User.get(id=event.user.id).select_related("company")
        await own_tables.User.filter(id=user.id).update(company_id=None)
        assert user.company is not None
        await user.company.delete()

    transport = httpx.ASGITransport(app)
    async with TortoiseContext() as context:
        await context.init(databases.config(spare.url, f"{spare.dialect} own", "shop", own_tables.__name__))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield Host(auth, client)
        await auth.close()


async def test_a_row_of_the_host_is_stored_with_the_account_and_deleted_with_it(
    host: Host, mailbox: Mailbox
) -> None:
    assert (await host.sign_up()).status_code == 201
    user = await own_tables.User.get().select_related("company")
    assert user.company is not None
    assert user.company.name == "ada"
    await host.client.get(mailbox.link())
    login = {"email": EMAIL, "password": PASSWORD}
    token = (await host.client.post("/auth/login", json=login)).json()["access_token"]
    gone = await host.client.delete("/account", headers={"Authorization": f"Bearer {token}"})
    assert gone.status_code == 204
    assert await host.rows() == (0, 0, 1), "the mail that says so"


async def test_a_row_of_the_host_and_the_account_are_stored_both_or_neither(host: Host) -> None:
    """Whichever fails, and the transaction begins again where the database broke a deadlock."""
    fails: list[Exception] = [Refused("No."), KeyError(), OperationalError("database is locked")]

    @host.auth.on(SigningUp)
    async def after_the_row(event: SigningUp[own_tables.User]) -> None:
        if fails:
            raise fails.pop(0)

    assert (await host.sign_up()).json() == {"detail": "No.", "code": "refused"}
    assert await host.rows() == (0, 0, 0)
    with pytest.raises(HookError):
        await host.sign_up()
    assert await host.rows() == (0, 0, 0)
    assert (await host.sign_up()).status_code == 201
    assert (await host.rows(), fails) == ((1, 1, 1), [])
    taken = {"email": EMAIL, "password": PASSWORD, "username": "eve"}
    assert (await host.client.post("/auth/signup", json=taken)).status_code == 400
    assert await host.rows() == (1, 1, 1)


@only_sqlite
async def test_a_database_or_service_that_fails_in_a_hook_is_unavailable_and_no_bug(run: FlowRun) -> None:
    """And the client, and whoever reads the log, can tell one from the other."""
    fails: list[Exception] = [ConnectionRefusedError("gone"), TimeoutError(), OperationalError("gone")]

    @run.auth.on(BeforeSignup)
    def ask(event: BeforeSignup) -> None:
        raise fails.pop()

    for code in ("database_unavailable", "hook_unavailable", "hook_unavailable"):
        answer = await signs_up(run)
        assert (answer.status_code, answer.json()["code"]) == (503, code)
        assert answer.headers["retry-after"] == "1"
        assert await stored() == run.rows


@only_sqlite
async def test_the_client_of_a_service_and_a_group_of_tasks_name_what_failed(run: FlowRun) -> None:
    """HTTPX raises errors of its own, and a group one of its tasks."""

    async def ask(error: Exception | None) -> None:
        if error is not None:
            raise error
        async with httpx.AsyncClient() as service:
            await service.get("http://127.0.0.1:1")

    async def ask_in_a_group(error: Exception | None) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ask(error))

    bug = KeyError("x")
    bug.__cause__ = FileNotFoundError(2, "no such file", "settings.toml")
    works = [
        (ask, None),
        (ask_in_a_group, None),
        (ask_in_a_group, Refused("No.", code="no")),
        (ask_in_a_group, OperationalError("gone")),
        (ask_in_a_group, bug),
    ]

    @run.auth.on(BeforeSignup)
    async def next_of_them(event: BeforeSignup) -> None:
        work, error = works.pop(0)
        await work(error)

    for code in ("hook_unavailable", "hook_unavailable", "no", "database_unavailable"):
        assert (await signs_up(run)).json()["code"] == code
    with pytest.raises(HookError):
        await signs_up(run)
    assert await stored() == run.rows


@only_sqlite
async def test_handlers_run_one_after_the_other_in_order_until_one_refuses(run: FlowRun) -> None:
    """Those of a base class too, and those that were added while the app runs."""
    order: list[str] = []

    @run.auth.on(BeforeEvent)
    async def first(event: BeforeEvent) -> None:
        await asyncio.sleep(0)
        order.append("first")

    @run.auth.on(BeforeSignup)
    def second(event: BeforeSignup) -> None:
        order.append("second")

    assert (await signs_up(run)).status_code == 201
    run.auth.on(BeforeSignup)(refuse)
    run.auth.on(BeforeEvent)(lambda event: order.append("third"))
    assert (await signs_up(run)).status_code == 403
    assert order == ["first", "second"] * 2
    assert first.__name__ == "first"


@only_sqlite
async def test_a_hook_takes_no_time_from_the_database_and_has_a_bound(
    run: FlowRun, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where it hashes, whose clock stands still by itself."""
    settings.database_timeout = timedelta(seconds=0.3)

    async def takes_long(event: Event) -> None:
        await run.auth.hasher.hash(PASSWORD)
        await asyncio.sleep(0.5)

    for event in (BeforeSignup, SignedUp):
        run.then(event, takes_long)
    assert (await signs_up(run)).status_code == 201
    settings.database_timeout, settings.hook_timeout = timedelta(seconds=60), timedelta(seconds=0.01)

    @run.auth.on(LoggedIn)
    async def never_returns(event: LoggedIn) -> None:
        await asyncio.Event().wait()

    assert (await logs_in(run)).status_code == 200
    assert "never_returns failed on LoggedIn" in caplog.text
    assert "TimeoutError" in caplog.text
    run.then(BeforePasswordChange, never_returns)
    answer = await changes_the_password(run)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["code"] == "hook_unavailable"
    assert await stored() == run.rows


@only_sqlite
async def test_a_hook_that_takes_the_time_of_the_database_is_not_told_as_its_outage(
    run: FlowRun, settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.database_timeout = timedelta(seconds=0.5)

    @run.auth.on(SigningUp)
    async def dawdles(event: SigningUp) -> None:
        await asyncio.sleep(60)

    answer = await signs_up(run)
    assert (answer.status_code, answer.json()["code"]) == (503, "hook_unavailable")
    assert "dawdles on SigningUp" in caplog.text
    assert await stored() == run.rows


async def test_a_request_that_is_cancelled_in_a_hook_ends_there(run: FlowRun) -> None:
    """After the commit: what is done stays done, and later handlers do not run."""
    waiting = asyncio.Event()

    async def waits(event: Event) -> None:
        waiting.set()
        await asyncio.Event().wait()

    later: list[Event] = []
    run.then(SignedUp, waits)
    run.then(SignedUp, later.append)
    request = asyncio.create_task(signs_up(run))
    await waiting.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert await User.exists(email=EVE)
    assert later == []


@only_sqlite
async def test_a_script_runs_the_same_hooks(tortoise: TortoiseContext, settings: AuthSettings) -> None:
    """Nowhere is where it comes from."""
    auth = Auth(settings)
    heard: list[Event] = []
    auth.on(Event)(heard.append)
    user = await signup(auth, EMAIL, PASSWORD)
    assert heard == [BeforeSignup(EMAIL, {}), SigningUp(user), SignedUp(user)]
    assert heard[-1].origin == Origin("", "")
    auth.on(BeforeSignup)(refuse)
    with pytest.raises(Refused, match="Not today") as refused:
        await signup(auth, EVE, PASSWORD)
    assert refused.value.code.code == "not_today"
    await auth.close()


async def test_what_nobody_hears_is_not_even_made(auth: Auth) -> None:
    def explodes(*about: object) -> Event:
        raise AssertionError

    await auth.hooks.fire(explodes)
    auth.on(BeforeSignup)(refuse)
    await auth.hooks.fire(LoggedIn)  # type: ignore[arg-type]  # it would take three
    with pytest.raises(TypeError):
        await auth.hooks.fire(BeforeSignup)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "code", ["", "Not_today", "not today", "not-today", "_x", "x__y", "9x", "x\n", "throttled"]
)
def test_a_refusal_has_a_code_of_its_own_in_snake_case(code: str) -> None:
    with pytest.raises(ValueError, match="snake_case"):
        Refused("No.", code=code)


def test_the_code_of_a_refusal_fits_the_audit_log() -> None:
    assert Refused("No.", code="x" * 64).code.code == "x" * 64
    with pytest.raises(ValueError, match="more than 64 characters"):
        Refused("No.", code="x" * 65)


@pytest.mark.parametrize("status", [200, 302, 399, 401, 422, 500, 503])
def test_a_refusal_has_the_status_of_a_refusal(status: int) -> None:
    with pytest.raises(ValueError, match="status"):
        Refused("No.", status=status)


def test_a_refusal_is_an_auth_error_with_its_words() -> None:
    refused = Refused("By invitation only.", code="not_invited_2", status=409)
    assert isinstance(refused, AuthError)
    assert (refused.code.status, refused.code.code, str(refused)) == (
        409,
        "not_invited_2",
        "By invitation only.",
    )
    assert refused.headers == {}
    assert refused.code not in set(ErrorCode)


@pytest.mark.parametrize("thing", [str, AuthError, print])
def test_only_events_are_heard(thing: Any, settings: AuthSettings) -> None:
    with pytest.raises(TypeError):
        Auth(settings).on(thing)


PAGES_BASE = "http://localhost:8000"


@pytest.fixture
async def visitor(
    settings: AuthSettings, clock: Clock, tortoise: TortoiseContext, mailbox: Mailbox
) -> AsyncIterator[tuple[FormBrowser, Auth]]:
    """A browser at the account pages, where a user exists."""
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock, pages=True)
    await User.create(email=EMAIL, hashed_password=await auth.hasher.hash(PASSWORD), is_verified=True)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=PAGES_BASE, headers=BROWSER) as client:
        yield FormBrowser(client), auth
    await auth.close()


@only_sqlite
async def test_the_pages_say_the_sentence_of_a_refusal(
    visitor: tuple[FormBrowser, Auth], mailbox: Mailbox, settings: AuthSettings, template_dir: Path
) -> None:
    """As text, and in the words of the app's own for its code, where there are some."""
    browser, auth = visitor
    said = "Not today, {sir} &amp; &lt;madam&gt;."
    refusing = [True]

    def refuse_now(event: Event) -> None:
        if refusing:
            refuse(event)

    auth.on(BeforeEvent)(refuse_now)
    auth.on(ChangingEmail)(refuse_now)

    def assert_refused() -> None:
        assert browser.page.status == 403
        assert said in browser.page.text

    await browser.open("/account/sign-up")
    await browser.submit("new_password", email=EVE, new_password=PASSWORD)
    assert_refused()
    assert browser.page.form("new_password").fields["email"]["value"] == EVE
    await browser.open("/account/sign-in")
    await browser.submit("password", email=EMAIL, password=PASSWORD)
    assert_refused()
    assert not await Session.exists()
    refusing.clear()
    await browser.submit("password", email=EMAIL, password=PASSWORD)
    assert browser.page.path == "/account/profile"
    refusing.append(True)
    await browser.submit("email", email=EVE)
    assert_refused()
    await browser.submit("new_password", password=PASSWORD, new_password=NEW)
    assert_refused()
    await browser.open("/account/delete")
    await browser.submit("sure", sure="yes")
    assert_refused()
    refusing.clear()
    await browser.open("/account/profile")
    await browser.submit("email", email=EVE)
    await browser.open(mailbox.link(EVE))
    refusing.append(True)
    (form,) = browser.page.forms
    await browser.submit(form.action.rsplit("/", 1)[1])
    assert_refused()
    await browser.client.post("/auth/forgot-password", json={"email": EMAIL})
    await browser.open(mailbox.link())
    await browser.submit("new_password", new_password=NEW)
    assert_refused()
    (template_dir / "de").mkdir()
    (template_dir / "de" / "page_words.toml").write_text('[errors]\nnot_today = "Heute nicht."')
    settings.template_dir = template_dir
    await browser.open(mailbox.link())
    await browser.submit("new_password", new_password=NEW)
    assert said in browser.page.text
    browser.client.headers["Accept-Language"] = "de"
    await browser.open(mailbox.link())
    await browser.submit("new_password", new_password=NEW)
    assert "Heute nicht." in browser.page.text


@only_sqlite
async def test_a_login_in_two_steps_asks_and_tells_once(
    visitor: tuple[FormBrowser, Auth], clock: Clock
) -> None:
    browser, auth = visitor
    heard: list[Event] = []
    auth.on(Event)(heard.append)
    secret = pyotp.random_base32()
    await User.all().update(totp_secret=secret, totp_confirmed=True, totp_enrolled_at=clock())
    await browser.open("/account/sign-in")
    await browser.submit("password", email=EMAIL, password=PASSWORD)
    assert heard == []
    await browser.submit("code", code="000000")
    assert heard == []
    await browser.submit("code", code=pyotp.TOTP(secret).at(clock()))
    assert [type(event) for event in heard] == [BeforeLogin, LoggedIn]
    assert isinstance(heard[1], LoggedIn)
    assert heard[1].factors == ("pwd", "otp")


TYPED = """
from fastapi import FastAPI

from fastapi_pluggable_auth import SecurityEvent, include_auth
from fastapi_pluggable_auth.hooks import AfterEvent, LoggedOut, SignedUp
from fastapi_pluggable_auth.models import AbstractUser


class Member(AbstractUser):
    city: str


auth = include_auth(FastAPI())


@auth.on(SignedUp)
async def shipped(event: SignedUp) -> None:
    event.user.email.lower()


@auth.on(SignedUp)
async def own(event: SignedUp[Member]) -> str:
    return event.user.city


@auth.on(AfterEvent)
def all_of_them(event: AfterEvent) -> None: ...


@auth.on(SecurityEvent)
def security(event: SecurityEvent) -> None: ...


@auth.on(LoggedOut)
def wrong_event(event: SignedUp) -> None: ...


@auth.on(SignedUp)
def wrong_column(event: SignedUp[Member]) -> object:
    return event.user.town
"""


def test_handlers_are_typed_and_know_the_model_of_the_host(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "app.py").write_text(TYPED)
    command = ["--strict", "--cache-dir", str(tmp_path / "cache"), "--config-file", os.devnull, "app.py"]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *command], cwd=tmp_path, capture_output=True, text=True
    )
    errors = [line for line in result.stdout.splitlines() if "error:" in line]
    assert len(errors) == 2, result.stdout
    assert 'expected "Callable[[LoggedOut], ' in errors[0]
    assert '"Member" has no attribute "town"' in errors[1]


def test_the_page_on_hooks_lists_every_event_with_what_it_carries() -> None:
    page = (ROOT / "docs" / "hooks.md").read_text("utf-8").split("\n## The events\n")[1]
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", page, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(event.__name__ for event in EVENTS)
    for name, carries in rows:
        named = set(re.findall(r"`(\w+)`", carries)) - {"pwd", "otp", "recovery", "passkey"}
        assert named == {each.name for each in dataclasses.fields(getattr(hooks_module, name))} - {"origin"}


@only_sqlite
async def test_the_hook_of_the_readme_allows_one_domain(client: httpx.AsyncClient, auth: Auth) -> None:
    exec(python_block("@auth.on(BeforeSignup)"), {"auth": auth})
    body = {"email": "ada@example.org", "password": PASSWORD}
    assert (await client.post("/auth/signup", json=body)).json()["code"] == "domain_not_allowed"
    assert (await client.post("/auth/signup", json=body | {"email": EMAIL})).status_code == 201
