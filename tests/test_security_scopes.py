"""Scopes of FastAPI's `Security(..., scopes=...)` are checked (RFC 6750 section 3.1)."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket

from fastapi_pluggable_auth import (
    Auth,
    AuthSettings,
    CurrentUser,
    OptionalUser,
    get_current_user,
    include_auth,
    require,
)
from fastapi_pluggable_auth.authorization import get_optional_user
from fastapi_pluggable_auth.dependencies import (
    current_user_or_redirect,
    get_authentication,
    get_enrolling_authentication,
    get_recent_user,
)
from fastapi_pluggable_auth.features import PersonalTokens
from fastapi_pluggable_auth.flows.authorization import grant
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.websocket import get_websocket_user

from .conftest import Account, Clock

DIALECTS = ("sqlite",)

DEPENDENCIES = {
    "current": get_current_user,
    "authentication": get_authentication,
    "enrolling": get_enrolling_authentication,
    "recent": get_recent_user,
    "page": current_user_or_redirect,
    "optional": get_optional_user,
    "required": require(verified=True),
}


async def own(user: CurrentUser) -> User:
    return user


async def own_of_own(user: Annotated[User, Depends(own)], _: OptionalUser) -> User:
    return user


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        clock=clock,
        roles={"boss": ["admin", "reports"]},
        features=[PersonalTokens(scopes={"admin": "Administer", "reports": "Read reports"})],
    )

    async def route() -> str:
        return "in"

    for name, dependency in DEPENDENCIES.items():
        app.get(f"/{name}", dependencies=[Security(dependency, scopes=["admin"])])(route)
    app.get("/nested", dependencies=[Security(own, scopes=["admin"])])(route)
    app.get("/deeply", dependencies=[Security(own_of_own, scopes=["admin"])])(route)
    app.get("/two", dependencies=[Security(own_of_own, scopes=["admin", "reports"])])(route)
    asked = Security(require(scope="admin"), scopes=["admin"])
    app.get("/personal", dependencies=[asked])(route)
    app.get("/more", dependencies=[Security(require(scope="admin"), scopes=["admin", "reports"])])(route)
    guarded = APIRouter(prefix="/router", dependencies=[Security(get_current_user, scopes=["admin"])])
    guarded.get("")(route)
    app.include_router(guarded)

    @app.get("/argument")
    async def argument(user: Annotated[User, Security(get_current_user, scopes=["admin"])]) -> str:
        return str(user.id)

    @app.get("/open")
    async def no_scope(user: CurrentUser, again: Annotated[User, Security(own)]) -> bool:
        return user is again

    @app.websocket("/socket")
    async def socket(
        socket: WebSocket, user: Annotated[User, Security(get_websocket_user, scopes=["admin"])]
    ) -> None:
        await socket.accept()
        await socket.close()

    return app


CHECKED = [*DEPENDENCIES, "nested", "deeply", "two", "router", "argument", "more"]


async def status(account: Account, path: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else account.headers
    return (await account.client.get(f"/{path}", headers=headers)).status_code


async def test_who_lacks_a_scope_is_refused_by_every_dependency(account: Account, auth: Auth) -> None:
    for path in CHECKED:
        answer = await account.client.get(f"/{path}", headers=account.headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope"), path
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert await status(account, "open") == 200
    assert await status(account, "personal") == 200  # a user in person has every scope of `require`


async def test_a_scope_is_the_permission_of_its_name_for_a_person(account: Account, auth: Auth) -> None:
    user = await User.get()
    await grant(auth, user.id, permissions=["admin"])
    without = {"two", "more"}
    assert {path for path in CHECKED if await status(account, path) == 403} == without
    await grant(auth, user.id, roles=["boss"])
    assert {await status(account, path) for path in CHECKED} == {200}
    await User.all().update(roles="", permissions="", is_superuser=True)
    assert {await status(account, path) for path in CHECKED} == {200}


async def test_a_personal_token_needs_the_scope_and_its_user_the_permission(
    account: Account, auth: Auth
) -> None:
    body = {"name": "ci", "scopes": ["admin"]}
    made = await account.client.post("/account/tokens", json=body, headers=account.headers)
    token = made.json()["token"]
    assert await status(account, "personal", token) == 200
    assert await status(account, "more", token) == 403
    await grant(auth, (await User.get()).id, roles=["boss"])
    assert await status(account, "more", token) == 403
    assert await status(account, "current", token) == 401  # which no personal token opens


async def test_strangers_are_told_to_sign_in(client: httpx.AsyncClient) -> None:
    assert (await client.get("/current")).status_code == 401
    assert (await client.get("/page")).status_code == 303


async def test_a_refused_scope_is_an_event(
    account: Account, auth: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    await status(account, "current")
    assert '"event": "access"' in caplog.text
    assert '"reason": "insufficient_scope"' in caplog.text


async def test_a_websocket_is_refused_as_well(app: FastAPI, account: Account, auth: Auth) -> None:
    async def opened() -> str:
        sent: list[str] = []
        scope = {
            "type": "websocket",
            "path": "/socket",
            "query_string": b"",
            "subprotocols": [],
            "headers": [(b"authorization", account.headers["Authorization"].encode())],
        }

        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app(scope, receive, send)
        return sent[0]

    assert await opened() == "websocket.close"
    await grant(auth, (await User.get()).id, permissions=["admin"])
    assert await opened() == "websocket.accept"
