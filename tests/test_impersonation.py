"""Acting as a user: for a while, without what is the user's alone, and never unseen."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import Depends, FastAPI
from jose import jwt
from tortoise.transactions import in_transaction

from fastapi_pluggable_auth import Auth, AuthSettings, RecentUser, SecurityEvent, include_auth
from fastapi_pluggable_auth.dependencies import CurrentAuthentication
from fastapi_pluggable_auth.events import EventKind
from fastapi_pluggable_auth.features import Administration
from fastapi_pluggable_auth.features.administration import users as users_flow
from fastapi_pluggable_auth.flows import authorization as authorization_flow
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.hooks import AfterEvent, SessionEnded
from fastapi_pluggable_auth.models import AuditEvent, RefreshToken, Session, User
from fastapi_pluggable_auth.security.jwt import ACCESS, REFRESH

from .conftest import (
    EMAIL,
    PASSWORD,
    SQLITE_UNLESS_FULL,
    Account,
    Clock,
    Database,
    Mailbox,
    on_each_database,
    on_one_database,
)
from .form_browser import BROWSER
from .test_admin import EVE, Administrator, id_of
from .test_admin import administrator as administrator
from .test_admin import app as app
from .test_admin import eve as eve
from .test_admin import root as root
from .test_events import LOGGER

DIALECTS = SQLITE_UNLESS_FULL

RIGHTS = ["accounts:impersonate", "posts:read"]


async def act(root: Administrator, email: str = EVE) -> Account:
    """The tokens of the user, in the administrator's hands."""
    answer = await root.post(await id_of(email), "impersonate")
    assert answer.status_code == 200, answer.text
    tokens = answer.json()
    assert tokens.keys() == {"access_token", "refresh_token", "token_type"}
    held = (tokens["access_token"], tokens["refresh_token"])
    return Account(root.account.client, root.account.mailbox, email, "unknown", *held)


async def session_of(account: Account) -> Session:
    return await Session.get(id=jwt.get_unverified_claims(account.access_token)["sid"])


async def test_an_administrator_acts_as_the_user_and_the_token_says_who(
    root: Administrator, eve: Account
) -> None:
    """RFC 8693 section 4.1."""
    acting = await act(root)
    assert (await acting.me()).json()["email"] == EVE
    renamed = await acting.client.patch("/account", json={"display_name": "Eve"}, headers=acting.headers)
    assert renamed.json()["display_name"] == "Eve"
    for token in (acting.access_token, acting.refresh_token):
        claims = jwt.get_unverified_claims(token)
        assert (claims["sub"], claims["act"]) == (str(await id_of()), {"sub": str(root.id)})
    assert "act" not in jwt.get_unverified_claims(eve.access_token)
    assert (await root.account.me()).json()["email"] == EMAIL
    assert (await session_of(acting)).impersonated_by == root.id


async def test_it_ends_after_its_time_whatever_is_refreshed(
    root: Administrator, eve: Account, clock: Clock, settings: AuthSettings
) -> None:
    acting = await act(root)
    claims = jwt.get_unverified_claims(acting.refresh_token)
    session = await session_of(acting)
    assert session.expires_at - session.created_at == timedelta(hours=1)
    assert claims["exp"] == int(session.expires_at.timestamp())
    for _ in range(3):
        clock.advance(minutes=19)
        tokens = (await acting.refresh()).json()
        acting.access_token, acting.refresh_token = tokens["access_token"], tokens["refresh_token"]
        assert (await acting.me()).status_code == 200
        assert jwt.get_unverified_claims(acting.refresh_token)["act"] == {"sub": str(root.id)}
    clock.advance(minutes=4)
    assert (await acting.me()).status_code == (await acting.refresh()).status_code == 401
    settings.impersonation_max_age = timedelta(minutes=5)
    await root.account.login()
    shorter = await session_of(await act(root))
    assert shorter.expires_at - shorter.created_at == timedelta(minutes=5)


async def test_a_repeated_refresh_names_the_administrator_too(
    root: Administrator, eve: Account, settings: AuthSettings
) -> None:
    settings.refresh_idempotent = True
    acting = await act(root)
    first, second = (await acting.refresh()).json(), (await acting.refresh()).json()
    assert first["refresh_token"] == second["refresh_token"]
    for tokens in (first, second):
        assert jwt.get_unverified_claims(tokens["access_token"])["act"] == {"sub": str(root.id)}


FORBIDDEN: dict[str, tuple[str, str, Any]] = {
    "reauthenticate": ("POST", "/auth/reauthenticate", {"password": PASSWORD}),
    "new address": ("PATCH", "/account", {"email": "mine@example.com"}),
    "password": (
        "POST",
        "/account/change-password",
        {"old_password": PASSWORD, "new_password": "an entirely new one"},
    ),
    "enrol": ("POST", "/auth/2fa/enable", None),
    "activate": ("POST", "/auth/2fa/verify", {"code": "123456"}),
    "disable": ("POST", "/account/2fa/disable", None),
    "recovery codes": ("POST", "/auth/2fa/recovery-codes", None),
    "personal token": ("POST", "/account/tokens", {"name": "mine", "scopes": ["posts:read"]}),
    "its end": ("DELETE", f"/account/tokens/{uuid4()}", None),
    "deletion": ("DELETE", "/account", None),
    "sensitive route of the host": ("GET", "/vault", None),
    "administration": ("GET", "/admin/users", None),
    "log": ("GET", "/admin/activity", None),
}


@on_one_database
@pytest.mark.parametrize("what", FORBIDDEN)
async def test_what_is_the_users_alone_is_refused(
    what: str, root: Administrator, eve: Account, app: FastAPI
) -> None:
    @app.get("/vault")
    async def vault(user: RecentUser) -> str:
        return "gold"

    await User.filter(email=EVE).update(
        permissions=["accounts:read", "accounts:write", "accounts:impersonate"]
    )
    acting = await act(root)
    before = dict(await User.get(email=EVE))
    method, path, body = FORBIDDEN[what]
    answer = await acting.client.request(method, path, json=body, headers=acting.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "impersonation_forbidden")
    assert dict(await User.get(email=EVE)) == before
    own = await acting.client.request(method, path, json=body, headers=eve.headers)
    assert own.status_code != 403


@on_one_database
async def test_no_administrator_acts_on_through_somebody_else(
    root: Administrator, eve: Account, register: Callable[..., Any]
) -> None:
    await register("third@example.com")
    await User.filter(email=EVE).update(permissions=["accounts:write", "accounts:impersonate"])
    through = Administrator(await act(root), await User.get(email=EVE))
    third = await id_of("third@example.com")
    for what in ("impersonate", "disable", "grant", "delete", "end-sessions"):
        answer = await through.change(third, what)
        assert (answer.status_code, answer.json()["code"]) == (403, "impersonation_forbidden"), what
    assert await Session.filter(user_id=third, impersonated_by__not_isnull=True).count() == 0


@on_one_database
async def test_nobody_acts_as_a_superuser_nor_gets_rights_by_it(
    administrator: Callable[..., Any], root: Administrator, eve: Account
) -> None:
    clerk: Administrator = await administrator("clerk@example.com", permissions=RIGHTS, roles=["editor"])
    eve_id = await id_of()
    for target in ({"is_superuser": True}, {"permissions": ["accounts:write"]}, {"roles": ["chief"]}):
        none = {"is_superuser": False, "permissions": [], "roles": []}
        await User.filter(id=eve_id).update(**{**none, **target})
        answer = await clerk.post(eve_id, "impersonate")
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), target
        by_root = await root.post(eve_id, "impersonate")
        assert by_root.status_code == (403 if "is_superuser" in target else 200)
    await User.filter(id=eve_id).update(permissions=["posts:read"], roles=["editor"])
    assert (await clerk.post(eve_id, "impersonate")).status_code == 200


@on_one_database
async def test_a_disabled_account_is_nobodys_to_act_as(root: Administrator, eve: Account) -> None:
    await root.change(await id_of(), "disable")
    answer = await root.post(await id_of(), "impersonate")
    assert (answer.status_code, answer.json()["code"]) == (409, "account_disabled")
    assert (await root.post(uuid4(), "impersonate")).json()["code"] == "user_not_found"


async def test_the_user_sees_it_and_ends_it(root: Administrator, eve: Account) -> None:
    acting = await act(root)
    answer = await eve.client.get("/account/sessions", headers=eve.headers)
    (theirs,) = [session for session in answer.json() if session["impersonated"]]
    (own,) = [session for session in answer.json() if not session["impersonated"]]
    assert (own["current"], own["address"]) == (True, "192.0.2.7")
    assert (theirs["current"], theirs["address"], theirs["user_agent"]) == (False, "", "")
    assert str(root.id) not in answer.text
    activity = (await eve.client.get("/account/activity", headers=eve.headers)).json()["events"]
    assert (activity[0]["event"], activity[0]["by_administrator"]) == ("impersonation", True)
    assert activity[0]["session_id"] == theirs["id"]
    await eve.client.delete(f"/account/sessions/{theirs['id']}", headers=eve.headers)
    assert (await acting.me()).status_code == (await acting.refresh()).status_code == 401
    assert (await eve.me()).status_code == 200


async def test_logging_out_in_it_ends_it_alone(root: Administrator, eve: Account, auth: Auth) -> None:
    acting = await act(root)
    heard: list[AfterEvent] = []
    auth.on(AfterEvent)(heard.append)
    for _ in range(2):  # a repeated one is as good
        answer = await acting.client.post("/auth/logout", headers=acting.headers)
        assert answer.status_code == 200
    assert heard == [SessionEnded(await id_of(), (await session_of(acting)).id)]
    assert (await acting.me()).status_code == (await acting.refresh()).status_code == 401
    assert (await eve.me()).status_code == (await root.account.me()).status_code == 200
    assert (await eve.refresh()).status_code == 200


async def test_logging_out_ends_it_with_the_users_other_sessions(root: Administrator, eve: Account) -> None:
    acting = await act(root)
    await eve.client.post("/auth/logout", headers=eve.headers)
    assert (await acting.me()).status_code == 401


@on_one_database
@pytest.mark.parametrize(
    "ending",
    [
        "disabled",
        "deleted",
        "password reset",
        "password changed",
        "logged out",
        "others logged out",
        "sessions ended",
        "superuser no more",
        "user disabled",
        "user deleted",
    ],
)
async def test_it_ends_with_the_right_to_it(
    ending: str, administrator: Callable[..., Any], root: Administrator, eve: Account, auth: Auth
) -> None:
    other: Administrator = await administrator("other@example.com", is_superuser=True)
    acting, others = await act(root), await act(other)
    eve_id = await id_of()
    match ending:
        case "disabled":
            await other.change(root.id, "disable")
        case "deleted":
            await other.change(root.id, "delete")
        case "password reset":
            await other.change(root.id, "require-password-reset")
        case "password changed":
            body = {"old_password": PASSWORD, "new_password": "an entirely new one"}
            await eve.client.post("/account/change-password", json=body, headers=root.account.headers)
        case "logged out":
            await eve.client.post("/auth/logout", headers=root.account.headers)
        case "others logged out":
            await root.account.login()  # by another session than the one that it was begun in
            await eve.client.post("/account/logout-others", headers=root.account.headers)
        case "sessions ended":
            await other.change(root.id, "end-sessions")
        case "superuser no more":
            await other.post(root.id, "revoke", {"superuser": True})
        case "user disabled":
            await other.change(eve_id, "disable")
        case "user deleted":
            await other.change(eve_id, "delete")
    assert (await acting.me()).status_code == (await acting.refresh()).status_code == 401
    assert (await others.me()).status_code == (401 if ending.startswith("user") else 200)


@on_each_database
async def test_a_start_that_races_with_a_disabling_leaves_no_session(
    root: Administrator, administrator: Callable[..., Any], eve: Account
) -> None:
    other: Administrator = await administrator("other@example.com", is_superuser=True)
    eve_id = await id_of()
    starts = [other.post(eve_id, "impersonate") for _ in range(5)]
    await asyncio.gather(starts[0], root.change(other.id, "disable"), *starts[1:])
    assert await Session.filter(impersonated_by=other.id, revoked_at=None).count() == 0


@on_each_database
async def test_a_start_waits_for_a_disabling_and_is_refused(
    root: Administrator, administrator: Callable[..., Any], eve: Account, database: Database
) -> None:
    other: Administrator = await administrator("other@example.com", is_superuser=True)
    eve_id = await id_of()
    locked, looked = asyncio.Event(), asyncio.Event()

    async def disable() -> None:
        async with in_transaction(database.dialect):
            await User.filter(id=other.id).update(is_active=False)
            locked.set()
            await looked.wait()

    disabling = asyncio.create_task(disable())
    await locked.wait()
    start = asyncio.create_task(other.post(eve_id, "impersonate"))
    await asyncio.sleep(0.3)  # while it waits, as it must; else it would be done by now
    looked.set()
    await disabling
    assert (await start).status_code in (401, 403)
    assert await Session.filter(impersonated_by=other.id).count() == 0


@on_each_database
async def test_two_who_act_as_each_other_wait_for_no_ever(
    administrator: Callable[..., Any], eve: Account
) -> None:
    pair = [await administrator(f"{name}@example.com", permissions=RIGHTS) for name in ("one", "two")]
    answers = await asyncio.gather(*(pair[n % 2].post(pair[(n + 1) % 2].id, "impersonate") for n in range(6)))
    assert {answer.status_code for answer in answers} == {200}


async def test_it_counts_as_no_device_and_pushes_no_session_out(
    root: Administrator, eve: Account, settings: AuthSettings, mailbox: Mailbox, client: httpx.AsyncClient
) -> None:
    settings.max_sessions, settings.notify_new_device, settings.single_session = 1, True, True
    mailbox.clear()
    client.headers["User-Agent"] = "Office"
    acting = await act(root)
    assert mailbox.messages == []
    assert (await eve.me()).status_code == 200
    tokens = (await acting.refresh()).json()
    acting.access_token = tokens["access_token"]
    assert (await eve.me()).status_code == 200  # `single_session` is about the user's own
    await eve.login()
    assert len(mailbox.messages) == 1  # the administrator's browser is not known as the user's
    assert (await acting.me()).status_code == 200


async def test_every_event_in_it_names_the_administrator(
    root: Administrator, eve: Account, caplog: pytest.LogCaptureFixture, auth: Auth
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    acting = await act(root)
    caplog.clear()
    await acting.client.patch("/account", json={"email": "mine@example.com"}, headers=acting.headers)
    await acting.client.post("/auth/reauthenticate", json={"password": "x"}, headers=acting.headers)
    await acting.client.post("/account/logout-others", headers=acting.headers)
    tokens = (await acting.refresh()).json()
    acting.access_token = tokens["access_token"]
    await acting.client.post("/auth/logout", headers=acting.headers)
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == LOGGER]
    assert [line["event"] for line in lines] == [
        "email_change_request",
        "reauthentication",
        "other_sessions_end",
        "token_refresh",
        "session_end",
    ]
    assert {(line["user"], line["actor"]) for line in lines} == {(str(await id_of()), str(root.id))}
    caplog.clear()
    await eve.login()  # the next one in this process is the user's own again
    assert json.loads(caplog.records[-1].getMessage())["actor"] is None
    rows = await AuditEvent.filter(actor_id=root.id).order_by("id")
    assert [(row.kind, row.reason) for row in rows] == [
        ("impersonation", None),
        ("email_change_request", "impersonation_forbidden"),
        ("reauthentication", "impersonation_forbidden"),
        ("other_sessions_end", None),
        ("session_end", None),
    ]
    assert len({row.session_id for row in rows}) == 1


async def test_theft_of_its_refresh_token_ends_it(root: Administrator, eve: Account, clock: Clock) -> None:
    acting = await act(root)
    tokens = (await acting.refresh()).json()
    assert (await acting.me(tokens["access_token"])).status_code == 200
    clock.advance(minutes=1)
    await acting.refresh()
    stolen = await AuditEvent.get(kind=EventKind.REFRESH_REUSE.value)
    assert stolen.actor_id == root.id
    assert (await acting.me()).status_code == 401
    assert (await eve.me()).status_code == 200


@on_one_database
async def test_a_host_sees_who_acts(root: Administrator, eve: Account, app: FastAPI) -> None:
    async def in_person(authentication: CurrentAuthentication) -> None:
        seen.append(authentication.impersonated_by)

    seen: list[UUID | None] = []

    @app.get("/note", dependencies=[Depends(in_person)])
    async def note() -> None: ...

    for account in (eve, await act(root)):
        assert (await account.client.get("/note", headers=account.headers)).status_code == 200
    assert seen == [None, root.id]
    await eve.login()  # the next one in this process is the user's own again
    assert (await AuditEvent.filter(kind="login").order_by("-id").first()).actor_id is None  # type: ignore[union-attr]


@pytest.fixture
async def page(
    settings: AuthSettings, clock: Clock, eve: Account, root: Administrator
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, where there are pages and cookies."""
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock, pages=True, features=[Administration()])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as page:
        page.headers.update({"Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"})
        login = await page.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
        assert login.json()["token_type"] == "cookie"
        yield page
    await auth.close()


@on_one_database
async def test_a_browser_gets_cookies_and_the_pages_say_what_goes_on(
    page: httpx.AsyncClient, eve: Account, clock: Clock
) -> None:
    path = f"/admin/users/{await id_of()}/impersonate"
    forged = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert (await page.post(path, headers=forged)).json()["code"] == "csrf_refused"
    simple = await page.post(path, headers={"Content-Type": "text/plain"})
    assert simple.json()["code"] == "csrf_refused"
    answer = await page.post(path, json={})
    assert (answer.status_code, answer.json()["token_type"]) == (200, "cookie"), answer.text
    assert (await page.get("/auth/me")).json()["email"] == EVE
    shown = await page.get("/account/security", headers=BROWSER)
    assert "An administrator, in your place" in shown.text
    refused = await page.request("DELETE", "/account", json={})
    assert refused.json()["code"] == "impersonation_forbidden"
    clock.advance(minutes=20)  # past the access token
    assert (await page.get("/auth/me")).json()["email"] == EVE
    assert (await page.post("/auth/logout", json={})).status_code == 200
    assert (await page.get("/auth/me")).status_code == 401
    assert (await eve.refresh()).status_code == 200


@on_one_database
async def test_no_forged_actor_counts(root: Administrator, eve: Account, auth: Auth) -> None:
    """The column says who acts, not the token alone; and a claim that is none is no server error."""
    session = await Session.get(user_id=await id_of())
    for claim in ({"sub": str(root.id)}, {"sub": "x"}, {}, "x", None, [], 7):
        moment = auth.clock()
        options: dict[str, Any] = {"issued_at": moment, "expires_at": moment + timedelta(hours=1)}
        token = auth.signer.sign(ACCESS, session.user_id, sid=str(session.id), act=claim, **options)
        assert (await eve.me(token)).status_code == 200
        refresh = auth.signer.sign(REFRESH, session.user_id, sid=str(session.id), act=claim, **options)
        assert (await eve.refresh(refresh)).status_code == 401


async def test_it_is_purged_after_its_end(
    root: Administrator, eve: Account, clock: Clock, auth: Auth
) -> None:
    acting = await act(root)
    session_id = (await session_of(acting)).id
    clock.advance(hours=2)
    await purge(auth)
    assert not await Session.exists(id=session_id)
    assert not await RefreshToken.exists(session_id=session_id)


async def test_a_script_ends_it_too(root: Administrator, eve: Account, auth: Auth) -> None:
    acting = await act(root)
    await users_flow.disable_user(auth, root.id)
    assert (await acting.me()).status_code == 401


async def ended(acting: Account) -> bool:
    """Whether neither token is good any more."""
    answers = [await acting.me(), await acting.refresh(), await acting.me()]
    assert len({answer.status_code for answer in answers}) == 1
    return answers[0].status_code == 401


GAINS: dict[str, Callable[..., Any]] = {
    "a role, by a script": lambda auth, user: authorization_flow.grant(auth, user.id, roles="editor"),
    "a permission, by a script": lambda auth, user: authorization_flow.grant(
        auth, user.id, permissions="posts:delete"
    ),
    "everything, by a script": lambda auth, user: authorization_flow.grant(auth, user.id, superuser=True),
    "a permission, by the host": lambda auth, user: User.filter(id=user.id).update(permissions=["x"]),
    "everything, by the host": lambda auth, user: User.filter(id=user.id).update(is_superuser=True),
}


@on_one_database
@pytest.mark.parametrize("gain", GAINS)
async def test_it_ends_where_the_user_gains_rights_that_the_administrator_lacks(
    gain: str, administrator: Callable[..., Any], eve: Account, auth: Auth
) -> None:
    clerk: Administrator = await administrator("clerk@example.com", permissions=RIGHTS)
    user = await User.get(email=EVE)
    acting = await act(clerk)
    await GAINS[gain](auth, user)
    assert await ended(acting)
    await User.filter(id=user.id).update(permissions=[], roles=[], is_superuser=False)
    assert await ended(acting)  # for good
    assert (await eve.me()).status_code == 200


@on_one_database
async def test_it_goes_on_where_the_user_gains_what_the_administrator_has(
    administrator: Callable[..., Any], root: Administrator, eve: Account, auth: Auth
) -> None:
    clerk: Administrator = await administrator("clerk@example.com", permissions=RIGHTS)
    by_clerk, by_root = await act(clerk), await act(root)
    await authorization_flow.grant(auth, await id_of(), permissions="posts:read")
    assert (await by_clerk.me()).status_code == (await by_root.me()).status_code == 200
    await authorization_flow.grant(auth, await id_of(), roles="editor")
    assert (await by_root.me()).status_code == 200
    assert await ended(by_clerk)
    await authorization_flow.grant(auth, await id_of(), superuser=True)
    assert await ended(by_root)


@on_one_database
async def test_it_ends_where_a_role_comes_to_mean_more(
    administrator: Callable[..., Any], eve: Account, auth: Auth
) -> None:
    """As it does where the app is deployed with other roles."""
    clerk: Administrator = await administrator("clerk@example.com", permissions=RIGHTS)
    auth.roles = {"reader": frozenset({"posts:read"})}
    await User.filter(id=clerk.id).update(roles=["reader"])
    await User.filter(email=EVE).update(roles=["reader"])
    acting = await act(clerk)
    assert (await acting.me()).status_code == 200
    auth.roles = {"reader": frozenset({"posts:read", "posts:write"})}
    assert (await acting.me()).status_code == 200  # both have it
    await User.filter(id=clerk.id).update(roles=[])
    assert await ended(acting)


@on_one_database
@pytest.mark.parametrize("loss", [{"permissions": []}, {"permissions": ["posts:read"]}, {"is_active": False}])
async def test_it_ends_where_the_administrator_loses_the_right_without_a_word_to_the_library(
    loss: dict[str, Any], administrator: Callable[..., Any], eve: Account
) -> None:
    clerk: Administrator = await administrator("clerk@example.com", permissions=RIGHTS)
    acting = await act(clerk)
    await User.filter(id=clerk.id).update(**loss)
    assert await ended(acting)


async def test_a_refresh_of_one_that_does_not_stand_any_more_ends_it_and_alarms_nobody(
    administrator: Callable[..., Any], eve: Account, clock: Clock, auth: Auth, mailbox: Mailbox
) -> None:
    clerk: Administrator = await administrator("clerk@example.com", permissions=RIGHTS)
    spent, unspent = await act(clerk), await act(clerk)
    await spent.refresh()
    mailbox.clear()
    heard: list[str] = []
    auth.on(SecurityEvent)(lambda event: heard.append(event.kind))
    await User.filter(id=clerk.id).update(permissions=[])
    for acting in (spent, unspent):
        for seconds in (0, 11, 60):
            clock.advance(seconds=seconds)
            answer = await acting.refresh()
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
            assert (await session_of(acting)).revoked_at is not None
    assert (set(heard), mailbox.messages) == ({"token_refresh"}, [])
    assert (await eve.me()).status_code == 200


OWN_ENDS = ["reuse", "one session", "logout of others", "too many sessions", "expiry"]


@on_one_database
@pytest.mark.parametrize("end", OWN_ENDS)
async def test_it_ends_with_the_session_that_it_was_begun_in(
    end: str, root: Administrator, eve: Account, clock: Clock, settings: AuthSettings
) -> None:
    first = root.account
    client, old_refresh = first.client, first.refresh_token
    begun_in = (await session_of(first)).id
    if end == "expiry":
        settings.session_max_age = timedelta(minutes=10)
        await first.login()
    acting = await act(root)
    other = Account(client, first.mailbox, EMAIL, PASSWORD)
    match end:
        case "reuse":
            tokens = (await first.refresh()).json()
            await other.me(tokens["access_token"])
            clock.advance(minutes=1)
            await first.refresh(old_refresh)
        case "one session":
            await other.login()
            await client.delete(f"/account/sessions/{begun_in}", headers=other.headers)
        case "logout of others":
            await other.login()
            await client.post("/account/logout-others", headers=other.headers)
        case "too many sessions":
            settings.max_sessions = 1
            await other.login()
        case "expiry":
            clock.advance(minutes=11)
    assert await ended(acting)
    assert (await eve.me()).status_code == 200


async def test_it_outlives_the_end_of_the_administrators_other_sessions(
    root: Administrator, eve: Account
) -> None:
    other = Account(root.account.client, root.account.mailbox, EMAIL, PASSWORD)
    await other.login()
    acting = await act(root)
    ended_one = (await session_of(other)).id
    await other.client.delete(f"/account/sessions/{ended_one}", headers=root.account.headers)
    assert (await acting.me()).status_code == 200
    await other.client.post("/account/logout-others", headers=root.account.headers)
    assert (await acting.me()).status_code == 200


@on_one_database
@pytest.mark.parametrize("may_write", [False, True])
async def test_who_may_not_change_accounts_ends_no_session_of_the_user(
    may_write: bool, administrator: Callable[..., Any], eve: Account
) -> None:
    rights = [*RIGHTS, "accounts:write"] if may_write else RIGHTS
    clerk: Administrator = await administrator("clerk@example.com", permissions=rights)
    acting = await act(clerk)
    eves, own = (await session_of(eve)).id, (await session_of(acting)).id
    for method, path in (("POST", "/account/logout-others"), ("DELETE", f"/account/sessions/{eves}")):
        answer = await eve.client.request(method, path, headers=acting.headers)
        if may_write:
            assert answer.status_code == (204 if method == "POST" else 404)  # it has ended already
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "impersonation_forbidden")
    assert (await eve.me()).status_code == (401 if may_write else 200)
    leaving = await eve.client.delete(f"/account/sessions/{own}", headers=acting.headers)
    assert leaving.status_code == 204
    assert await ended(acting)


@on_one_database
async def test_who_impersonates_takes_no_change_of_address_back(root: Administrator, eve: Account) -> None:
    await eve.client.patch("/account", json={"email": "new@example.org"}, headers=eve.headers)
    acting = await act(root)
    answer = await eve.client.patch("/account", json={"email": EVE}, headers=acting.headers)
    assert answer.status_code == 200
    assert (await User.get(email=EVE)).pending_email == "new@example.org"
