"""A host with its own user model, as type checkers see it: no cast, and each line with `error` is refused."""

from __future__ import annotations

from typing import Annotated, assert_type

from fastapi import Depends, FastAPI, Request, WebSocket
from tortoise import fields

from fastapi_pluggable_auth import (
    Auth,
    AuthSettings,
    CurrentUser,
    CurrentWebSocketUser,
    OptionalUser,
    PageUser,
    RecentUser,
    SecurityEvent,
    Superuser,
    config,
    get_current_user,
    get_optional_user,
    get_recent_user,
    get_websocket_user,
    include_auth,
    require,
)
from fastapi_pluggable_auth.config import settings
from fastapi_pluggable_auth.dependencies import get_authentication
from fastapi_pluggable_auth.features.administration.users import (
    create_user,
    disable_user,
    find_user,
    list_users,
)
from fastapi_pluggable_auth.flows.authentication import Authentication
from fastapi_pluggable_auth.flows.signup import signup
from fastapi_pluggable_auth.hooks import AccountDeleted, BeforeLogin, EmailChanged, LoggedIn, SignedUp
from fastapi_pluggable_auth.models import AbstractUser, Tables, User, tables_for
from fastapi_pluggable_auth.testing import UserFactory


class Member(AbstractUser):
    company = fields.CharField(max_length=80, default="")


class Other(AbstractUser):
    city = fields.CharField(max_length=80, default="")


def seen(*values: object) -> None: ...


def must_enrol(user: Member) -> bool:
    return user.company == "bank"


auth = include_auth(FastAPI(), user_model=Member, require_two_factor=must_enrol)
plain = include_auth(FastAPI())
assert_type(auth, Auth[Member])
assert_type(plain, Auth[User])
assert_type(Auth(AuthSettings(), user_model=Member), Auth[Member])
assert_type(Auth(AuthSettings()), Auth[User])
assert_type(auth.tables.user, type[Member])
assert_type(tables_for(Member), Tables[Member])


@auth.on(SignedUp)
async def greet(event: SignedUp[Member]) -> None:
    assert_type(event.user, Member)
    assert_type(event.user.company, str)


@auth.on(SignedUp[Member])
async def greet_again(event: SignedUp[Member]) -> None: ...


@auth.on(BeforeLogin)
def before(event: BeforeLogin[Member]) -> None:
    assert_type(event.user.company, str)


@auth.on(AccountDeleted)
def deleted(event: AccountDeleted) -> None: ...


@auth.on(SecurityEvent)
async def log(event: SecurityEvent) -> None: ...


@plain.on(EmailChanged)
async def changed(event: EmailChanged) -> None:
    assert_type(event.user, User)
    seen(event.user.company)  # error


@auth.on(LoggedIn)  # error
async def wrong_event(event: SignedUp[Member]) -> None: ...


@auth.on(LoggedIn)  # error
async def no_parameter() -> None: ...


@auth.on(Member)  # error
async def no_event(event: Member) -> None: ...


async def in_a_script() -> None:
    assert_type(await find_user(auth, "ada@example.com"), Member)
    assert_type(await create_user(auth, "ada@example.com"), Member)
    assert_type(await signup(auth, "ada@example.com", "correct horse battery"), Member)
    assert_type((await list_users(auth)).users, list[Member])
    assert_type(await find_user(plain, "ada@example.com"), User)
    assert_type(await auth.tables.user.get(email="ada@example.com"), Member)
    await disable_user(auth, (await find_user(auth, "ada@example.com")).id)
    seen((await find_user(auth, "ada@example.com")).city)  # error


def for_any_app(any_auth: Auth) -> None:
    """What takes the `Auth` of any app takes that of each."""


def for_members(own: Auth[Member]) -> None: ...


for_any_app(auth)
for_any_app(plain)
for_members(auth)
for_members(plain)  # error


async def by_annotation(
    user: CurrentUser[Member],
    recent: RecentUser[Member],
    page: PageUser[Member],
    superuser: Superuser[Member],
    optional: OptionalUser[Member],
    socket: CurrentWebSocketUser[Member],
    spelled: Annotated[Member, Depends(require(role="editor"))],
    authentication: Annotated[Authentication[Member], Depends(get_authentication)],
    shipped: CurrentUser,
    optional_shipped: OptionalUser,
) -> None:
    for each in (user, recent, page, superuser, socket, spelled, authentication.user):
        assert_type(each, Member)
    assert_type(optional, Member | None)
    assert_type(shipped, User)
    assert_type(optional_shipped, User | None)
    seen(user.city)  # error


async def by_call(request: Request, websocket: WebSocket) -> None:
    one: Member = await get_current_user(request)
    two: Member = await get_recent_user(request)
    three: Member | None = await get_optional_user(request)
    four: Member = await get_websocket_user(websocket)
    five: Member = await require(role="editor")(request)
    assert_type(await get_current_user(request), User)
    seen(one, two, three, four, five)


async def in_tests(user_factory: UserFactory[Member], shipped_factory: UserFactory) -> None:
    assert_type(await user_factory(company="bank"), Member)
    assert_type(await shipped_factory(), User)
    seen((await user_factory()).city)  # error


def by_settings() -> None:
    assert_type(settings, AuthSettings)
    assert_type(config.settings, AuthSettings)
    settings.totp_issuer = settings.app_name
    seen(settings.no_such_setting)  # error
    seen(config.setings)  # error
