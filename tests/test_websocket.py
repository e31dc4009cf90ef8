"""WebSockets under a real server: who may open one, and until when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn.config
from fastapi import FastAPI, WebSocket
from tortoise import Tortoise
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from fastapi_pluggable_auth import (
    AuthSettings,
    CurrentWebSocketUser,
    SecurityEvent,
    include_auth,
    still_signed_in,
)
from fastapi_pluggable_auth.features import PersonalTokens
from fastapi_pluggable_auth.security.jwt import Transport

from .conftest import EMAIL, PASSWORD, Clock, Mailbox
from .live import serving

OWN = "http://localhost:8000"

VERSION = tuple(int(part) for part in uvicorn.__version__.split(".")[:2])
# The older of the two is deprecated today; the newer one left sockets open at a shutdown before that.
PROTOCOL = "websockets-sansio" if VERSION >= (0, 50) else "websockets"


class Host:
    """A served app, and a client that is signed in to it."""

    def __init__(self, base: str, app: FastAPI, mailbox: Mailbox) -> None:
        self.base, self.auth = base, app.state.pluggable_auth
        self.url = base.replace("http", "ws") + "/feed"
        self.heard: list[SecurityEvent] = []
        self.auth.on(SecurityEvent)(self.heard.append)
        self.client = httpx.Client(base_url=base, timeout=30)
        account = {"email": EMAIL, "password": PASSWORD}
        self.client.post("/auth/signup", json=account)
        mailbox.server.wait_for(1)
        self.client.get(mailbox.link())
        self.tokens = self.client.post("/auth/login", json=account).json()
        self.client.headers["Authorization"] = f"Bearer {self.access_token}"

    @property
    def access_token(self) -> str:
        token: str = self.tokens["access_token"]
        return token

    def open(self, **options: Any) -> connect:
        """A connection."""
        return connect(self.url, proxy=None, **options)

    def open_with_token(self, token: str | None = None) -> connect:
        return self.open(subprotocols=[Subprotocol("bearer"), Subprotocol(token or self.access_token)])

    async def greeting(self, connection: connect) -> str:
        """What the app says first, or the status of its refusal."""
        try:
            async with connection as socket:
                return str(await socket.recv())
        except InvalidStatus as error:
            return str(error.response.status_code)


@pytest.fixture
def host(
    request: pytest.FixtureRequest, tmp_path: Path, settings: AuthSettings, clock: Clock, mailbox: Mailbox
) -> Iterator[Host]:
    """Under a lifespan whose context no request sees by itself."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models = {"models": ["fastapi_pluggable_auth.models"]}
        await Tortoise.init(db_url=f"sqlite://{tmp_path / 'sockets.sqlite3'}", modules=models)
        await Tortoise.generate_schemas()
        yield
        await Tortoise.close_connections()

    app = FastAPI(lifespan=lifespan)
    settings.cookies = getattr(request, "param", False)
    include_auth(
        app, settings=settings, clock=clock, features=[PersonalTokens(scopes={"notes:read": "Read"})]
    )

    @app.websocket("/feed")
    async def feed(websocket: WebSocket, user: CurrentWebSocketUser) -> None:
        await websocket.accept("bearer" if "bearer" in websocket.scope["subprotocols"] else None)
        await websocket.send_text(user.email)
        while await still_signed_in(websocket):
            with suppress(TimeoutError):
                await websocket.send_text(await asyncio.wait_for(websocket.receive_text(), 0.05))
        await websocket.close(1008)

    with serving(app, ws=PROTOCOL) as base:
        host = Host(base, app, mailbox)
        yield host
        host.client.close()


async def test_opening_a_socket_shows_a_pair_of_tokens(host: Host, clock: Clock) -> None:
    """R-05: the spent token that comes back later is one that two have, and the socket ends."""
    spent = {"token": host.tokens["refresh_token"]}
    host.tokens = host.client.post("/auth/refresh", json=spent).json()
    async with host.open_with_token() as socket:
        assert await socket.recv() == EMAIL
        clock.advance(seconds=11)
        assert host.client.post("/auth/refresh", json=spent).json()["code"] == "invalid_token"
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 10)
    assert [event.kind for event in host.heard if event.kind == "refresh_reuse"] == ["refresh_reuse"]


async def test_a_lost_pair_opens_no_socket_and_ends_the_session(host: Host, clock: Clock) -> None:
    spent = {"token": host.tokens["refresh_token"]}
    lost = host.client.post("/auth/refresh", json=spent).json()
    clock.advance(seconds=11)
    assert host.client.post("/auth/refresh", json=spent).json()["code"] == "refresh_raced"
    assert await host.greeting(host.open_with_token(lost["access_token"])) == "403"
    assert host.client.get("/auth/me").status_code == 401


async def test_a_program_opens_a_socket_by_its_header_and_a_page_by_a_subprotocol(host: Host) -> None:
    headers = {"Authorization": f"Bearer {host.access_token}"}
    assert await host.greeting(host.open(additional_headers=headers)) == EMAIL
    async with host.open_with_token() as socket:
        assert socket.subprotocol == "bearer"  # and not the token
        assert await socket.recv() == EMAIL
        await socket.send("echo")
        assert await socket.recv() == "echo"
    evil = host.open(subprotocols=["bearer", host.access_token], origin=Origin("https://evil.example"))
    assert await host.greeting(evil) == EMAIL  # who has the token needs no cookie


async def test_nobody_else_opens_one_and_each_refusal_is_told(host: Host) -> None:
    host.heard.clear()
    refused = {
        "no credentials": host.open(),
        "an address": connect(f"{host.url}?token={host.access_token}", proxy=None),
        "another scheme": host.open(additional_headers={"Authorization": "Basic YTpi"}),
        "no token": host.open(subprotocols=["bearer"]),
        "the other order": host.open(subprotocols=[host.access_token, "bearer"]),
        "another protocol": host.open(subprotocols=["token", host.access_token]),
        "a refresh token": host.open_with_token(host.tokens["refresh_token"]),
        "a forged token": host.open_with_token(host.access_token[:-4] + "AAAA"),
        "two headers": host.open(
            additional_headers=[
                ("Authorization", f"Bearer {host.access_token}"),
                ("Authorization", "Bearer x"),
            ]
        ),
        "a header beside": host.open(
            subprotocols=["bearer", host.access_token], additional_headers={"Authorization": "Bearer x"}
        ),
        "a personal token": host.open_with_token(
            host.client.post("/account/tokens", json={"name": "x", "scopes": ["notes:read"]}).json()["token"]
        ),
    }
    host.heard.clear()
    for name, connection in refused.items():
        assert await host.greeting(connection) == "403", name
    assert {(event.kind, event.outcome) for event in host.heard} == {("access", "failure")}
    assert len(host.heard) == len(refused)
    assert {event.reason for event in host.heard} == {"not_authenticated", "invalid_token"}
    assert {event.origin.address for event in host.heard} == {"127.0.0.1"}


@pytest.mark.parametrize("host", [True, False], ids=["cookies", "no cookies"], indirect=True)
async def test_a_cookie_opens_one_from_a_page_of_the_app_only(host: Host) -> None:
    """Cross-site WebSocket hijacking: no browser asks before it connects."""
    body = {"email": EMAIL, "password": PASSWORD}
    with httpx.Client(base_url=host.base, timeout=30) as browser:
        browser.post("/auth/login", json=body, headers={"Origin": OWN})
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    cookie = cookie or f"access_token={host.access_token}"

    async def opened(origin: str | None, **headers: str) -> str:
        chosen = {"Cookie": cookie} | headers
        connection = host.open(additional_headers=chosen, origin=origin and Origin(origin))
        return await host.greeting(connection)

    allowed = EMAIL if host.auth.uses_cookies else "403"
    assert await opened(OWN) == allowed
    assert await opened(OWN, Authorization="Basic YTpi") == allowed  # the password of a proxy
    assert await opened(OWN, Authorization="Bearer x") == "403"
    for other in (f"{cookie}; {cookie}", f"\xa0{cookie}", f"{cookie}; access_token="):
        assert await opened(OWN, Cookie=other) == "403"
    host.heard.clear()
    for origin in ("https://evil.example", "null", OWN + ".evil.example", "http://localhost:8001", None):
        assert await opened(origin) == "403"
    if host.auth.uses_cookies:
        assert {event.reason for event in host.heard} == {"csrf_refused"}
        assert await opened("https://evil.example", **{"Sec-Fetch-Site": "cross-site"}) == "403"
        host.auth.settings.trusted_origins = ["https://app.example.com"]
        assert await opened("https://app.example.com") == EMAIL


@pytest.mark.parametrize("host", [True], ids=["cookies"], indirect=True)
async def test_an_expired_cookie_is_not_renewed_where_no_answer_could_carry_the_new_one(
    host: Host, clock: Clock
) -> None:
    body, own = {"email": EMAIL, "password": PASSWORD}, {"Origin": OWN}
    with httpx.Client(base_url=host.base, timeout=30) as browser:
        browser.post("/auth/login", json=body, headers=own)

        async def opened() -> str:
            cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
            return await host.greeting(host.open(additional_headers={"Cookie": cookie}, origin=Origin(OWN)))

        assert await opened() == EMAIL
        clock.advance(hours=1)
        assert await opened() == "403"
        assert browser.get("/auth/me").status_code == 200  # which renews both
        assert await opened() == EMAIL


async def closed(socket: ClientConnection) -> int | None:
    """The code that the app closes with."""
    async with asyncio.timeout(10):
        with suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code


def log_out(host: Host, clock: Clock) -> None:
    assert host.client.post("/auth/logout").status_code == 200


def log_out_here(host: Host, clock: Clock) -> None:
    assert host.client.post("/auth/logout", json={"everywhere": False}).status_code == 200


def delete_account(host: Host, clock: Clock) -> None:
    assert host.client.delete("/account").status_code == 204


def change_password(host: Host, clock: Clock) -> None:
    body = {"old_password": PASSWORD, "new_password": "another good password"}
    assert host.client.post("/account/change-password", json=body).status_code == 204


def grow_old(host: Host, clock: Clock) -> None:
    clock.advance(days=31)


def require_two_factor(host: Host, clock: Clock) -> None:
    host.auth.settings.require_two_factor = True


Ending = Callable[[Host, Clock], None]


@pytest.mark.parametrize(
    "end", [log_out, log_out_here, delete_account, change_password, grow_old, require_two_factor]
)
async def test_an_open_socket_ends_with_its_session(end: Ending, host: Host, clock: Clock) -> None:
    async with host.open_with_token() as socket:
        assert await socket.recv() == EMAIL
        clock.advance(hours=1)  # the access token has expired, the session has not
        await socket.send("still there")
        assert await socket.recv() == "still there"
        clock.advance(hours=-1)
        await asyncio.to_thread(end, host, clock)
        assert await closed(socket) == 1008
    assert await host.greeting(host.open_with_token()) == "403"


async def test_a_token_without_session_holds_a_socket_until_it_expires(host: Host, clock: Clock) -> None:
    user_id = json.loads(host.client.get("/auth/me").content)["id"]
    async with host.open_with_token(host.auth.signer.access_token(user_id)) as socket:
        assert await socket.recv() == EMAIL
        await socket.send("still there")
        assert await socket.recv() == "still there"
        clock.advance(hours=1)
        assert await closed(socket) == 1008


@pytest.mark.parametrize("host", [True], ids=["cookies"], indirect=True)
async def test_a_cookie_without_session_holds_a_socket_until_it_expires(host: Host, clock: Clock) -> None:
    user_id = json.loads(host.client.get("/auth/me").content)["id"]
    cookie = host.auth.signer.access_token(user_id, transport=Transport.COOKIE)
    async with host.open(
        additional_headers={"Cookie": f"access_token={cookie}"}, origin=Origin(OWN)
    ) as socket:
        assert await socket.recv() == EMAIL
        await socket.send("still there")
        assert await socket.recv() == "still there"
        clock.advance(hours=1)
        assert await closed(socket) == 1008
