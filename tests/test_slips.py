"""Slips of the pen: each is answered where it is made, by one sentence that has the cure."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, get_args

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import FastAPIError
from pydantic import BaseModel
from starlette.applications import Starlette
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import (
    Auth,
    AuthSettings,
    CurrentUser,
    CurrentWebSocketUser,
    OptionalUser,
    PageUser,
    RecentUser,
    SecurityEvent,
    include_auth,
    require,
)
from fastapi_pluggable_auth.authorization import get_optional_user
from fastapi_pluggable_auth.dependencies import get_current_user, get_recent_user
from fastapi_pluggable_auth.email.local import MemoryProvider
from fastapi_pluggable_auth.features import Administration, PersonalTokens
from fastapi_pluggable_auth.hooks import AccountDeleted, BeforeSignup, Event, SignedUp
from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, PASSWORD, SECRET
from .hosts import STRICT, run_pytest

DIALECTS = ("sqlite",)
Anything: Any = object()


class Body(BaseModel):
    email: str


def given(**options: Any) -> Callable[[AuthSettings], object]:
    """`include_auth` with these arguments."""
    return lambda settings: include_auth(**{"app": FastAPI(), "settings": settings, **options})


ARGUMENTS: dict[str, tuple[Callable[[AuthSettings], object], str]] = {
    "a router": (given(app=APIRouter()), "app is of type APIRouter, but .* pass what `FastAPI"),
    "a factory": (given(app=lambda: FastAPI()), "app is of type function, but .* pass what `FastAPI"),
    "the class of the app": (given(app=FastAPI), "app is the class FastAPI, but .* pass what"),
    "the app's name": (given(app="main:app"), "app is of type str, but .* pass what `FastAPI"),
    "an app of Starlette": (given(app=Starlette()), "app is of type Starlette, but .* pass what"),
    "settings as a dict": (
        given(settings={"jwt_secret": SECRET}),
        "of type dict, .* write settings=AuthSettings",
    ),
    "settings as a class": (given(settings=AuthSettings), "the class AuthSettings, .* write settings=Auth"),
    "settings as an Auth": (
        lambda settings: include_auth(FastAPI(), settings=Auth(settings)),  # type: ignore[arg-type]
        "of type Auth, .* write settings=AuthSettings",
    ),
    "settings twice": (
        lambda settings: include_auth(FastAPI(), settings=settings, settings_override=settings),
        "pass settings alone",
    ),
    "Auth of a dict": (lambda _: Auth({"jwt_secret": SECRET}), "of type dict, .* write settings="),  # type: ignore[arg-type]
    "Auth of an app": (lambda _: Auth(FastAPI()), "of type FastAPI, .* write settings="),  # type: ignore[arg-type]
    "a user model by name": (
        given(user_model="app.User"),
        "of type str, .* write `class Mine\\(AbstractUser",
    ),
    "any class for users": (given(user_model=Body), "the class Body, .* write `class Mine\\(AbstractUser"),
    "a user for the model": (lambda s: given(user_model=User())(s), "of type User, .* write `class Mine"),
    "an answer of its own": (given(user_out=Body), "the class Body, .* write `class Mine\\(UserOut"),
    "a signup of its own": (given(user_create=Body), "the class Body, .* write `class Mine\\(UserCreate"),
    "a profile of its own": (given(profile_update=Body), "the class Body, .* write `class Mine\\(ProfileUpd"),
    "roles as a list": (given(roles=["editor"]), "of type list, .* write roles={'editor': \\(\\)}"),
    "roles as a set": (given(roles={"editor"}), "of type set, .* write roles={'editor': \\(\\)}"),
    "a role as a text": (given(roles="editor"), "of type str, .* write roles="),
    "a role of a number": (
        given(roles={"editor": 5}),
        "roles\\['editor'\\] is of type int, but has to be a list of permissions",
    ),
    "scopes as a list": (
        lambda _: PersonalTokens(scopes=["notes"]),
        "of type list, .* write scopes={'notes': 'What it allows'}",
    ),
    "scopes as a text": (lambda _: PersonalTokens(scopes="notes"), "of type str, .* write scopes="),
    "a scope without words": (
        lambda _: PersonalTokens(scopes={"notes": None}),
        "scopes\\['notes'\\] has to be a text",
    ),
    "a scope with a list": (
        lambda _: PersonalTokens(scopes={"notes": ["read"]}),
        "scopes\\['notes'\\] has to be a text",
    ),
    "pages of a variable": (given(pages="no"), "pages is of type str, .* has to be True or False"),
    "pages of no variable": (given(pages=None), "pages is of type NoneType, .* True or False"),
    "a feature by name": (given(features="administration"), "of type str, .* write features=\\[Admin"),
    "a feature that is no list": (given(features=Administration()), "of type Administration, .* write feat"),
    "a feature's class": (given(features=[Administration]), "the class Administration, .* write features="),
    "pages of an Auth": (lambda s: Auth(s, pages="0"), "pages is of type str, .* True or False"),  # type: ignore[arg-type]
    "a role without its name": (
        lambda _: require("admin"),  # type: ignore[arg-type]
        "write `require\\(role='admin'\\)` or `require\\(permission='admin'\\)`",
    ),
    "a role of an id": (lambda _: require(role=5), 'write `require\\(role="name"\\)`'),  # type: ignore[arg-type]
    "a scope of a truth": (lambda _: require(scope=True), "scope is of type bool"),  # type: ignore[arg-type]
    "verified by a text": (lambda _: require(verified="no"), "verified is .* True or False"),  # type: ignore[arg-type]
    "recent by a number": (lambda _: require(recent=60), "recent is .* True or False"),  # type: ignore[arg-type]
    "a time as the clock": (
        given(clock=datetime.now()),
        "of type datetime, .* such as `lambda: datetime.now\\(UTC",
    ),
    "a clock without a zone": (given(clock=datetime.now), "with a zone, such as `lambda: datetime.now\\(UTC"),
    "a provider by name": (given(email_provider="smtp"), "of type str, .* of type EmailProvider: pass one"),
    "a provider's class": (given(email_provider=MemoryProvider), "the class MemoryProvider, .* pass one"),
    "a limit for the limiter": (given(limiter="10/minute"), "of type str, .* said by AUTH_RATE_LIMITS"),
    "no function for mails": (
        given(send_email="queue"),
        "send_email is of type str, .* has to be a function",
    ),
    "a truth for two-factor": (given(require_two_factor=True), "of type bool, .* such as `lambda user"),
}


@pytest.mark.parametrize(("call", "told"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_an_argument_of_another_kind_is_refused_at_the_start(
    settings: AuthSettings, call: Callable[[AuthSettings], object], told: str
) -> None:
    with pytest.raises(TypeError, match=told) as refused:
        call(settings)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


async def of_the_host(user: CurrentUser) -> User:
    return user


WHOLE_APP = {
    "the user": Depends(get_current_user),
    "a recent login": Depends(get_recent_user),
    "a role": Depends(require(role="editor")),
    "a page": get_args(PageUser)[1],
    "a dependency of the host": Depends(of_the_host),
}


@pytest.mark.parametrize("dependency", WHOLE_APP.values(), ids=WHOLE_APP)
def test_an_app_that_asks_for_a_user_on_every_route_is_told_that_nobody_could_sign_in(
    settings: AuthSettings, dependency: Any
) -> None:
    app = FastAPI(dependencies=[Depends(lambda: None), dependency])
    with pytest.raises(
        ValueError, match=r"put that dependency on the routers of your own routes, such as `API"
    ):
        include_auth(app, settings=settings)


async def test_an_app_may_look_for_a_user_on_every_route(
    settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    app = FastAPI(dependencies=[Depends(get_optional_user)])
    include_auth(app, settings=settings)
    async with at(app) as client:
        answer = await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
    assert answer.json()["code"] == "invalid_credentials"


async def no_parameter() -> None: ...
async def too_many(event: SignedUp, more: int) -> None: ...
async def by_name_alone(*, event: SignedUp) -> None: ...


class Hooks:
    async def method(self, event: SignedUp) -> None: ...
    @classmethod
    async def of_class(cls, event: SignedUp) -> None: ...


class Callback:
    async def __call__(self, event: SignedUp) -> None: ...


async def yielding(event: SignedUp) -> AsyncIterator[None]:
    yield


def yielding_too(event: SignedUp) -> Iterator[None]:
    yield


class YieldingCallback:
    async def __call__(self, event: SignedUp) -> AsyncIterator[None]:
        yield


HEARD: dict[str, tuple[Any, str]] = {
    "a bare decorator": (no_parameter, "no_parameter is not an event: .* `@auth.on\\(SignedUp\\)`"),
    "an event that happened": (AccountDeleted(Anything, "a@example.com"), "is not an event: .*`@auth.on"),
    "another class": (int, "int is not an event: .*`@auth.on"),
    "a model": (User, "User is not an event: .*`@auth.on"),
    "a name": ("SignedUp", "'SignedUp' is not an event: .*`@auth.on"),
    "a list": (list[SignedUp], "list is not an event"),
    "nothing": (None, "None is not an event"),
}


@pytest.mark.parametrize(("event", "told"), HEARD.values(), ids=HEARD)
def test_only_an_event_is_heard(settings: AuthSettings, event: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        Auth(settings).on(event)


@pytest.mark.parametrize("event", [SignedUp, SignedUp[User], SecurityEvent, BeforeSignup])
@pytest.mark.parametrize("handler", [no_parameter, too_many, by_name_alone, Hooks.method, 5, None])
def test_a_handler_takes_the_event_and_nothing_else(settings: AuthSettings, event: Any, handler: Any) -> None:
    auth = Auth(settings)
    with pytest.raises(TypeError, match=r"write `async def handler\(event: \w+\) -> None`"):
        auth.on(event)(handler)
    assert auth.hooks.handlers == auth.events.listeners == []


@pytest.mark.parametrize(
    "handler",
    [yielding, yielding_too, YieldingCallback(), partial(yielding), asynccontextmanager(yielding)],
)
def test_a_handler_that_would_never_run_is_refused(settings: AuthSettings, handler: Any) -> None:
    for event in (SignedUp, SecurityEvent):
        with pytest.raises(TypeError, match=r"yields, .* write `async def handler"):
            Auth(settings).on(event)(handler)


@pytest.mark.parametrize(
    "handler",
    [
        lambda event: None,
        lambda event, again=3: None,
        lambda *events: None,
        Hooks().method,
        Hooks.of_class,
        Callback(),
        partial(too_many, more=1),
        [].append,
    ],
)
def test_whatever_can_be_called_with_an_event_may_hear_it(settings: AuthSettings, handler: Any) -> None:
    auth = Auth(settings)
    assert auth.on(SignedUp)(handler) is handler
    assert auth.on(SecurityEvent)(handler) is handler


@asynccontextmanager
async def at(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        yield client


async def open_socket(app: FastAPI, path: str) -> None:
    """Raises what the app does."""
    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "subprotocols": []}

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None: ...

    await app(scope, receive, send)


OF_HTTP = {
    "CurrentUser": CurrentUser,
    "RecentUser": RecentUser,
    "PageUser": PageUser,
    "OptionalUser": OptionalUser,
    "require": Annotated[User, Depends(require(role="editor"))],
}


@pytest.mark.parametrize("user", OF_HTTP.values(), ids=OF_HTTP)
@pytest.mark.parametrize("included", [True, False])
async def test_a_dependency_for_http_says_on_a_websocket_which_one_to_take(
    settings: AuthSettings, user: Any, *, included: bool
) -> None:
    app = FastAPI()
    if included:
        include_auth(app, settings=settings)

    async def socket(websocket: WebSocket, user: Any) -> None:
        raise AssertionError

    socket.__annotations__ = {"websocket": WebSocket, "user": user}
    app.websocket("/socket")(socket)
    with pytest.raises(RuntimeError, match="take CurrentWebSocketUser"):
        await open_socket(app, "/socket")


async def test_a_dependency_for_websockets_says_on_a_route_which_one_to_take(settings: AuthSettings) -> None:
    app = FastAPI()
    include_auth(app, settings=settings)

    @app.get("/route")
    async def route(user: CurrentWebSocketUser) -> None: ...

    async with at(app) as client:
        with pytest.raises(RuntimeError, match="on an HTTP route take CurrentUser"):
            await client.get("/route")


def test_require_that_is_not_called_lets_nobody_in() -> None:
    app = FastAPI()

    with pytest.raises(FastAPIError, match="RequireIsToBeCalled"):

        @app.get("/route", dependencies=[Depends(require)])
        async def route() -> None: ...

    assert "/route" not in {getattr(route, "path", "") for route in app.routes}


async def test_without_include_auth_a_dependency_says_what_is_missing() -> None:
    app = FastAPI()

    @app.get("/route")
    async def route(user: CurrentUser) -> None: ...

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, user: CurrentWebSocketUser) -> None: ...

    async with at(app) as client:
        with pytest.raises(RuntimeError, match=r"call include_auth\(app\)"):
            await client.get("/route")
    with pytest.raises(RuntimeError, match=r"call include_auth\(app\)"):
        await open_socket(app, "/socket")


HOST = f"""
from fastapi import FastAPI
from tortoise import fields

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.models import AbstractUser, tables_for


class Member(AbstractUser):
    city = fields.CharField(max_length=80, default="")


__models__ = [*tables_for(Member)]
app, bare = FastAPI(), FastAPI()
include_auth(app, settings=AuthSettings(_env_file=None, jwt_secret="{SECRET}"), user_model=Member)
"""

CONFTEST = """
import pytest
import host

pytest_plugins = ["fastapi_pluggable_auth.testing"]


@pytest.fixture
def auth_app(request):
    return getattr(host, request.param) if hasattr(request, "param") else host.app
"""

TESTS = """
import pytest

pytestmark = pytest.mark.asyncio


async def test_client(auth_client): ...


async def test_factory(user_factory):
    await user_factory()


@pytest.mark.parametrize("auth_app", ["bare", "__doc__"], indirect=True)
async def test_app(auth_client): ...
"""


def test_the_test_kit_says_which_fixture_to_override(tmp_path: Path) -> None:
    for name, text in (("host.py", HOST), ("conftest.py", CONFTEST), ("test_it.py", TESTS)):
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text(STRICT)
    told = run_pytest(tmp_path)
    assert re.search("4 errors in ", told), told
    assert told.count('override the fixture `auth_models` so that it returns {"models": ["host"]}') >= 2
    assert told.count("The fixture `auth_app` has to return an app that include_auth was called for") >= 2
    assert "Traceback" not in told


TWICE = """
from fastapi_pluggable_auth.hooks import SignedUp
from {main} import auth

@auth.on(SignedUp)
async def greet(event): ...

@auth.on(SignedUp)
async def count(event): ...
"""


def warnings_in(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [record.message for record in caplog.records if name in record.message]


def test_a_handler_that_is_added_twice_is_named(
    settings: AuthSettings,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also one whose module is imported by two names, as `hooks` and as `app.hooks`."""
    auth = include_auth(FastAPI(), settings=settings)
    monkeypatch.setitem(sys.modules, "main_of_slips", SimpleNamespace(auth=auth))
    source = tmp_path / "hooks.py"
    source.write_text(TWICE.format(main="main_of_slips"))
    for name in ("hooks_of_slips", "app_of_slips"):
        spec = importlib.util.spec_from_file_location(name, source)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        if name == "hooks_of_slips":
            assert not warnings_in(caplog, "once for each time")
    twice = warnings_in(caplog, "once for each time")
    assert [line.partition(" ")[0] for line in twice] == ["greet", "count"]

    caplog.clear()

    def hear(event: object) -> None: ...

    auth.on(Event)(hear)
    auth.on(SecurityEvent)(hear)
    assert not warnings_in(caplog, "once for each time")
    auth.on(SignedUp)(hear)
    (line,) = warnings_in(caplog, "once for each time")
    assert "hear was added to Event, which is SignedUp too" in line


def test_handlers_that_one_function_makes_are_not_one(
    settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    auth = include_auth(FastAPI(), settings=settings)
    for name in ("one", "two"):
        auth.on(SignedUp)(lambda event, name=name: None)
    assert not warnings_in(caplog, "once for each time")


async def answer_all(request: Request) -> Response:
    return Response("host")


def a_page(app: FastAPI) -> None:
    app.add_api_route("/account/sign-in", answer_all, methods=["GET"])


def every_path(app: FastAPI) -> None:
    app.add_api_route("/{path:path}", answer_all, methods=["GET"])


def every_path_of_a_router(app: FastAPI) -> None:
    router = APIRouter()
    every_path(router)  # type: ignore[arg-type]  # it has the same method
    app.include_router(router)


def a_mount(app: FastAPI) -> None:
    app.mount("/", Starlette())


@pytest.mark.parametrize(
    ("add", "named"),
    [
        (a_page, "GET /account/sign-in are never"),
        (every_path, "GET /auth/me and "),
        (every_path_of_a_router, "GET /auth/me and "),
        (a_mount, "GET /auth/me and "),
    ],
)
def test_routes_of_the_host_that_hide_those_of_the_package_are_noticed(
    settings: AuthSettings,
    caplog: pytest.LogCaptureFixture,
    add: Callable[[FastAPI], None],
    named: str,
) -> None:
    before, after = FastAPI(), FastAPI()
    add(before)
    after.add_api_route("/auth/other", answer_all, methods=["POST"])
    include_auth(after, settings=settings, pages=True)
    add(after)
    assert not warnings_in(caplog, "never reached")
    include_auth(before, settings=settings, pages=True)
    (line,) = warnings_in(caplog, "never reached")
    assert line.startswith(named)
