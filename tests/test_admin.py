"""Administration: who may do what to whose account, and that it is told who did it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pyotp
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration, AuditLog, PersonalTokens
from fastapi_pluggable_auth.features.administration.users import Cursor
from fastapi_pluggable_auth.models import AuditEvent, PersonalToken, RefreshToken, Session, User

from .conftest import (
    EMAIL,
    PASSWORD,
    SQLITE_UNLESS_FULL,
    Account,
    Clock,
    Mailbox,
    on_each_database,
    on_one_database,
)

DIALECTS = SQLITE_UNLESS_FULL

EVE = "eve@example.com"

CHANGES = (
    "disable",
    "enable",
    "require-password-reset",
    "end-sessions",
    "reset-two-factor",
    "unlock",
    "grant",
    "revoke",
    "impersonate",
)


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """With the routes under test, and the log of what was done."""
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        clock=clock,
        roles={"editor": ["posts:write"], "chief": []},
        features=[Administration(), PersonalTokens(scopes={"posts:read": "Read posts"}), AuditLog()],
    )
    return app


class Administrator:
    """Somebody who uses the routes."""

    def __init__(self, account: Account, user: User) -> None:
        self.account, self.id = account, user.id

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.account.client.get(f"/admin{path}", params=query, headers=self.account.headers)

    async def post(self, user_id: object, what: str, body: Any = None) -> httpx.Response:
        path = f"/admin/users/{user_id}/{what}"
        return await self.account.client.post(path, json=body, headers=self.account.headers)

    async def delete(self, user_id: object) -> httpx.Response:
        return await self.account.client.delete(f"/admin/users/{user_id}", headers=self.account.headers)

    async def change(self, user_id: object, what: str) -> httpx.Response:
        """One of CHANGES, or a deletion."""
        body = {"roles": ["editor"]} if what in ("grant", "revoke") else None
        return await (self.delete(user_id) if what == "delete" else self.post(user_id, what, body))


MakeAdministrator = Callable[..., Awaitable[Administrator]]


@pytest.fixture
def administrator(register: Callable[..., Any]) -> MakeAdministrator:
    """Makes an administrator with these columns."""

    async def administrator(email: str = EMAIL, **columns: Any) -> Administrator:
        account = await register(email)
        await User.filter(email=email).update(**columns)
        return Administrator(account, await User.get(email=email))

    return administrator


@pytest.fixture
async def root(administrator: MakeAdministrator) -> Administrator:
    """A superuser."""
    return await administrator(is_superuser=True)


@pytest.fixture
async def eve(register: Callable[..., Any]) -> Account:
    """Somebody to act on."""
    account: Account = await register(EVE)
    return account


async def id_of(email: str = EVE) -> UUID:
    return (await User.get(email=email)).id


async def enable_two_factor(account: Account, clock: Clock) -> None:
    begun = await account.client.post("/auth/2fa/enable", headers=account.headers)
    code = pyotp.parse_uri(begun.json()["otpauth_uri"]).at(clock())  # type: ignore[attr-defined]
    done = await account.client.post("/auth/2fa/verify", json={"code": code}, headers=account.headers)
    assert done.status_code == 200, done.text


async def trail() -> list[str]:
    """What the log has of EVE by administrators, the oldest first."""
    user_id = await id_of()
    events = await AuditEvent.filter(user_id=user_id, actor_id__not_isnull=True).order_by("id")
    return [f"{event.kind} {event.outcome} {event.reason or ''}".strip() for event in events]


# --- what there is --------------------------------------------------------------------------------------


async def test_there_are_no_such_routes_unless_asked_for(settings: AuthSettings) -> None:
    plain = FastAPI()
    include_auth(plain, settings=settings)
    assert [path for path in plain.openapi()["paths"] if "/admin" in path] == []


async def test_the_routes_stand_under_the_prefix_and_the_log_only_where_it_is_kept(
    settings: AuthSettings,
) -> None:
    app = FastAPI()
    chosen = settings.model_copy(update={"route_prefix": "/api"})
    include_auth(app, settings=chosen, features=[Administration()])
    paths = [path for path in app.openapi()["paths"] if "/admin" in path]
    assert len(paths) == 12
    assert all(path.startswith("/api/admin/") and "activity" not in path for path in paths)


@on_one_database
async def test_an_account_is_shown_without_any_secret(
    root: Administrator, eve: Account, clock: Clock
) -> None:
    await enable_two_factor(eve, clock)
    await eve.client.post("/auth/2fa/recovery-codes", headers=eve.headers)
    answer = await root.get(f"/users/{await id_of()}")
    shown = answer.json()
    assert (answer.status_code, shown["email"], shown["two_factor"]) == (200, EVE, True)
    assert shown["recovery_codes"] == 10
    assert (shown["is_active"], shown["is_verified"], shown["is_superuser"]) == (True, True, False)
    (session,) = shown["sessions"]
    assert (session["address"], session["impersonated_by"]) == ("192.0.2.7", None)
    user = await User.get(email=EVE)
    for secret in (user.hashed_password, user.totp_secret, eve.refresh_token):
        assert secret
        assert secret not in answer.text
    assert not {"hashed_password", "totp_secret", "password"} & shown.keys()


async def test_accounts_are_found_by_what_is_known_of_them(root: Administrator, eve: Account) -> None:
    await User.create(email="100%_of@example.org", hashed_password="", is_active=False)
    await User.filter(email=EVE).update(roles=["editor"])

    async def found(**query: Any) -> set[str]:
        answer = await root.get("/users", **query)
        assert answer.status_code == 200, answer.text
        return {user["email"] for user in answer.json()["users"]}

    everybody = {EMAIL, EVE, "100%_of@example.org"}
    assert await found() == await found(search="@EXAMPLE") == everybody
    assert await found(search="ve@") == {EVE}
    assert await found(search="0%_") == await found(search="%_of@EXAMPLE.org") == {"100%_of@example.org"}
    assert await found(search="%") == await found(search="e@") == set()
    assert (
        await found(search="\\") == await found(search="' OR 1=1 --") == await found(search="a\0b") == set()
    )
    assert await found(active="false") == await found(verified="false") == {"100%_of@example.org"}
    assert await found(active="true", search="e") == {EVE}
    assert await found(role="editor") == {EVE}
    assert await found(role="edit") == await found(role="") == await found(role="a b\0") == set()


async def test_pages_lose_nobody_and_show_nobody_twice_while_others_sign_up(root: Administrator) -> None:
    moment = (await User.get()).created_at - timedelta(days=1)
    users = [User(email=f"{number}@example.org", hashed_password="") for number in range(11)]
    await User.bulk_create(users)
    await User.filter(email__endswith="example.org").update(created_at=moment)  # all at the same moment
    seen: list[str] = []
    after: dict[str, str] = {}
    for number in range(10):
        page = (await root.get("/users", limit=3, **after)).json()
        seen += [user["email"] for user in page["users"]]
        await User.create(email=f"late{number}@example.org", hashed_password="")
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert len(seen) == len(set(seen))
    assert set(seen) == {EMAIL} | {user.email for user in users}


@on_one_database
@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "101"},
        {"limit": "x"},
        {"active": "perhaps"},
        {"verified": "2"},
        {"search": "x" * 255},
        *(
            {"after": after}
            for after in (
                "",
                "x",
                "1",
                "-",
                "1-",
                "1-x",
                f"-1-{'0' * 32}",
                f"{'9' * 18}-{'0' * 32}",
                f"{'9' * 400}-{'0' * 32}",
                f"1-{'0' * 33}",
                f"1-{'0' * 31}\0",
                f"１-{'0' * 32}",
                f"1-{'0' * 32}; DROP TABLE user",
            )
        ),
    ],
)
async def test_a_query_that_is_none_is_refused(query: dict[str, str], root: Administrator) -> None:
    answer = await root.get("/users", **query)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


async def test_any_cursor_is_a_place_in_the_list(root: Administrator) -> None:
    for place in (
        f"0-{'0' * 32}",
        f"{'9' * 17}-{'f' * 32}",
        str(Cursor((await User.get()).created_at, uuid4())),
    ):
        assert (await root.get("/users", after=place)).status_code == 200


# --- what is done ---------------------------------------------------------------------------------------


async def test_a_disabled_user_is_out_at_once_and_comes_back_by_logging_in(
    root: Administrator, eve: Account
) -> None:
    assert (await root.post(await id_of(), "disable")).status_code == 204
    assert (await eve.me()).status_code == (await eve.refresh()).status_code == 401
    assert (await eve.login()).json()["code"] == "invalid_credentials"
    assert (await root.post(await id_of(), "enable")).status_code == 204
    assert (await eve.me()).status_code == 401
    assert (await eve.login()).status_code == 200
    assert await trail() == ["account_disabled success", "account_enabled success"]


@on_each_database
async def test_logins_that_race_with_a_disabling_leave_no_session(root: Administrator, eve: Account) -> None:
    user_id = await id_of()

    async def log_in() -> None:
        visitor = Account(eve.client, eve.mailbox, EVE, PASSWORD)
        answer = await visitor.login()
        assert answer.status_code == 200 or answer.json()["code"] == "invalid_credentials"

    _, answer, *_ = await asyncio.gather(
        log_in(), root.post(user_id, "disable"), *(log_in() for _ in range(6))
    )
    assert isinstance(answer, httpx.Response)
    assert answer.status_code == 204
    assert await Session.filter(user_id=user_id, revoked_at=None).count() == 0
    assert await RefreshToken.filter(user_id=user_id, revoked=False).count() == 0


async def test_a_user_has_to_reset_the_password(root: Administrator, eve: Account) -> None:
    assert (await root.post(await id_of(), "require-password-reset")).status_code == 204
    assert (await eve.me()).status_code == 401
    assert (await eve.login()).json()["code"] == "password_reset_required"
    assert (await root.get(f"/users/{await id_of()}")).json()["password_reset_required"] is True
    assert await trail() == ["password_reset_required success"]


async def test_a_user_is_signed_out_everywhere(root: Administrator, eve: Account) -> None:
    assert (await root.post(await id_of(), "end-sessions")).status_code == 204
    assert (await eve.me()).status_code == (await eve.refresh()).status_code == 401
    assert (await eve.login()).status_code == 200
    assert await trail() == ["logout success"]


async def test_an_account_is_unlocked_after_too_many_wrong_passwords(
    root: Administrator, eve: Account, settings: AuthSettings
) -> None:
    """A-71."""
    settings.throttle_daily_limit = 3
    right, eve.password = eve.password, "wrong password"
    for status in (401, 401, 401, 429):
        assert (await eve.login()).status_code == status
    eve.password = right
    assert (await eve.login()).json()["code"] == "password_locked"
    assert (await root.post(await id_of(), "unlock")).status_code == 204
    assert (await eve.login()).status_code == 200
    assert "account_unlocked success" in await trail()


async def test_two_factor_is_switched_off_and_the_owner_is_told(
    root: Administrator, eve: Account, mailbox: Mailbox, clock: Clock
) -> None:
    await enable_two_factor(eve, clock)
    mailbox.clear()
    assert (await root.post(await id_of(), "reset-two-factor")).status_code == 204
    assert (await eve.me()).status_code == 401
    assert (await eve.login()).status_code == 200
    (mail,) = mailbox.messages
    assert mail["To"] == EVE
    assert await trail() == ["two_factor_disabled success"]


async def test_an_account_is_deleted_and_its_trail_stays(root: Administrator, eve: Account) -> None:
    user_id = await id_of()
    assert (await root.delete(user_id)).status_code == 204
    assert (await eve.me()).status_code == 401
    assert not await User.exists(email=EVE)
    assert (await root.delete(user_id)).json()["code"] == "user_not_found"
    events = (await root.get(f"/users/{user_id}/activity")).json()["events"]
    assert [event["event"] for event in events] == [
        "account_deletion",
        "login",
        "email_verification",
        "signup",
    ]
    assert events[0]["actor_id"] == str(root.id)
    assert [event["address"] for event in events] == [
        "192.0.2.7",
        "",
        "",
        "",
    ]  # the first is the administrator's


async def test_roles_and_permissions_are_given_and_taken(root: Administrator, eve: Account) -> None:
    user_id = await id_of()
    body = {"roles": ["editor"], "permissions": ["posts:read"], "superuser": True}
    given = await root.post(user_id, "grant", body)
    assert (given.status_code, given.json()["roles"], given.json()["permissions"]) == (
        200,
        ["editor"],
        ["posts:read"],
    )
    assert (await User.get(id=user_id)).is_superuser
    taken = await root.post(user_id, "revoke", body)
    assert (taken.json()["roles"], taken.json()["permissions"], taken.json()["is_superuser"]) == (
        [],
        [],
        False,
    )
    unknown = await root.post(user_id, "grant", {"roles": ["typo"]})
    assert (unknown.status_code, unknown.json()["code"]) == (400, "unknown_role")
    assert await trail() == [
        "authorization_change success",
        "authorization_change success",
        "authorization_change failure unknown_role",
    ]


@on_one_database
@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "x",
        {"roles": "editor"},
        {"roles": ["a b"]},
        {"roles": ['a"']},
        {"roles": ["\0"]},
        {"roles": ["\ud800"]},
        {"roles": [None]},
        {"roles": [""]},
        {"permissions": ["x" * 65]},
        {"permissions": ["x"] * 51},
        {"permissions": ["é"]},
        {"superuser": 1},
        {"superuser": "true"},
        {"superuser": None},
        {"is_superuser": True},
    ],
)
async def test_rights_that_are_none_are_refused(body: Any, root: Administrator, eve: Account) -> None:
    before = dict(await User.get(email=EVE))
    for what in ("grant", "revoke"):
        path = f"/admin/users/{await id_of()}/{what}"
        content = '{"roles": ["\\ud800"]}' if body == {"roles": ["\ud800"]} else None
        sent: Any = {"content": content} if content else {"json": body}
        headers = root.account.headers | {"Content-Type": "application/json"}
        answer = await eve.client.post(path, headers=headers, **sent)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert dict(await User.get(email=EVE)) == before


@on_one_database
async def test_too_many_names_are_refused_and_none_is_cut_off(root: Administrator, eve: Account) -> None:
    body = {"permissions": [f"{number:063}x" for number in range(30)]}
    answer = await root.post(await id_of(), "grant", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")
    assert (await User.get(email=EVE)).permissions == frozenset()


# --- who may --------------------------------------------------------------------------------------------


@on_one_database
async def test_nobody_else_sees_or_changes_anything(administrator: MakeAdministrator, eve: Account) -> None:
    user_id = await id_of()
    nobody = await administrator(permissions=["posts:write", "accounts", "accounts:"])
    reader = await administrator("reader@example.com", permissions=["accounts:read"])
    writer = await administrator("writer@example.com", permissions=["accounts:write"])
    reads = ("/users", f"/users/{user_id}", "/activity", f"/users/{user_id}/activity")
    for path in reads:
        assert (await eve.client.get(f"/admin{path}")).status_code == 401
        assert (await nobody.get(path)).json()["code"] == "permission_denied"
        assert (await writer.get(path)).json()["code"] == "permission_denied"
        assert (await reader.get(path)).status_code == 200
    for what in (*CHANGES, "delete"):
        for who in (nobody, reader):
            answer = await who.change(user_id, what)
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), what
    assert (await writer.change(user_id, "impersonate")).json()["code"] == "permission_denied"
    assert (await eve.me()).status_code == 200
    assert await trail() == []
    assert (await writer.change(user_id, "disable")).status_code == 204


async def test_a_permission_of_a_role_counts(settings: AuthSettings, clock: Clock, eve: Account) -> None:
    app = FastAPI()
    auth = include_auth(
        app,
        settings=settings,
        clock=clock,
        roles={"support": "accounts:read"},
        features=[Administration()],
    )
    await User.filter(email=EVE).update(roles=["support"])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await client.get("/admin/users", headers=eve.headers)).status_code == 200
    await auth.close()


@on_one_database
async def test_changes_need_a_recent_login(root: Administrator, eve: Account, clock: Clock) -> None:
    user_id = await id_of()
    clock.advance(minutes=16)
    refresh = await root.account.refresh()
    root.account.access_token = refresh.json()["access_token"]
    for what in (*CHANGES, "delete"):
        answer = await root.change(user_id, what)
        assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required"), what
    assert (await root.get("/users")).status_code == 200
    body = {"password": PASSWORD}
    await eve.client.post("/auth/reauthenticate", json=body, headers=root.account.headers)
    assert (await root.change(user_id, "disable")).status_code == 204


@on_one_database
@pytest.mark.parametrize("what", ["disable", "impersonate", "delete"])
async def test_nobody_locks_himself_out(what: str, root: Administrator) -> None:
    answer = await root.change(root.id, what)
    assert (answer.status_code, answer.json()["code"]) == (409, "own_account")
    answer = await root.post(root.id, "revoke", {"superuser": True})
    assert (answer.status_code, answer.json()["code"]) == (409, "own_account")
    assert (await root.account.me()).status_code == 200


@on_one_database
async def test_only_superusers_act_on_superusers(
    administrator: MakeAdministrator, root: Administrator
) -> None:
    rights = ["accounts:read", "accounts:write", "accounts:impersonate"]
    clerk = await administrator("clerk@example.com", permissions=rights, roles=["editor"])
    for what in (*CHANGES, "delete"):
        answer = await clerk.change(root.id, what)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), what
    assert (await root.account.me()).status_code == 200
    assert (await clerk.get(f"/users/{root.id}")).status_code == 200
    other = await administrator("second@example.com", is_superuser=True)
    assert (await root.change(other.id, "disable")).status_code == 204


@on_one_database
async def test_nobody_gives_or_takes_what_he_does_not_have(
    administrator: MakeAdministrator, eve: Account
) -> None:
    own = ["accounts:write", "posts:read"]
    clerk = await administrator(permissions=own, roles=["editor"])
    for target in (await id_of(), clerk.id):
        for body in (
            {"superuser": True},
            {"permissions": ["accounts:impersonate"]},
            {"permissions": ["posts:read", "posts:delete"]},
            {"roles": ["chief"]},
            {"roles": ["editor", "chief"]},
        ):
            for what in ("grant", "revoke"):
                answer = await clerk.post(target, what, body)
                assert answer.json()["code"] in ("permission_denied", "own_account"), (body, what)
    user = await User.get(email=EVE)
    assert (user.roles, user.permissions, user.is_superuser) == (frozenset(), frozenset(), False)
    clerk_now = await User.get(id=clerk.id)
    assert (clerk_now.permissions, clerk_now.is_superuser) == (frozenset(own), False)
    body = {"roles": ["editor"], "permissions": ["posts:read", "posts:write"]}  # the last by the role
    assert (await clerk.post(await id_of(), "grant", body)).status_code == 200


async def test_rights_end_with_the_next_request(root: Administrator, eve: Account) -> None:
    await User.filter(id=root.id).update(is_superuser=False)
    assert (await root.get("/users")).status_code == 403
    assert (await root.change(await id_of(), "disable")).status_code == 403


@on_one_database
async def test_two_factor_can_be_a_must_for_administrators(
    settings: AuthSettings, clock: Clock, eve: Account, root: Administrator
) -> None:
    app = FastAPI()
    auth = include_auth(
        app,
        settings=settings,
        clock=clock,
        require_two_factor=lambda user: user.is_superuser,
        features=[Administration()],
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.get("/admin/users", headers=root.account.headers)
        assert answer.json()["code"] == "two_factor_enrolment_required"
    await auth.close()


async def test_an_id_that_is_none_or_nobody_is_told_so(root: Administrator) -> None:
    for what in (*CHANGES, "delete"):
        for target in ("x", "%00", "1", "..%2f..", "1;DROP TABLE user", "é", "x" * 3000):
            answer = await root.change(target, what)
            told = {"..%2f..": 404, "": 405}.get(target, 422)
            assert answer.status_code == told, (what, target)
        answer = await root.change(uuid4(), what)
        assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found"), what
    assert (await root.get(f"/users/{uuid4()}")).json()["code"] == "user_not_found"
    assert (await root.get("/users/x")).status_code == 422
    assert (await root.get("/users/x/activity")).status_code == 422
    assert (await root.get("/activity", user="x")).status_code == 422
    assert (await root.get("/activity", actor="\0")).status_code == 422


@on_one_database
async def test_no_personal_access_token_administrates(root: Administrator, eve: Account) -> None:
    body = {"name": "script", "scopes": ["posts:read"]}
    made = await eve.client.post("/account/tokens", json=body, headers=root.account.headers)
    assert made.status_code == 201, made.text
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    for path in ("/users", f"/users/{await id_of()}", "/activity"):
        assert (await eve.client.get(f"/admin{path}", headers=headers)).status_code == 401
    answer = await eve.client.post(f"/admin/users/{await id_of()}/disable", headers=headers)
    assert answer.status_code == 401


async def test_a_disabling_ends_personal_access_tokens(root: Administrator, eve: Account) -> None:
    body = {"name": "script", "scopes": ["posts:read"]}
    await eve.client.post("/account/tokens", json=body, headers=eve.headers)
    for what in ("disable", "require-password-reset"):
        assert (await root.change(await id_of(), what)).status_code == 204
        assert await PersonalToken.all().count() == 0


# --- the trail ------------------------------------------------------------------------------------------


async def test_the_log_tells_who_did_what_to_whom(root: Administrator, eve: Account, auth: Auth) -> None:
    user_id = await id_of()
    await root.change(user_id, "end-sessions")
    await root.change(user_id, "disable")
    by_root = (await root.get("/activity", actor=root.id)).json()
    assert [(event["event"], event["user_id"]) for event in by_root["events"]] == [
        ("account_disabled", str(user_id)),
        ("logout", str(user_id)),
    ]
    assert by_root["next"] is None
    everything = (await root.get("/activity", limit=100)).json()["events"]
    to_eve = (await root.get("/activity", user=user_id)).json()["events"]
    assert len(everything) == 3 + len(to_eve)
    assert to_eve == (await root.get(f"/users/{user_id}/activity")).json()["events"]
    first = (await root.get("/activity", limit=1)).json()
    second = (await root.get("/activity", limit=1, after=first["next"])).json()
    assert first["events"] + second["events"] == everything[:2]


async def test_what_administrators_do_as_themselves_has_no_actor(root: Administrator, eve: Account) -> None:
    """Nor does what others do after them, in the same process."""
    await root.change(await id_of(), "end-sessions")
    await eve.login()
    await root.account.login()
    assert [event.actor_id for event in await AuditEvent.all().order_by("-id").limit(3)] == [
        None,
        None,
        root.id,
    ]


@on_one_database
@pytest.mark.parametrize(
    "more", [{"roles": ["chief"]}, {"permissions": ["posts:delete"]}, {"is_superuser": True}]
)
@pytest.mark.parametrize("what", [*CHANGES, "delete"])
async def test_nobody_acts_on_an_account_that_has_more_rights(
    what: str, more: dict[str, Any], administrator: MakeAdministrator, eve: Account
) -> None:
    rights = ["accounts:write", "accounts:impersonate", "posts:write"]
    clerk = await administrator("clerk@example.com", permissions=rights, roles=["editor"])
    eve_id = await id_of()
    await User.filter(id=eve_id).update(**more)
    before = await User.filter(id=eve_id).values()
    answer = await clerk.change(eve_id, what)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert await User.filter(id=eve_id).values() == before
    assert (await eve.me()).status_code == 200
    await User.filter(id=eve_id).update(is_superuser=False, roles=["editor"], permissions=["posts:write"])
    told = 200 if what in ("grant", "revoke", "impersonate") else 204
    assert (await clerk.change(eve_id, what)).status_code == told  # as many are not more
