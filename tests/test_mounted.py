"""Apps that are mounted in an app with accounts, and apps in which nobody called `include_auth`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import (
    Auth,
    AuthError,
    AuthSettings,
    CurrentUser,
    CurrentWebSocketUser,
    ErrorCode,
    InsecureSettingsError,
    OptionalUser,
    PageUser,
    RecentUser,
    Refused,
    SecurityEvent,
    current_user_or_redirect,
    get_current_user,
    get_optional_user,
    get_websocket_user,
    include_auth,
    require,
)
from fastapi_pluggable_auth import config as config_module
from fastapi_pluggable_auth.config import DEFAULT_SECRET
from fastapi_pluggable_auth.dependencies import CurrentAuth
from fastapi_pluggable_auth.flows.authorization import grant
from fastapi_pluggable_auth.hooks import BeforeSignup
from fastapi_pluggable_auth.lookup import auth_of
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.routes import account as account_routes
from fastapi_pluggable_auth.routes import core
from fastapi_pluggable_auth.security.jwt import TokenSigner

from .conftest import EMAIL, PASSWORD, SECRET, Account, Clock, Mailbox
from .own_tables import User as OwnUser
from .test_plugin import asgi_client

DIALECTS = ("sqlite",)

ROLES = {"editor": ["notes:write"]}


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, roles=ROLES, pages=True)
    return app


def fastapi_app() -> FastAPI:
    """An app with routes for users, that knows nothing of accounts."""
    app = FastAPI()

    @app.get("/me")
    async def me(user: CurrentUser) -> str:
        return user.email

    @app.get("/optional")
    async def optional(user: OptionalUser) -> str | None:
        return user and user.email

    @app.get("/page")
    async def page(user: PageUser) -> str:
        return user.email

    @app.get("/write")
    async def write(user: Annotated[User, Depends(require(role="editor"))]) -> str:
        return user.email

    @app.get("/typo")
    async def typo(user: Annotated[User, Depends(require(role="edtior"))]) -> str:
        return user.email

    @app.get("/refused")
    async def refused() -> None:
        raise Refused("Not today.", code="not_today")

    @app.get("/raised")
    async def raised() -> None:
        raise AuthError(ErrorCode.PERMISSION_DENIED)

    @app.websocket("/feed")
    async def feed(websocket: WebSocket, user: CurrentWebSocketUser) -> None:
        await websocket.accept()
        await websocket.send_text(user.email)

    return app


def starlette_app() -> Starlette:
    """The same in Starlette, whose routes ask by themselves."""

    def answering(ask: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            user = await ask(request)
            return JSONResponse(user and user.email)

        return endpoint

    async def refused(request: Request) -> Response:
        raise Refused("Not today.", code="not_today")

    async def raised(request: Request) -> Response:
        raise AuthError(ErrorCode.PERMISSION_DENIED)

    async def feed(websocket: WebSocket) -> None:
        user = await get_websocket_user(websocket)
        await websocket.accept()
        await websocket.send_text(user.email)

    asking = {
        "/me": get_current_user,
        "/optional": get_optional_user,
        "/page": current_user_or_redirect,
        "/write": require(role="editor"),
        "/typo": require(role="edtior"),
    }
    routes = [Route(path, answering(ask)) for path, ask in asking.items()]
    others = [Route("/refused", refused), Route("/raised", raised), WebSocketRoute("/feed", feed)]
    return Starlette(routes=[*routes, *others])


class Opaque:
    """Middleware that shows nobody what it wraps."""

    def __init__(self, wrapped: ASGIApp) -> None:
        self._wrapped = wrapped

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._wrapped(scope, receive, send)


class Plain(Opaque):
    """As most middleware is written."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        self.app = app


def in_a_fastapi(app: FastAPI) -> str:
    app.mount("/sub", fastapi_app())
    return "/sub"


def in_a_starlette(app: FastAPI) -> str:
    app.mount("/sub", starlette_app())
    return "/sub"


def two_floors_down(app: FastAPI) -> str:
    middle = FastAPI()
    middle.mount("/deeper", fastapi_app())
    app.mount("/sub", middle)
    return "/sub/deeper"


def below_a_starlette_and_a_list_of_routes(app: FastAPI) -> str:
    app.mount("/sub", Starlette(routes=[Mount("/list", routes=[Mount("/deeper", starlette_app())])]))
    return "/sub/list/deeper"


def behind_middleware(app: FastAPI) -> str:
    app.mount("/sub", Plain(fastapi_app()))
    return "/sub"


def on_a_host_of_its_own(app: FastAPI) -> str:
    app.routes.append(Host("testserver", fastapi_app()))
    return ""


def with_a_root_path(app: FastAPI) -> str:
    sub = fastapi_app()
    sub.root_path = "/sub"
    app.mount("/sub", sub)
    return "/sub"


def in_routers_that_were_included(app: FastAPI) -> str:
    inner, outer = APIRouter(), APIRouter()
    inner.mount("/sub", starlette_app())
    outer.include_router(inner, prefix="/inner")
    app.include_router(outer, prefix="/outer")
    return "/outer/inner/sub"


def mounts_are_included() -> bool:
    """Older versions of FastAPI leave them out."""
    app, router = FastAPI(), APIRouter()
    before = len(app.routes)
    router.mount("/sub", FastAPI())
    app.include_router(router)
    return len(app.routes) > before


WAYS = [
    in_a_fastapi,
    in_a_starlette,
    two_floors_down,
    below_a_starlette_and_a_list_of_routes,
    behind_middleware,
    on_a_host_of_its_own,
    with_a_root_path,
    *([in_routers_that_were_included] if mounts_are_included() else []),
]


@pytest.mark.parametrize("mount", WAYS)
async def test_a_mounted_app_has_the_users_of_the_app_above(
    mount: Callable[[FastAPI], str], app: FastAPI, account: Account
) -> None:
    path, client = mount(app), account.client
    app.middleware_stack = None  # as it has served the account's signup already
    for route in ("/me", "/optional", "/page"):
        assert (await client.get(path + route, headers=account.headers)).json() == EMAIL
    for headers, code in (({}, "not_authenticated"), ({"Authorization": "Bearer x"}, "invalid_token")):
        answer = await client.get(f"{path}/me", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, code)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (await client.get(f"{path}/optional")).json() is None
    page = await client.get(f"{path}/page?tab=2")
    assert page.status_code == 303
    back = f"{path}/page".replace("/", "%2F") + "%3Ftab%3D2"
    assert page.headers["location"] == f"/account/sign-in?next={back}"


@pytest.mark.parametrize("mount", WAYS)
@pytest.mark.parametrize(("route", "code"), [("/refused", "not_today"), ("/raised", "permission_denied")])
async def test_a_refusal_that_a_mounted_app_raises_itself_is_answered(
    mount: Callable[[FastAPI], str], app: FastAPI, route: str, code: str
) -> None:
    """Where no dependency has passed before, and at the first request already."""
    async with asgi_client(app) as client:
        answer = await client.get(mount(app) + route)
    assert (answer.status_code, answer.json()["code"]) == (403, code)


@pytest.mark.parametrize("late", [True, False], ids=["mounted later", "wrapped"])
async def test_refusals_of_a_mounted_app_that_cannot_be_seen_are_answered(
    late: bool, app: FastAPI, account: Account
) -> None:
    """By the dependencies, since only they pass there."""
    app.mount("/sub", fastapi_app() if late else Opaque(fastapi_app()))
    answer = await account.client.get("/sub/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert (await account.client.get("/sub/page")).status_code == 303
    assert (await account.client.get("/sub/me", headers=account.headers)).json() == EMAIL


async def opened(app: ASGIApp, path: str, headers: dict[str, str], *subprotocols: str) -> list[Message]:
    """What an app sends to a client that opens a WebSocket, without a server between."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "websocket", "path": path, "headers": raw, "query_string": b""}
    await app({**scope, "subprotocols": [*subprotocols]}, receive, send)
    return sent


@pytest.mark.parametrize("mount", [in_a_fastapi, in_a_starlette, two_floors_down])
async def test_a_mounted_websocket_has_them_too(
    mount: Callable[[FastAPI], str], app: FastAPI, account: Account
) -> None:
    path = f"{mount(app)}/feed"
    accepted, greeting = await opened(app, path, account.headers)
    assert (accepted["type"], greeting["text"]) == ("websocket.accept", EMAIL)
    for headers in ({}, {"Authorization": "Bearer x"}):
        (refused,) = await opened(app, path, headers)
        assert (refused["type"], refused["code"]) == ("websocket.close", 1008)


@pytest.mark.parametrize("mount", [in_a_fastapi, in_a_starlette])
async def test_a_token_signed_with_the_key_of_everybody_is_good_nowhere(
    mount: Callable[[FastAPI], str], app: FastAPI, account: Account, settings: AuthSettings, clock: Clock
) -> None:
    """A-58: neither in a mounted app, whose settings are those of the app above."""
    path = mount(app)
    user = await User.get()
    user.is_superuser = True
    await user.save()
    for public in (settings.public_base_url, "https://app.example.com"):
        known = settings.model_copy(update={"jwt_secret": DEFAULT_SECRET, "public_base_url": public})
        signer = TokenSigner(settings, clock)
        good = signer.access_token(user.id)
        assert (
            await account.client.get(f"{path}/me", headers={"Authorization": f"Bearer {good}"})
        ).status_code == 200
        header, payload, _ = good.split(".")
        forged = _signed(f"{header}.{payload}", known.jwt_secret)
        answer = await account.client.get(f"{path}/me", headers={"Authorization": f"Bearer {forged}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")


def _signed(signed_part: str, secret: str) -> str:
    import base64
    import hashlib
    import hmac

    digest = hmac.new(secret.encode(), signed_part.encode(), hashlib.sha256).digest()
    return f"{signed_part}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


@pytest.mark.parametrize("mount", [in_a_fastapi, in_a_starlette])
async def test_roles_and_events_of_the_app_above_hold_in_a_mounted_one(
    mount: Callable[[FastAPI], str], app: FastAPI, account: Account, auth: Auth
) -> None:
    path, heard = mount(app), list[SecurityEvent]()
    auth.on(SecurityEvent)(heard.append)
    answer = await account.client.get(f"{path}/write", headers=account.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert [(event.kind, event.reason) for event in heard] == [("access", "permission_denied")]
    await grant(auth, (await User.get()).id, roles="editor")
    assert (await account.client.get(f"{path}/write", headers=account.headers)).json() == EMAIL
    with pytest.raises(ValueError, match="edtior"):
        await account.client.get(f"{path}/typo", headers=account.headers)


async def test_hooks_of_the_app_above_run_for_routers_in_a_mounted_one(
    app: FastAPI, account: Account, auth: Auth
) -> None:
    sub, ran = FastAPI(), list[str]()
    sub.include_router(core.router)
    app.mount("/sub", sub)

    @auth.on(BeforeSignup)
    async def invited_only(event: BeforeSignup) -> None:
        ran.append(event.email)
        raise Refused("By invitation only.", code="not_invited")

    body = {"email": "eve@example.com", "password": PASSWORD}
    answer = await account.client.post("/sub/auth/signup", json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_invited")
    assert ran == ["eve@example.com"]
    assert await User.all().count() == 1


@pytest.mark.parametrize("mount", [in_a_fastapi, in_a_starlette])
async def test_a_cookie_opens_a_mounted_websocket_from_a_page_of_the_app_only(
    mount: Callable[[FastAPI], str], settings: AuthSettings, clock: Clock, account: Account
) -> None:
    app = FastAPI()
    settings.cookies = True
    include_auth(app, settings=settings, clock=clock)
    path = f"{mount(app)}/feed"
    async with asgi_client(app) as client:
        own = {"Origin": settings.public_base_url}
        await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD}, headers=own)
        cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}
    accepted, greeting = await opened(app, path, cookie | own)
    assert (accepted["type"], greeting["text"]) == ("websocket.accept", EMAIL)
    for foreign in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        (refused,) = await opened(app, path, cookie | foreign)
        assert (refused["type"], refused["reason"]) == ("websocket.close", "csrf_refused")


@pytest.mark.parametrize("mount", [in_a_fastapi, in_a_starlette])
async def test_who_must_have_two_factor_must_in_a_mounted_app_too(
    mount: Callable[[FastAPI], str], settings: AuthSettings, clock: Clock, account: Account
) -> None:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, require_two_factor=lambda user: True, pages=True)
    path = mount(app)
    async with asgi_client(app) as client:
        answer = await client.get(f"{path}/me", headers=account.headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "two_factor_enrolment_required")
        page = await client.get(f"{path}/page", headers=account.headers)
        location = f"/account/security?next={quote(f'{path}/page', safe='')}"
        assert (page.status_code, page.headers["location"]) == (303, location)


async def test_a_mounted_app_may_have_accounts_of_its_own(
    app: FastAPI, account: Account, settings: AuthSettings, clock: Clock
) -> None:
    """And the app above keeps its own, also for middleware that looks when the mounted one has answered."""
    sub = fastapi_app()
    others = settings.model_copy(update={"jwt_secret": SECRET[::-1]})
    auth_of_sub = include_auth(sub, settings=others, clock=clock)
    seen: list[tuple[Auth, Auth]] = []

    class Look(Opaque):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            before = auth_of(Request(scope))
            await super().__call__(scope, receive, send)
            seen.append((before, auth_of(Request(scope))))

    app.middleware_stack = None  # as it has served the account's signup already
    app.add_middleware(Look)
    app.mount("/sub", sub)
    user = await User.get()
    own = {"Authorization": f"Bearer {auth_of_sub.signer.access_token(user.id)}"}
    assert (await account.client.get("/sub/me", headers=own)).json() == EMAIL
    assert (await account.client.get("/sub/me", headers=account.headers)).status_code == 401
    assert (await account.client.get("/sub/auth/me", headers=own)).status_code == 200
    assert (await account.client.get("/auth/me", headers=own)).status_code == 401
    assert (await account.client.get("/auth/me", headers=account.headers)).status_code == 200
    above = app.state.pluggable_auth
    assert seen == [(above, above)] * 5


async def test_a_mounted_app_without_cookies_takes_none_of_the_app_above(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    """And deletes none: they are not its own."""
    app, sub = FastAPI(), fastapi_app()
    above = settings.model_copy(update={"cookies": True})
    include_auth(app, settings=above, clock=clock)
    include_auth(sub, settings=settings.model_copy(update={"jwt_secret": SECRET[::-1]}), clock=clock)
    app.mount("/sub", sub)
    async with asgi_client(app) as client:
        client.headers["Sec-Fetch-Site"] = "same-origin"
        body = {"email": EMAIL, "password": PASSWORD}
        assert (await client.post("/auth/login", json=body)).json()["token_type"] == "cookie"
        refused = await client.get("/sub/me")
        assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")
        assert "set-cookie" not in refused.headers
        assert (await client.post("/sub/auth/login", json=body)).json()["token_type"] == "bearer"
        assert (await client.get("/auth/me")).status_code == 200


async def test_cookies_work_in_a_mounted_app_and_are_renewed_there(
    account: Account, settings: AuthSettings, clock: Clock
) -> None:
    app = FastAPI()
    settings.cookies = True
    include_auth(app, settings=settings, clock=clock)
    app.mount("/sub", fastapi_app())
    async with asgi_client(app) as client:
        client.headers["Sec-Fetch-Site"] = "same-origin"
        await client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
        assert (await client.get("/sub/me")).json() == EMAIL
        clock.advance(minutes=16)
        renewed = await client.get("/sub/me")
        assert (renewed.json(), len(renewed.headers.get_list("set-cookie"))) == (EMAIL, 2)


async def test_columns_of_an_own_user_are_there_in_a_mounted_app(
    settings: AuthSettings, clock: Clock, database: object
) -> None:
    app, sub = FastAPI(), FastAPI()
    auth = include_auth(app, settings=settings, clock=clock, user_model=OwnUser)

    @sub.get("/model")
    async def model(auth: CurrentAuth) -> str:
        return auth.tables.user.__module__

    app.mount("/sub", sub)
    async with asgi_client(app) as client:
        assert (await client.get("/sub/model")).json() == OwnUser.__module__
    assert auth.tables.user is OwnUser


@pytest.mark.parametrize("place", ["/{tenant:path}", "/{tenant}"])
async def test_no_place_of_a_mount_leads_to_another_host(
    place: str, app: FastAPI, client: httpx.AsyncClient
) -> None:
    @app.get("/page")
    async def page(user: PageUser) -> str:
        return user.email

    parent = FastAPI()
    parent.mount(place, app)
    async with asgi_client(parent) as asking:
        for start in ("//evil.example", "///evil.example", "/%5Cevil.example", "/%5C%5Cevil.example", "/a"):
            answer = await asking.get(f"http://testserver{start}/page")
            location = answer.headers.get("location", "/")
            assert re.match(r"/($|[^/\\])", location), location
            sign_in = await asking.get(f"http://testserver{start}/account/sign-in")
            assert not re.search(r'(href|action)="/[/\\]', sign_in.text)
        assert location == "/a/account/sign-in?next=%2Fa%2Fpage"
        if place == "/{tenant}":  # the other takes all of the path but its end
            assert 'action="/a/account/sign-in' in sign_in.text


async def test_an_own_handler_of_a_mounted_app_stays(app: FastAPI, account: Account) -> None:
    sub = fastapi_app()

    @sub.exception_handler(AuthError)
    async def own(request: Request, error: AuthError) -> Response:
        return PlainTextResponse("own", 418)

    app.mount("/sub", sub)
    app.middleware_stack = None
    assert (await account.client.get("/sub/me")).status_code == 418


@pytest.mark.parametrize("wrap", [lambda app: app, Plain, Opaque])
async def test_a_mounted_app_answers_refusals_by_the_handler_of_the_app_above(
    wrap: Callable[[ASGIApp], ASGIApp], app: FastAPI, account: Account
) -> None:
    @app.exception_handler(AuthError)
    async def own(request: Request, error: AuthError) -> Response:
        return PlainTextResponse(error.code.code, 418)

    @app.get("/host")
    async def host(user: CurrentUser) -> None: ...

    app.mount("/sub", wrap(fastapi_app()))
    app.middleware_stack = None
    for path in ("/host", "/sub/me"):
        answer = await account.client.get(path)
        assert (answer.status_code, answer.text) == (418, "not_authenticated")


# --- no Auth at all --------------------------------------------------------------------------------------


@pytest.fixture
async def token_of_default(tortoise: TortoiseContext, mailbox: Mailbox) -> dict[str, str]:
    """The header of a superuser's token, signed with the default settings."""
    user = await User.create(email=EMAIL, hashed_password="", is_superuser=True)
    token = TokenSigner(config_module.settings, Clock()).access_token(user.id)
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("host", [fastapi_app, starlette_app])
@pytest.mark.parametrize("path", ["/me", "/optional", "/page", "/write"])
async def test_a_route_for_users_without_include_auth_is_an_error_that_says_so(
    host: Callable[[], FastAPI], path: str, token_of_default: dict[str, str]
) -> None:
    """A-58: never the settings of the process, which nobody has checked; strangers get no other answer."""
    for headers in ({}, token_of_default):
        async with asgi_client(host()) as client:
            with pytest.raises(RuntimeError, match=r"include_auth\(app\)"):
                await client.get(path, headers=headers)


@pytest.mark.parametrize("host", [fastapi_app, starlette_app])
async def test_a_websocket_without_include_auth_is_one_too(
    host: Callable[[], FastAPI], token_of_default: dict[str, str]
) -> None:
    for headers in ({}, token_of_default):
        with pytest.raises(RuntimeError, match=r"include_auth\(app\)"):
            await opened(host(), "/feed", headers)


async def test_an_app_above_one_with_accounts_has_none(account: Account, app: FastAPI) -> None:
    """An `Auth` is found in apps below, not in those above or beside."""
    above, beside = fastapi_app(), fastapi_app()
    above.mount("/accounts", app)
    above.mount("/beside", beside)
    async with asgi_client(above) as client:
        assert (await client.get("/accounts/auth/me", headers=account.headers)).status_code == 200
        for path in ("/me", "/beside/me"):
            with pytest.raises(RuntimeError, match="include_auth"):
                await client.get(path, headers=account.headers)


@asynccontextmanager
async def by_hand(monkeypatch: pytest.MonkeyPatch, **values: object) -> AsyncIterator[httpx.AsyncClient]:
    """An app with routers of the contract and without `include_auth`, on the default settings."""
    from fastapi_pluggable_auth import lookup

    for name, value in values.items():
        monkeypatch.setattr(config_module.settings, name, value)
    lookup._default_auth.cache_clear()
    app, router = FastAPI(), APIRouter(prefix="/v1")
    app.include_router(core.router)
    router.include_router(account_routes.router)
    app.include_router(router)
    app.mount("/sub", fastapi_app())

    @app.get("/host")
    async def host(user: RecentUser) -> str:
        return user.email

    try:
        async with asgi_client(app) as client:
            yield client
    finally:
        lookup._default_auth.cache_clear()


@pytest.mark.parametrize(
    "values",
    [
        {"public_base_url": "https://app.example.com", "jwt_secret": DEFAULT_SECRET},
        {"public_base_url": "https://app.example.com", "jwt_secret": "short"},
        {"public_base_url": "http://app.example.com", "jwt_secret": SECRET},
        {"public_base_url": "https://app.example.com", "jwt_secret": SECRET, "jwt_previous_keys": ["secret"]},
        {"public_base_url": "https://app.example.com", "jwt_algorithm": "ES256"},
    ],
)
async def test_routers_mounted_by_hand_are_checked_like_include_auth(
    values: dict[str, object], token_of_default: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A-58: at the first request and at each one after it."""
    async with by_hand(monkeypatch, **values) as client:
        for path in ("/auth/me", "/v1/account", "/auth/me", "/v1/account/"):
            with pytest.raises(InsecureSettingsError):
                await client.get(path, headers=token_of_default)


async def test_routers_mounted_by_hand_use_the_default_settings_and_no_other_route_does(
    tortoise: TortoiseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with by_hand(monkeypatch, public_base_url="https://app.example.com", jwt_secret=SECRET) as client:
        user = await User.create(email=EMAIL, hashed_password="")
        token = TokenSigner(config_module.settings, Clock()).access_token(user.id)
        headers = {"Authorization": f"Bearer {token}"}
        for path in ("/auth/me", "/v1/account", "/v1/account/"):
            assert (await client.get(path, headers=headers)).json()["email"] == EMAIL
            assert (await client.get(path)).json()["code"] == "not_authenticated"
        for path in ("/host", "/sub/me"):
            with pytest.raises(RuntimeError, match="include_auth"):
                await client.get(path, headers=headers)


# --- twice -----------------------------------------------------------------------------------------------


def test_include_auth_twice_on_one_app_is_an_error(settings: AuthSettings) -> None:
    """The hooks of the first call would never run."""
    app = FastAPI()
    auth = include_auth(app, settings=settings)
    for other in (settings, settings.model_copy()):
        with pytest.raises(RuntimeError, match="call it once"):
            include_auth(app, settings=other)
    assert app.state.pluggable_auth is auth


def test_a_call_that_was_refused_may_be_repeated(settings: AuthSettings) -> None:
    app = FastAPI()
    settings.dev_mailbox = True
    with pytest.raises(ValueError, match="DEV_MAILBOX"):
        include_auth(app, settings=settings)
    settings.dev_mailbox = False
    before = len(app.routes)
    include_auth(app, settings=settings)
    paths = [getattr(route, "path", "") for route in app.routes[before:]]
    assert paths.count("/auth/login") == 1


async def test_include_auth_in_the_lifespan_is_too_late_and_says_so(settings: AuthSettings) -> None:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        include_auth(app, settings=settings)
        yield

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(RuntimeError, match="before the app starts"):
        await FastAPI(lifespan=lifespan)({"type": "lifespan", "state": {}}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]


async def test_a_page_behind_a_proxy_that_cuts_its_path_leads_back_through_it(
    app: FastAPI, tortoise: TortoiseContext
) -> None:
    transport = httpx.ASGITransport(app, root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        answer = await client.get("/account/security", headers={"Accept": "text/html"})
    assert answer.headers["location"] == "/api/account/sign-in?next=%2Fapi%2Faccount%2Fsecurity"
