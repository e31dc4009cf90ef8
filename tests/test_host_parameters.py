"""Each parameter that FastAPI has for an app, a router and an included router, with our routes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from starlette.datastructures import State
from starlette.middleware import Middleware
from starlette.routing import Route
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthError, AuthSettings, CurrentUser, include_auth
from fastapi_pluggable_auth.features import Administration, Passkeys, PersonalTokens
from fastapi_pluggable_auth.routes import core, email

from .conftest import EMAIL, PASSWORD

DIALECTS = ("sqlite",)
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}
# FastAPI says so of its own parameter, on any app with two routes.
pytestmark = pytest.mark.filterwarnings("ignore:Duplicate Operation ID callback")

CALLED: list[str] = []
"""What functions of the host were called."""


@dataclass
class Walk:
    """What an app answered, and its document."""

    app: FastAPI
    signup: httpx.Response
    login: httpx.Response
    me: httpx.Response
    page: httpx.Response
    refused: httpx.Response
    mistake: httpx.Response
    document: dict[str, Any] = field(default_factory=dict)

    def operation(self, path: str = "/auth/login") -> dict[str, Any]:
        """What the document says of a login."""
        operation: dict[str, Any] = self.document["paths"][path]["post"]
        return operation


async def walk(app: FastAPI, prefix: str = "") -> Walk:
    """Goes through an app, its lifespan too."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://testserver") as client,
    ):
        signup = await client.post(f"{prefix}/auth/signup", json=CREDENTIALS)
        login = await client.post(f"{prefix}/auth/login", json=CREDENTIALS)
        token = login.json()["access_token"] if login.status_code == 200 else ""
        headers = {"Authorization": f"Bearer {token}"}
        me = await client.get(f"{prefix}/auth/me/", headers=headers)
        page = await client.get("/account/sign-in", headers={"Accept": "text/html"})
        refused = await client.get("/host/me")
        mistake = await client.get("/host/mistake", headers=headers)
        return Walk(app, signup, login, me, page, refused, mistake, app.openapi())


def add_host_routes(app: FastAPI) -> None:
    @app.get("/host/me")
    async def host_me(user: CurrentUser) -> str:
        return user.email

    @app.get("/host/mistake")
    async def mistake(user: CurrentUser) -> None:
        raise ZeroDivisionError


def called(what: str) -> Callable[[], None]:
    return lambda: CALLED.append(what)


async def note_dependency() -> None:
    CALLED.append("dependency")


async def starlette_route(_: Request) -> PlainTextResponse:
    return PlainTextResponse("host")


class Noting:
    """A plain middleware."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        CALLED.append("middleware")
        await self.app(scope, receive, send)


async def answer_refusal(_: Request, error: Exception) -> JSONResponse:
    CALLED.append("handler of refusals")
    return JSONResponse({"mine": str(error)}, 499)


async def answer_mistake(_: Request, error: Exception) -> JSONResponse:
    CALLED.append("handler of mistakes")
    return JSONResponse({"mine": "mistake"}, 500)


@asynccontextmanager
async def host_lifespan(_: FastAPI) -> AsyncIterator[dict[str, str]]:
    CALLED.append("started")
    yield {"host": "state"}
    CALLED.append("stopped")


class OwnJSON(JSONResponse):
    media_type = "application/vnd.host+json"


class OwnRoute(APIRoute):
    pass


callbacks, webhooks = APIRouter(), APIRouter()


@callbacks.post("{$request.body.url}/called")
async def callback() -> None: ...


@webhooks.post("hook")
async def webhook() -> None: ...


Case = tuple[Any, Callable[[Walk], object]]


def answers(_: Walk) -> bool:
    """For what shows in no answer: all that is asked is that the routes go on."""
    return True


def shown(**entries: Any) -> Callable[[Walk], object]:
    return lambda w: all(w.document["info"][name] == value for name, value in entries.items())


ALIKE: dict[str, Case] = {
    "default_response_class": (OwnJSON, lambda w: w.signup.headers["content-type"] == OwnJSON.media_type),
    "responses": (
        {404: {"description": "Not here"}, "5XX": {"description": "Broken"}, 418: {"model": dict[str, int]}},
        lambda w: (
            {"401", "404", "418", "5XX"} <= w.operation()["responses"].keys()
            and w.operation()["responses"]["404"] == {"description": "Not here"}
            and "`invalid_credentials`" in w.operation()["responses"]["401"]["description"]
        ),
    ),
    "dependencies": ([Depends(note_dependency)], lambda w: CALLED.count("dependency") >= 3),
    "callbacks": (callbacks.routes, lambda w: "callback" in w.operation()["callbacks"]),
    "deprecated": (True, lambda w: w.operation()["deprecated"]),
    "include_in_schema": (False, lambda w: "/auth/login" not in w.document["paths"]),
    "generate_unique_id_function": (
        lambda route: f"{route.tags[0] if route.tags else 'host'}-{route.name}",
        lambda w: w.operation()["operationId"] == "auth-login",
    ),
    "max_body_size": (2000, answers),
    "form_limits": ({"max_fields": 10, "max_part_size": 2000}, answers),
}
"""What an app and a router have in common, with what shows that it takes effect."""

STARTS: dict[str, Case] = {
    "redirect_slashes": (False, lambda w: w.me.status_code == 200),
    "on_startup": ([called("started")], lambda w: CALLED[0] == "started"),
    "on_shutdown": ([called("stopped")], lambda w: CALLED[-1] == "stopped"),
    "lifespan": (host_lifespan, lambda w: (CALLED[0], CALLED[-1]) == ("started", "stopped")),
    "routes": ([Route("/host/plain", starlette_route)], lambda w: w.app.url_path_for("starlette_route")),
    "strict_content_type": (False, answers),
}

OF_DOCUMENT: dict[str, Case] = {
    "title": ("Host", shown(title="Host")),
    "summary": ("A host", shown(summary="A host")),
    "description": ("About it", shown(description="About it")),
    "version": ("7", shown(version="7")),
    "terms_of_service": ("https://host.example/", shown(termsOfService="https://host.example/")),
    "contact": ({"name": "Ada"}, shown(contact={"name": "Ada"})),
    "license_info": ({"name": "MIT"}, shown(license={"name": "MIT"})),
    "openapi_tags": ([{"name": "auth"}], lambda w: w.document["tags"][0] == {"name": "auth"}),
    "openapi_external_docs": ({"url": "https://host.example"}, lambda w: w.document["externalDocs"]),
    "servers": ([{"url": "/v1"}], lambda w: w.document["servers"] == [{"url": "/v1"}]),
    "docs_url": (None, answers),
    "redoc_url": (None, answers),
    "swagger_ui_oauth2_redirect_url": (None, answers),
    "swagger_ui_init_oauth": ({"clientId": "host"}, answers),
    "swagger_ui_parameters": ({"deepLinking": False}, answers),
}
"""What only changes the document and its pages: all at once."""

OF_APP: dict[str, Case] = {
    **ALIKE,
    **STARTS,
    "telemetry": ({"operation_spans": True}, answers),
    "debug": (True, lambda w: "ZeroDivisionError" in w.mistake.text),
    "openapi_url": (None, lambda w: not [route for route in w.app.routes if "openapi" in str(route)]),
    "middleware": ([Middleware(Noting)], lambda w: CALLED.count("middleware") >= 6),
    "exception_handlers": (
        {AuthError: answer_refusal, Exception: answer_mistake},
        lambda w: (
            (w.refused.status_code, w.mistake.json()) == (499, {"mine": "mistake"})
            and CALLED.count("handler of mistakes") == 1
        ),
    ),
    "root_path": ("/behind", lambda w: "/behind/account/" in w.page.text),
    "openapi_prefix": ("/behind", lambda w: "/behind/account/" in w.page.text),
    "root_path_in_servers": (False, lambda w: "servers" not in w.document),
    "webhooks": (webhooks, lambda w: "hook" in w.document["webhooks"]),
    "separate_input_output_schemas": (False, answers),
}

OF_INCLUDED: dict[str, Case] = {
    **ALIKE,
    "router": (None, answers),
    "prefix": ("/v1", lambda w: "/v1/auth/login" in w.document["paths"]),
    "tags": (["mine"], lambda w: w.operation()["tags"] == ["mine", "auth"]),
    # The package's own body is JSON of its media type there: `routes/router.py` says why.
    "default_response_class": (HTMLResponse, lambda w: w.signup.json()["email"] == EMAIL),
}

OF_ROUTER: dict[str, Case] = {
    **{name: case for name, case in OF_INCLUDED.items() if name != "router"},
    **STARTS,
    "default": (None, answers),
    "dependency_overrides_provider": (State(), answers),
    "route_class": (OwnRoute, answers),
    "routes": (None, answers),
    "redirect_slashes": (False, answers),
}


def parameters(function: Callable[..., Any]) -> set[str]:
    return {*inspect.signature(function).parameters} - {"self", "extra"}


@pytest.mark.parametrize(
    ("function", "cases"),
    [
        (FastAPI.__init__, OF_APP | OF_DOCUMENT),
        (APIRouter.__init__, OF_ROUTER),
        (APIRouter.include_router, OF_INCLUDED),
        (FastAPI.include_router, OF_INCLUDED),
    ],
    ids=["app", "router", "router.include_router", "app.include_router"],
)
def test_every_parameter_has_its_case_here(function: Callable[..., Any], cases: dict[str, Case]) -> None:
    """A new version of FastAPI may bring more, and an old one have fewer."""
    assert parameters(function) <= cases.keys()


def known(function: Callable[..., Any], cases: dict[str, Case]) -> list[Any]:
    """Those that ask for no more than answers run with `full` alone."""
    return [
        pytest.param(*case, name, id=name, marks=[pytest.mark.full] if case[1] is answers else [])
        for name, case in cases.items()
        if name in parameters(function)
    ]


@pytest.fixture
def unverified(settings: AuthSettings) -> AuthSettings:
    """Settings under which a signup may log in at once, without a process behind."""
    CALLED.clear()
    update = {"require_verified_email": False, "deliver_mail": False, "email_provider": "memory"}
    return settings.model_copy(update=update)


def assert_all_answered(walked: Walk) -> None:
    statuses = (walked.signup.status_code, walked.login.status_code, walked.me.status_code)
    assert statuses == (201, 200, 200), (walked.signup.text, walked.login.text, walked.me.text)
    assert walked.me.json()["email"] == EMAIL
    assert walked.refused.status_code in (401, 499)
    assert walked.mistake.status_code == 500


@pytest.mark.parametrize(("value", "holds", "name"), known(FastAPI.__init__, OF_APP))
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The `root_path` parameter")
async def test_each_parameter_of_an_app_works_with_the_routes_of_the_package(
    unverified: AuthSettings,
    tortoise: TortoiseContext,
    value: Any,
    holds: Callable[[Walk], object],
    name: str,
) -> None:
    app = FastAPI(**{name: value})
    features = [Administration(), PersonalTokens(scopes={"notes:read": "Read"}), Passkeys()]
    include_auth(app, settings=unverified, pages=True, features=features)
    add_host_routes(app)
    walked = await walk(app)
    assert_all_answered(walked)
    assert walked.page.status_code == 200
    assert holds(walked)


async def test_what_an_app_says_in_its_document_is_there_beside_our_routes(
    unverified: AuthSettings, tortoise: TortoiseContext
) -> None:
    app = FastAPI(**{name: value for name, (value, _) in OF_DOCUMENT.items()})
    include_auth(app, settings=unverified)
    add_host_routes(app)
    walked = await walk(app)
    assert_all_answered(walked)
    assert [name for name, (_, holds) in OF_DOCUMENT.items() if not holds(walked)] == []


@pytest.mark.parametrize(("value", "holds", "name"), known(APIRouter.__init__, OF_ROUTER))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_each_parameter_of_a_router_works_with_routers_of_the_package_inside(
    unverified: AuthSettings,
    tortoise: TortoiseContext,
    value: Any,
    holds: Callable[[Walk], object],
    name: str,
) -> None:
    router = APIRouter(**{name: value})
    router.include_router(core.router)
    router.include_router(email.router)
    await assert_by_hand(router, {}, unverified, holds, value if name == "prefix" else "")


@pytest.mark.parametrize(("value", "holds", "name"), known(APIRouter.include_router, OF_INCLUDED))
async def test_each_parameter_of_include_router_works_with_a_router_of_the_package(
    unverified: AuthSettings,
    tortoise: TortoiseContext,
    value: Any,
    holds: Callable[[Walk], object],
    name: str,
) -> None:
    options = {} if name == "router" else {name: value}
    await assert_by_hand(core.router, options, unverified, holds, options.get("prefix", ""))


async def assert_by_hand(
    router: APIRouter,
    options: dict[str, Any],
    settings: AuthSettings,
    holds: Callable[[Walk], object],
    prefix: str,
) -> None:
    """The same where `include_auth` puts its own routes elsewhere."""
    app = FastAPI()
    app.include_router(router, **options)
    settings.route_prefix = "/elsewhere"
    include_auth(app, settings=settings)
    add_host_routes(app)
    walked = await walk(app, prefix)
    assert_all_answered(walked)
    assert holds(walked)


@pytest.mark.parametrize("chosen", [HTMLResponse, PlainTextResponse])
async def test_answers_are_json_where_the_host_answers_in_something_else(
    unverified: AuthSettings, tortoise: TortoiseContext, chosen: type[Any]
) -> None:
    app = FastAPI(default_response_class=chosen)
    include_auth(app, settings=unverified)
    add_host_routes(app)
    walked = await walk(app)
    assert_all_answered(walked)
    assert walked.login.headers["content-type"] == "application/json"
    assert [*walked.operation()["responses"]["200"]["content"]] == ["application/json"]


@pytest.mark.skipif("max_body_size" not in parameters(FastAPI.__init__), reason="FastAPI has no limit yet")
@pytest.mark.parametrize("limit", [0, 40])
async def test_a_limit_of_the_host_that_is_smaller_than_ours_holds(
    unverified: AuthSettings, tortoise: TortoiseContext, limit: int
) -> None:
    app = FastAPI(max_body_size=limit)
    include_auth(app, settings=unverified)
    add_host_routes(app)
    walked = await walk(app)
    assert (walked.signup.status_code, walked.login.status_code) == (413, 413)


async def test_a_handler_of_the_host_stays_whether_it_was_there_before_or_comes_after(
    unverified: AuthSettings, tortoise: TortoiseContext
) -> None:
    before = FastAPI(exception_handlers={AuthError: answer_refusal})
    include_auth(before, settings=unverified)
    after = FastAPI()
    include_auth(after, settings=unverified)
    after.add_exception_handler(AuthError, answer_refusal)
    for app in (before, after):
        add_host_routes(app)
        assert (await walk(app)).refused.status_code == 499
        await app.state.pluggable_auth.tables.user.all().delete()


def included_as_it_was() -> bool:
    """Whether a router that is included is copied, as by older versions of FastAPI."""
    app, router = FastAPI(), APIRouter()
    app.include_router(router)
    router.add_api_route("/later", callback)
    return "/later" not in app.openapi()["paths"]


AS_IT_WAS = pytest.mark.skipif(included_as_it_was(), reason="FastAPI includes what the router has by then")


@pytest.mark.parametrize("filled", [True, pytest.param(False, marks=AS_IT_WAS)])
async def test_an_app_that_is_mounted_and_includes_routers_later_serves_all_of_them(
    filled: bool, unverified: AuthSettings, tortoise: TortoiseContext
) -> None:
    """Those that have their routes already, and those that are filled afterwards."""
    outer, app, later = FastAPI(), FastAPI(), APIRouter(prefix="/later")
    include_auth(app, settings=unverified)
    add_host_routes(app)
    outer.mount("/inner", app)
    if not filled:
        app.include_router(later)

    @later.get("/me")
    async def later_me(user: CurrentUser) -> str:
        return user.email

    @later.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418)

    if filled:
        app.include_router(later)
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver/inner") as client:
        assert (await client.post("/auth/signup", json=CREDENTIALS)).status_code == 201
        token = (await client.post("/auth/login", json=CREDENTIALS)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/later/me", headers=headers)).json() == EMAIL
        assert (await client.get("/later/me")).json()["code"] == "not_authenticated"
        assert (await client.get("/later/teapot")).status_code == 418
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "/later/me" in app.openapi()["paths"]
