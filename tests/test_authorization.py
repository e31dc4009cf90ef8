"""Roles and permissions: given and taken at once, asked for by a route, never settable by their owner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from tortoise.context import TortoiseContext
from tortoise.exceptions import ValidationError

from fastapi_pluggable_auth import (
    Auth,
    AuthError,
    AuthSettings,
    ErrorCode,
    OptionalUser,
    SecurityEvent,
    Superuser,
    include_auth,
    require,
)
from fastapi_pluggable_auth.flows.authorization import grant, revoke
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.schemas import ProfileUpdate, UserCreate, UserOut

from .conftest import EMAIL, PASSWORD, SQLITE_UNLESS_FULL, Account, Clock, Mailbox, on_each_database
from .test_notices import enable_two_factor
from .test_queries import STATEMENT

DIALECTS = SQLITE_UNLESS_FULL

ROLES = {"editor": {"posts:write", "posts:read"}, "reader": "posts:read", "guest": ()}


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """A host app that asks for something on each route."""
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, roles=ROLES)

    def route(path: str, dependency: Any) -> None:
        asked = Depends(dependency)

        @app.get(path)
        async def guarded(user: User = asked) -> str:
            return user.email

    route("/editor", require(role="editor"))
    route("/editor-or-reader", require(role=["editor", "reader"]))
    route("/write", require(permission="posts:write"))
    route("/write-and-delete", require(permission=("posts:write", "posts:delete")))
    route("/both", require(role="reader", permission="posts:write"))
    route("/superuser", require(superuser=True))
    route("/verified", require(verified=True))
    route("/recent", require(recent=True))
    route("/two-factor", require(two_factor=True))
    route("/editor-recent", require(role="editor", recent=True))

    @app.get("/root")
    async def root(user: Superuser) -> str:
        return user.email

    @app.get("/optional")
    async def optional(user: OptionalUser) -> str | None:
        return user and user.email

    router = APIRouter(prefix="/posts", dependencies=[Depends(require(role="editor"))])

    @router.delete("/all", dependencies=[Depends(require(permission="posts:delete"))])
    async def delete_all() -> int:
        return 7

    app.include_router(router)
    return app


Ask = Callable[[str], Any]


@pytest.fixture
def ask(account: Account) -> Ask:
    """What a GET as the account answers: its code, or 200."""

    async def ask(path: str) -> object:
        answer = await account.client.get(path, headers=account.headers)
        if answer.status_code == 200:
            return 200
        assert answer.status_code == 403, answer.text
        assert answer.json().keys() == {"detail", "code"}
        return answer.json()["code"]

    return ask


async def user_id() -> UUID:
    return (await User.get(email=EMAIL)).id


async def test_a_role_counts_from_the_next_request_on_and_no_longer_than_it_is_held(
    auth: Auth, ask: Ask
) -> None:
    for path in ("/editor", "/editor-or-reader", "/write", "/both"):
        assert await ask(path) == "permission_denied"
    user = await grant(auth, await user_id(), roles="editor")
    assert user.roles == {"editor"}
    assert await ask("/editor") == await ask("/editor-or-reader") == await ask("/write") == 200
    assert await ask("/both") == "permission_denied"  # every kind that is named is asked for
    await grant(auth, user.id, roles=["reader"])
    assert await ask("/both") == 200
    await revoke(auth, user.id, roles={"editor", "guest"})
    assert await ask("/editor") == await ask("/write") == await ask("/both") == "permission_denied"
    assert await ask("/editor-or-reader") == 200


async def test_all_permissions_are_asked_for_those_of_roles_and_those_of_the_user(
    auth: Auth, ask: Ask
) -> None:
    user = await grant(auth, await user_id(), permissions="posts:delete", roles="editor")
    assert auth.permissions_of(user) == {"posts:delete", "posts:read", "posts:write"}
    assert await ask("/write-and-delete") == 200
    await revoke(auth, user.id, permissions="posts:delete")
    assert await ask("/write-and-delete") == "permission_denied"
    await revoke(auth, user.id, permissions="posts:write")  # which is the role's
    assert await ask("/write") == 200


async def test_a_superuser_has_every_role_and_permission_and_nothing_else(
    auth: Auth, ask: Ask, clock: Clock, settings: AuthSettings
) -> None:
    assert await ask("/superuser") == await ask("/root") == "permission_denied"
    user = await grant(auth, await user_id(), superuser=True)
    for path in ("/superuser", "/root", "/editor", "/write-and-delete", "/both"):
        assert await ask(path) == 200
    await User.filter(id=user.id).update(is_verified=False)
    assert await ask("/verified") == "verification_required"
    assert await ask("/two-factor") == "two_factor_enrolment_required"
    settings.reauth_ttl = timedelta(minutes=1)
    clock.advance(minutes=2)
    assert await ask("/recent") == "reauthentication_required"
    await revoke(auth, user.id, superuser=True)
    assert await ask("/superuser") == await ask("/editor") == "permission_denied"


async def test_a_verified_address_two_factor_and_a_recent_login_can_be_asked_for(
    ask: Ask, account: Account, auth: Auth, clock: Clock, settings: AuthSettings
) -> None:
    assert await ask("/verified") == await ask("/recent") == 200
    assert await ask("/two-factor") == "two_factor_enrolment_required"
    await enable_two_factor(account)
    assert await ask("/two-factor") == 200
    settings.reauth_ttl = timedelta(minutes=1)
    clock.advance(minutes=2)
    assert await ask("/recent") == "reauthentication_required"
    assert await ask("/editor-recent") == "permission_denied"  # nobody types a password for nothing
    await grant(auth, await user_id(), roles="editor")
    assert await ask("/editor-recent") == "reauthentication_required"


async def test_a_router_asks_for_its_own_and_a_route_for_more(auth: Auth, account: Account) -> None:
    async def delete() -> tuple[int, object]:
        answer = await account.client.delete("/posts/all", headers=account.headers)
        return answer.status_code, answer.json()

    assert (await account.client.delete("/posts/all")).status_code == 401
    assert (await delete())[0] == 403
    await grant(auth, await user_id(), permissions="posts:delete")
    assert (await delete())[0] == 403
    await grant(auth, await user_id(), roles="editor")
    assert await delete() == (200, 7)


async def test_several_requirements_of_a_route_are_one_query(
    auth: Auth, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    await grant(auth, await user_id(), roles="editor", permissions="posts:delete")
    with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
        caplog.clear()
        answer = await account.client.delete("/posts/all", headers=account.headers)
    assert answer.status_code == 200
    assert len([line for line in caplog.messages if STATEMENT.match(line)]) == 1


async def test_a_refusal_is_an_event_of_the_user_and_a_change_is_one_too(auth: Auth, ask: Ask) -> None:
    heard: list[SecurityEvent] = []
    auth.on(SecurityEvent)(heard.append)
    await ask("/editor")
    await ask("/verified")
    user = await grant(auth, await user_id(), roles="editor")
    await ask("/editor")
    with pytest.raises(AuthError):
        await grant(auth, user.id, roles="editr")
    await revoke(auth, user.id, roles="editor")
    told = [(event.kind, event.outcome, event.reason, event.user_id) for event in heard]
    assert told == [
        ("access", "failure", "permission_denied", user.id),
        ("authorization_change", "success", None, user.id),
        ("authorization_change", "failure", "unknown_role", user.id),
        ("authorization_change", "success", None, user.id),
    ]
    assert heard[0].session_id is not None


@on_each_database
async def test_changes_at_once_are_all_kept(account: Account, auth: Auth) -> None:
    """R-21."""
    user = await grant(auth, await user_id(), permissions=[f"old:{number}" for number in range(6)])
    changes = [grant(auth, user.id, permissions=f"new:{number}") for number in range(6)]
    changes += [revoke(auth, user.id, permissions=f"old:{number}") for number in range(6)]
    await asyncio.gather(*changes)
    assert (await User.get()).permissions == {f"new:{number}" for number in range(6)}


async def test_what_is_unknown_or_unfit_is_refused_and_changes_nothing(account: Account, auth: Auth) -> None:
    user = await grant(auth, await user_id(), roles="editor", permissions="posts:read")

    async def refusal(work: Any) -> ErrorCode:
        with pytest.raises(AuthError) as caught:
            await work
        return caught.value.code

    assert await refusal(grant(auth, user.id, roles=["reader", "king"])) is ErrorCode.UNKNOWN_ROLE
    assert await refusal(grant(auth, uuid4(), roles="editor")) is ErrorCode.USER_NOT_FOUND
    assert await refusal(revoke(auth, uuid4(), superuser=True)) is ErrorCode.USER_NOT_FOUND
    for name in ("\x00", 'a"b', "a\\b", "\ud800", "\u00e4", "a\nb", ""):
        assert await refusal(grant(auth, user.id, permissions=[name])) is ErrorCode.VALIDATION_ERROR
    assert await refusal(grant(auth, user.id, permissions="x" * 1023)) is ErrorCode.VALIDATION_ERROR
    kept = await User.get()
    assert (kept.roles, kept.permissions, kept.is_superuser) == ({"editor"}, {"posts:read"}, False)
    await grant(auth, user.id, permissions="x" * 1011)  # the whole room: "posts:read", itself and spaces
    assert len((await User.get()).permissions) == 2
    await User.filter(id=user.id).update(roles=["retired"])  # of an earlier release of the app
    assert (await revoke(auth, user.id, roles="retired")).roles == frozenset()


async def test_a_set_of_names_is_kept_whole_or_not_at_all(account: Account) -> None:
    user = await User.get()
    assert (user.roles, user.permissions, user.is_superuser) == (frozenset(), frozenset(), False)
    user.roles = frozenset({"editor", "admin"})
    await user.save()
    assert (await User.get()).roles == {"admin", "editor"}
    assert await User.filter(roles__contains=" admin ").count() == 1
    assert await User.filter(roles__contains=" adm ").count() == 0
    assert await User.filter(roles=("editor", "admin")).count() == 1
    for unfit in ("x" * 1023, ["a b"], ["\u00e4"], [1]):
        with pytest.raises(ValidationError, match=r"roles: .*(room for 1024|is not a name)"):
            await User.filter(id=user.id).update(roles=unfit)
    assert (await User.get()).roles == {"admin", "editor"}


def test_no_body_of_an_app_may_name_roles(settings: AuthSettings) -> None:
    """A-31."""
    for column in ("roles", "permissions", "is_superuser"):
        for body, option in ((UserCreate, "user_create"), (ProfileUpdate, "profile_update")):
            own = type("Own", (body,), {"__annotations__": {column: str}, column: ""})
            with pytest.raises(ValueError, match=f"Own must not name {column}"):
                include_auth(FastAPI(), settings=settings, **{option: own})  # type: ignore[arg-type]


async def test_roles_are_shown_where_the_app_says_so_and_cannot_be_sent(
    settings: AuthSettings, clock: Clock, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    """A-31."""

    class Me(UserOut):
        roles: set[str]

    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock, user_out=Me)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        body = {"email": EMAIL, "password": PASSWORD}
        for column in ("roles", "permissions", "is_superuser"):
            answer = await client.post("/auth/signup", json=body | {column: "admin"})
            assert answer.status_code == 422
        assert (await client.post("/auth/signup", json=body)).json()["roles"] == []
        await client.get(mailbox.link())
        account = Account(client, mailbox, EMAIL, PASSWORD)
        await account.login()
        answer = await client.patch("/account", json={"roles": "admin"}, headers=account.headers)
        assert answer.status_code == 422
        await grant(auth, await user_id(), roles="anything")  # as the app has named none
        assert (await account.me()).json()["roles"] == ["anything"]
    await auth.close()


async def test_a_stranger_is_nobody_and_a_bad_token_is_refused(account: Account, clock: Clock) -> None:
    async def optional(**headers: str) -> tuple[int, object]:
        answer = await account.client.get("/optional", headers=headers)
        return answer.status_code, answer.json()

    assert await optional() == (200, None)
    assert await optional(**account.headers) == (200, EMAIL)
    for header in ("Bearer nonsense", "Bearer", "bearer "):
        assert (await optional(authorization=header))[0] == 401
    assert await optional(authorization="Basic YTpi") == (200, None)  # the password of a proxy
    clock.advance(hours=1)
    assert (await optional(**account.headers))[0] == 401


async def test_cookies_of_an_ended_session_are_nobody_and_go(
    account: Account, app: FastAPI, settings: AuthSettings, clock: Clock
) -> None:
    settings.cookies = True
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock)

    @app.get("/optional")
    async def optional(user: OptionalUser) -> str | None:
        return user and user.email

    transport, browser = httpx.ASGITransport(app), {"origin": "http://localhost:8000"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        body = {"email": EMAIL, "password": PASSWORD}
        assert (await client.post("/auth/login", json=body, headers=browser)).status_code == 200
        assert (await client.get("/optional")).json() == EMAIL
        await account.client.post("/auth/logout", headers=account.headers)  # of all devices
        answer = await client.get("/optional")
        assert (answer.status_code, answer.json()) == (200, None)
        assert len(answer.headers.get_list("set-cookie")) == 2
        assert set(client.cookies) == {"device"}  # which outlives sessions
    await auth.close()


async def test_a_requirement_of_nothing_or_of_no_name_is_refused_at_once() -> None:
    for options in ({"role": ()}, {"permission": ""}, {"role": ["a b"]}, {"permission": "\u00e4"}):
        with pytest.raises(ValueError, match=r"no name|not a name"):
            require(**options)  # type: ignore[arg-type]


async def test_a_role_that_the_app_does_not_have_is_an_error_of_the_app(
    app: FastAPI, account: Account
) -> None:
    @app.get("/editr")
    async def editr(user: Annotated[User, Depends(require(role=["editor", "editr"]))]) -> None: ...

    with pytest.raises(ValueError, match=r"include_auth\(roles=\.\.\.\) has no role editr"):
        await account.client.get("/editr", headers=account.headers)


@pytest.mark.parametrize("roles", [{"a b": ()}, {"": ()}, {"editor": ["posts write"]}, {"editor": "\u00e4"}])
def test_names_of_an_app_are_checked_at_the_start(roles: Any, settings: AuthSettings) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        include_auth(FastAPI(), settings=settings, roles=roles)


def test_the_document_of_the_app_has_the_scheme(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    for path, method in (("/editor", "get"), ("/root", "get"), ("/posts/all", "delete")):
        assert {"Auth-AccessToken": []} in paths[path][method]["security"]
