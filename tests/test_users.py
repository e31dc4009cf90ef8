"""Accounts in the hands of scripts and administrators."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pyotp
import pytest
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings
from fastapi_pluggable_auth.errors import ErrorCode
from fastapi_pluggable_auth.events import SecurityEvent
from fastapi_pluggable_auth.features.administration.users import (
    Cursor,
    create_user,
    delete_user,
    disable_user,
    enable_user,
    end_sessions,
    find_user,
    list_users,
    require_password_reset,
    reset_two_factor,
)
from fastapi_pluggable_auth.flows.authentication import authenticate
from fastapi_pluggable_auth.flows.authorization import grant
from fastapi_pluggable_auth.flows.password import change_password
from fastapi_pluggable_auth.models import Mail, RecoveryCode, RefreshToken, Session, User

from . import databases, own_tables
from .conftest import EMAIL, PASSWORD, SQLITE_UNLESS_FULL, Account, Mailbox, on_each_database, on_one_database
from .own_tables import User as Member
from .spare_database import SpareDatabase
from .test_notices import enable_two_factor
from .test_recovery import renew

DIALECTS = SQLITE_UNLESS_FULL

ON_ONE = [disable_user, enable_user, delete_user, reset_two_factor, end_sessions, require_password_reset]
ENDING = [disable_user, delete_user, end_sessions, require_password_reset]

OnOne = Callable[[Auth, UUID], Awaitable[None]]


@pytest.fixture
def heard(auth: Auth) -> list[SecurityEvent]:
    """The security events."""
    events: list[SecurityEvent] = []
    auth.on(SecurityEvent)(events.append)
    return events


async def refusal(work: Awaitable[Any]) -> ErrorCode:
    with pytest.raises(AuthError) as raised:
        await work
    return raised.value.code


def told(heard: list[SecurityEvent]) -> list[str]:
    return [f"{event.kind} {event.outcome} {event.reason or ''}".strip() for event in heard]


# --- finding and listing ---------------------------------------------------------------------------------


async def test_a_user_is_found_by_id_and_by_any_spelling_of_the_address(
    auth: Auth, tortoise: TortoiseContext
) -> None:
    user = await create_user(auth, "Ada@Bücher.example")
    for name in (
        user.id,
        str(user.id),
        str(user.id).upper(),
        "ada@bücher.example",
        "ADA@XN--BCHER-KVA.example",
    ):
        assert (await find_user(auth, name)).id == user.id


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nobody@example.com",
        "nobody",
        "a\0b@example.com",
        "\ud800@x.de",
        "x" * 1_000_000,
        "9b2f4e0e-9d0c-4b4e-9a57-0f6d7a1f7c11",
    ],
)
async def test_nobody_is_found_by_what_is_no_name(name: str, auth: Auth, tortoise: TortoiseContext) -> None:
    await create_user(auth, EMAIL)
    assert await refusal(find_user(auth, name)) is ErrorCode.USER_NOT_FOUND


async def test_pages_hold_each_user_once_while_others_sign_up(auth: Auth, tortoise: TortoiseContext) -> None:
    """Also those of one moment, and moments without a fraction, which SQLite stores as shorter text."""
    whole = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [whole, whole, whole + timedelta(microseconds=1), whole + timedelta(milliseconds=500), whole]
    for number, moment in enumerate(moments):
        await User.create(email=f"u{number}@example.com", hashed_password="!", created_at=moment)
    seen: list[datetime] = []
    emails: set[str] = set()
    after = None
    while True:
        page = await list_users(auth, after=after, limit=2)
        seen += [user.created_at for user in page.users]
        emails |= {user.email for user in page.users}
        await create_user(auth, f"later{len(seen)}@example.com")
        if page.after is None:
            break
        after = Cursor.parse(str(page.after))
    assert len(seen) == len(emails) == 5
    assert seen == sorted(moments, reverse=True)


async def test_the_last_page_says_that_it_is_the_last(auth: Auth, tortoise: TortoiseContext) -> None:
    for number in range(4):
        await create_user(auth, f"u{number}@example.com")
    first = await list_users(auth, limit=2)
    second = await list_users(auth, limit=2, after=first.after)
    assert (len(first.users), len(second.users), second.after) == (2, 2, None)
    assert [user.email for user in first.users] == ["u3@example.com", "u2@example.com"]


async def test_a_cursor_that_is_none_is_refused() -> None:
    for text in ("", "-", "x-1", f"1-{'z' * 32}", f"{10**30}-{uuid4().hex}"):
        with pytest.raises(ValueError):  # noqa: PT011
            Cursor.parse(text)


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ADA", {"ada@example.com", "ada_l@example.com"}),
        ("a_l", {"ada_l@example.com"}),
        ("0%@", {"100%@example.com"}),
        ("o'h", {"o'hara@example.com"}),
        ("o'", {"o'hara@example.com"}),
        ("'h", set()),  # so few letters begin a name
        ("1%", set()),
        ("%", set()),
        ("hara@example.com", {"o'hara@example.com"}),
        ("HARA@EXAM", {"o'hara@example.com"}),
        ("hara@exan", set()),
        ("hara@exa%", set()),
        ("\\", set()),
        ("BÜCHER", {"eve@bücher.example"}),
        ("\0", set()),
        ("\ud800", set()),
        ("x" * 100_000, set()),
    ],
)
async def test_a_search_takes_no_character_for_a_pattern(
    search: str, found: set[str], auth: Auth, tortoise: TortoiseContext
) -> None:
    for name in ("ada", "ada_l", "100%", "o'hara", "adxl"):
        await User.create(email=f"{name}@example.com", hashed_password="!")
    await create_user(auth, "eve@bücher.example")
    assert {user.email for user in (await list_users(auth, search=search)).users} == found


async def test_users_are_listed_by_state(auth: Auth, tortoise: TortoiseContext) -> None:
    ada = await create_user(auth, EMAIL, verified=True)
    await create_user(auth, "eve@example.com")
    await disable_user(auth, ada.id)
    for filters, emails in (
        ({"active": False}, [EMAIL]),
        ({"verified": False}, ["eve@example.com"]),
        ({"active": True, "verified": True}, []),
    ):
        assert [user.email for user in (await list_users(auth, **filters)).users] == emails


async def test_users_are_listed_by_role(auth: Auth, tortoise: TortoiseContext) -> None:
    """Of the whole name: `edit` is not `editor`."""
    for name in ("ada", "eve"):
        user = await create_user(auth, f"{name}@example.com")
        await grant(auth, user.id, roles={"ada": "editor of_texts", "eve": "editors"}[name])
    for role, found in (("editor", ["ada"]), ("of_texts", ["ada"]), ("edit", []), ("o%", []), ("\0", [])):
        page = await list_users(auth, role=role)
        assert [user.email for user in page.users] == [f"{name}@example.com" for name in found], role


async def test_a_page_of_those_with_a_role_is_full(auth: Auth, tortoise: TortoiseContext) -> None:
    """Also where the newest accounts do not have it."""
    for number in range(6):
        user = await create_user(auth, f"u{number}@example.com")
        await grant(auth, user.id, roles="editor" if number < 3 else "author")
    first = await list_users(auth, role="editor", limit=2)
    assert [user.email for user in first.users] == ["u2@example.com", "u1@example.com"]
    second = await list_users(auth, role="editor", limit=2, after=first.after)
    assert ([user.email for user in second.users], second.after) == (["u0@example.com"], None)


# --- creating --------------------------------------------------------------------------------------------


async def test_a_created_user_logs_in(
    auth: Auth, client: httpx.AsyncClient, heard: list[SecurityEvent]
) -> None:
    user = await create_user(
        auth, "Ada@Example.com", PASSWORD, verified=True, columns={"display_name": "Ada"}
    )
    assert (user.email, user.display_name, user.is_active) == (EMAIL, "Ada", True)
    answer = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert answer.status_code == 200
    assert told(heard) == ["account_creation success", "login success"]
    assert heard[0].user_id == user.id
    assert await Mail.all().count() == 0


async def test_without_a_password_nobody_logs_in_until_the_owner_sets_one(
    auth: Auth, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    user = await create_user(auth, EMAIL, mail=True)
    for password in ("", "!", user.hashed_password, PASSWORD):
        answer = await client.post("/auth/login", json={"email": EMAIL, "password": password})
        assert answer.json()["code"] == "invalid_credentials"
    await auth.dispatcher.deliver_due()
    path = mailbox.link()
    assert (await client.post(path, json={"new_password": PASSWORD})).status_code == 200
    assert (await client.post(path, json={"new_password": PASSWORD})).status_code == 400
    answer = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert answer.status_code == 200


async def test_the_first_password_of_an_owner_takes_nothing_that_the_account_was_made_with(
    auth: Auth, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    """No stranger has had a password here: there is nothing to take over."""
    await create_user(auth, EMAIL, columns={"display_name": "Ada"})
    await client.post("/auth/forgot-password", json={"email": EMAIL})
    assert (await client.post(mailbox.link(), json={"new_password": PASSWORD})).status_code == 200
    assert await User.all().values_list("display_name", "is_verified") == [("Ada", True)]
    assert not [mail for mail in mailbox.messages if "yours alone" in mail["Subject"]]
    await create_user(auth, "eve@example.com", columns={"display_name": "Eve"})
    await client.post("/auth/verify/resend", json={"email": "eve@example.com"})
    link, browser = mailbox.link("eve@example.com"), {"Origin": "http://localhost:8000"}
    answer = await client.post(link, json={"new_password": PASSWORD}, headers=browser)
    assert answer.status_code == 200
    assert (await User.get(email="eve@example.com")).display_name == "Eve"


@on_one_database
@pytest.mark.parametrize(
    ("password", "verified", "kinds"),
    [(None, False, ["reset"]), (None, True, ["reset"]), (PASSWORD, False, ["verify"]), (PASSWORD, True, [])],
)
async def test_a_mail_goes_only_where_it_is_asked_for_and_needed(
    password: str | None, verified: bool, kinds: list[str], auth: Auth, tortoise: TortoiseContext
) -> None:
    await create_user(auth, "eve@example.com", password, verified=verified)
    assert await Mail.all().count() == 0
    await create_user(auth, EMAIL, password, verified=verified, mail=True)
    assert [mail.kind for mail in await Mail.all()] == kinds


@on_one_database
@pytest.mark.parametrize(
    ("email", "password", "code"),
    [
        ("no address", PASSWORD, ErrorCode.VALIDATION_ERROR),
        ("a\0@example.com", PASSWORD, ErrorCode.VALIDATION_ERROR),
        (EMAIL, "short", ErrorCode.VALIDATION_ERROR),
        (EMAIL, "", ErrorCode.VALIDATION_ERROR),
        (EMAIL, "x" * 1025, ErrorCode.VALIDATION_ERROR),
        (EMAIL, "sur\ud800rogate", ErrorCode.VALIDATION_ERROR),
        (EMAIL, "password123", ErrorCode.PASSWORD_TOO_COMMON),
        (EMAIL, "ada@example.com", ErrorCode.PASSWORD_TOO_PERSONAL),
    ],
)
async def test_what_a_signup_refuses_is_refused(
    email: str,
    password: str,
    code: ErrorCode,
    auth: Auth,
    tortoise: TortoiseContext,
    heard: list[SecurityEvent],
) -> None:
    assert await refusal(create_user(auth, email, password)) is code
    assert await User.all().count() == 0
    assert told(heard) == [f"account_creation failure {code.code}"]


@on_each_database
async def test_of_many_creations_at_once_one_wins(
    auth: Auth, settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    """And a taken address is said, also where secret from those who sign up."""
    settings.prevent_enumeration = True
    done = await asyncio.gather(*(create_user(auth, EMAIL) for _ in range(10)), return_exceptions=True)
    errors = [each.code for each in done if isinstance(each, AuthError)]
    assert errors == [ErrorCode.EMAIL_TAKEN] * 9
    assert await User.all().count() == 1


async def test_columns_of_the_host_are_set_and_checked(settings: AuthSettings, spare: SpareDatabase) -> None:
    await databases.create(spare.url, spare.dialect, own_tables.__name__, "shop")
    auth = Auth(settings, user_model=Member)
    async with TortoiseContext() as context:
        await context.init(databases.config(spare.url, f"{spare.dialect} own", "shop", own_tables.__name__))
        user = await create_user(auth, EMAIL, columns={"username": "Ada", "level": 7, "unknown": 1})
        assert isinstance(user, Member)
        assert (user.username, user.level, user.plan) == ("ada", 7, "free")
        assert (await find_user(auth, "ADA")).id == user.id
        assert [found.email for found in (await list_users(auth, search="AD")).users] == [EMAIL]
        eve = "eve@example.com"
        for columns, code in (
            ({"username": "ada"}, ErrorCode.USERNAME_TAKEN),
            ({"username": "no name"}, ErrorCode.VALIDATION_ERROR),
            ({"username": "eve", "company_id": 99}, ErrorCode.VALUE_REFUSED),
            ({"username": "eve", "city": "x" * 11}, ErrorCode.VALIDATION_ERROR),
            ({}, ErrorCode.VALIDATION_ERROR),
        ):
            assert await refusal(create_user(auth, eve, columns=columns)) is code, columns
        many = (create_user(auth, f"e{n}@example.com", columns={"username": "eve"}) for n in range(5))
        done = await asyncio.gather(*many, return_exceptions=True)
        assert sorted(type(each).__name__ for each in done) == ["AuthError"] * 4 + ["User"]
    await auth.close()


# --- one user --------------------------------------------------------------------------------------------


@on_one_database
@pytest.mark.parametrize("flow", ON_ONE, ids=lambda flow: flow.__name__)
async def test_an_unknown_user_is_refused(
    flow: OnOne, auth: Auth, tortoise: TortoiseContext, heard: list[SecurityEvent]
) -> None:
    assert await refusal(flow(auth, uuid4())) is ErrorCode.USER_NOT_FOUND
    assert [(event.outcome, event.reason) for event in heard] == [("failure", "user_not_found")]


@on_one_database
@pytest.mark.parametrize(
    "flow", [flow for flow in ON_ONE if flow is not delete_user], ids=lambda f: f.__name__
)
async def test_doing_it_again_changes_nothing(flow: OnOne, account: Account, auth: Auth) -> None:
    async def account_now() -> dict[str, object]:
        """All but the count of such ends, which logins under way are compared with."""
        (columns,) = await User.all().values()
        return {name: value for name, value in columns.items() if name != "access_epoch"}

    user = await User.get()
    await flow(auth, user.id)
    before = await account_now()
    await flow(auth, user.id)
    assert await account_now() == before


@on_one_database
@pytest.mark.parametrize("flow", ENDING, ids=lambda flow: flow.__name__)
async def test_every_session_ends_at_once(flow: OnOne, account: Account, auth: Auth) -> None:
    user = await User.get()
    others = await create_user(auth, "eve@example.com", PASSWORD, verified=True)
    eve = Account(account.client, account.mailbox, others.email, PASSWORD)
    assert (await eve.login()).status_code == 200
    await flow(auth, user.id)
    assert (await account.me()).status_code == 401
    assert (await account.refresh()).status_code == 401
    assert (await eve.me()).status_code == 200


async def test_a_disabled_user_is_out_until_enabled_and_no_session_comes_back(
    account: Account, auth: Auth, heard: list[SecurityEvent]
) -> None:
    user = await User.get()
    await disable_user(auth, user.id)
    assert (await account.login()).json()["code"] == "invalid_credentials"
    await enable_user(auth, user.id)
    assert (await account.me()).status_code == 401
    assert (await account.refresh()).status_code == 401
    assert (await account.login()).status_code == 200
    await enable_user(auth, user.id)
    assert (await account.me()).status_code == 200
    assert [
        event.kind for event in heard if event.user_id == user.id and event.kind.startswith("account")
    ] == [
        "account_disabled",
        "account_enabled",
        "account_enabled",
    ]


async def test_a_deleted_user_leaves_nothing(
    account: Account, auth: Auth, heard: list[SecurityEvent]
) -> None:
    user = await User.get()
    await delete_user(auth, user.id)
    for table in (User, Session, RefreshToken, RecoveryCode):
        assert await table.all().count() == 0
    (mail,) = await Mail.all()  # which says so
    assert (mail.kind, mail.user_id) == ("account_deleted", None)
    assert await refusal(delete_user(auth, user.id)) is ErrorCode.USER_NOT_FOUND
    assert told(heard) == ["account_deletion success", "account_deletion failure user_not_found"]


async def test_a_reset_of_two_factor_removes_everything_and_tells_the_owner(
    account: Account, auth: Auth, mailbox: Mailbox
) -> None:
    await enable_two_factor(account)
    assert (await renew(account)).status_code == 200
    await auth.dispatcher.deliver_due()
    mailbox.clear()
    user = await User.get()
    await reset_two_factor(auth, user.id)
    await auth.dispatcher.deliver_due()
    assert [message["Subject"] for message in mailbox.messages] == [
        "Two-factor authentication is off for MyApp"
    ]
    assert await RecoveryCode.all().count() == 0
    user = await User.get()
    assert (user.totp_secret, user.totp_confirmed, user.recovery_codes_at) == (None, False, None)
    assert (await account.me()).status_code == 401
    assert (await account.login()).status_code == 200


async def test_a_reset_without_two_factor_tells_nobody(
    account: Account, auth: Auth, mailbox: Mailbox
) -> None:
    """Nor one of an enrolment that was only begun, which it forgets."""
    mailbox.clear()
    user = await User.get()
    await reset_two_factor(auth, user.id)
    await account.client.post("/auth/2fa/enable", headers=account.headers)
    await reset_two_factor(auth, user.id)
    assert (await User.get()).totp_secret is None
    await auth.dispatcher.deliver_due()
    assert mailbox.messages == []
    assert (await account.me()).status_code == 200


# --- races -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flow", [disable_user, delete_user, require_password_reset], ids=lambda f: f.__name__
)
@on_each_database
async def test_no_session_of_a_login_or_refresh_outlives_it(
    flow: OnOne, account: Account, auth: Auth
) -> None:
    user = await User.get()
    body = {"email": EMAIL, "password": PASSWORD}
    for _ in range(3):
        if not await User.filter(id=user.id, is_active=True, password_reset_required=False).exists():
            await User.filter(id=user.id).delete()
            user = await create_user(auth, EMAIL, PASSWORD, verified=True)
        assert (await account.login()).status_code == 200
        *answers, _ = await asyncio.gather(
            *(account.client.post("/auth/login", json=body) for _ in range(3)),
            account.refresh(),
            account.refresh(),
            *(account.client.post("/auth/login", json=body) for _ in range(3)),
            flow(auth, user.id),
        )
        assert {answer.status_code for answer in answers} <= {200, 401}
        assert await Session.filter(revoked_at=None).count() == 0
        for answer in answers:
            if answer.status_code == 200:
                assert (await account.me(answer.json()["access_token"])).status_code == 401
                assert (await account.refresh(answer.json()["refresh_token"])).status_code == 401


@pytest.mark.parametrize("flow", [end_sessions, require_password_reset, disable_user])
async def test_no_password_is_changed_by_who_was_let_in_before(
    flow: OnOne, account: Account, auth: Auth
) -> None:
    """A change takes a second of hashing: it must not undo that a reset is required."""
    authentication = await authenticate(auth, account.access_token)
    await flow(auth, authentication.user.id)
    await enable_user(auth, authentication.user.id)
    before = await User.all().values("hashed_password", "password_reset_required", "access_epoch")
    changing = change_password(auth, authentication, PASSWORD, "another good password")
    assert await refusal(changing) is ErrorCode.WRONG_PASSWORD
    assert await User.all().values("hashed_password", "password_reset_required", "access_epoch") == before


@on_each_database
async def test_a_reset_and_an_activation_at_once_agree(account: Account, auth: Auth) -> None:
    """Either two-factor is on with its secret, or off without one."""
    user = await User.get()
    for _ in range(3):
        secret = (await account.client.post("/auth/2fa/enable", headers=account.headers)).json()
        code = pyotp.parse_uri(secret["otpauth_uri"]).now()  # type: ignore[attr-defined]
        await asyncio.gather(
            account.client.post("/auth/2fa/verify", json={"code": code}, headers=account.headers),
            reset_two_factor(auth, user.id),
        )
        after = await User.get()
        assert after.totp_confirmed == (after.totp_secret is not None)
        await reset_two_factor(auth, user.id)
        assert (await account.login()).status_code == 200


@on_each_database
async def test_many_at_once_never_deadlock(account: Account, auth: Auth) -> None:
    user = await User.get()
    flows = [disable_user, enable_user, end_sessions, require_password_reset, reset_two_factor] * 3
    await asyncio.gather(*(flow(auth, user.id) for flow in flows))
    await disable_user(auth, user.id)
    assert await Session.filter(revoked_at=None).count() == 0
