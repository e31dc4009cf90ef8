"""The client of the test kit opens WebSockets of the app, and fills in its forms."""

from __future__ import annotations

from pathlib import Path

from .hosts import assert_passing

APP = """
import asyncio

from fastapi import FastAPI, WebSocket
from fastapi_pluggable_auth import AuthSettings, CurrentWebSocketUser, include_auth

app = FastAPI()
settings = AuthSettings(
    _env_file=None, jwt_secret="h2Qm7RkZ9tLb3XvN8wYp5Dc6GsJf4TeU", public_base_url="https://shop.example.com/api"
)
include_auth(app, settings=settings, pages=True)


@app.websocket("/echo")
async def echo(websocket: WebSocket, user: CurrentWebSocketUser, loud: bool = False) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "close":
            return await websocket.close(4000, "enough")
        if text == "break":
            raise ZeroDivisionError
        await websocket.send_text(f"{user.email}: {text.upper() if loud else text}")


@app.websocket("/deaf")
async def deaf(websocket: WebSocket) -> None:
    await websocket.accept()
    await asyncio.sleep(60)
"""

CONFTEST = """
import pytest
from shop import app

pytest_plugins = ["fastapi_pluggable_auth.testing"]


@pytest.fixture
def auth_app():
    return app
"""

SOCKETS = """
import pytest
import pytest_asyncio
from fastapi import WebSocketDisconnect
from fastapi_pluggable_auth import testing

pytestmark = pytest.mark.asyncio


@pytest_asyncio.fixture
async def ada(auth_client, user_factory):
    await auth_client.sign_in(await user_factory("ada@example.com"))


async def test_it_is_that_of_who_has_signed_in(auth_client, ada):
    async with auth_client.websocket("/echo?loud=true") as socket:
        for text in ("hello", "again"):
            await socket.send_text(text)
        heard = [await socket.receive_text() for _ in "12"]
    assert heard == ["ada@example.com: HELLO", "ada@example.com: AGAIN"]


async def test_strangers_are_refused(auth_client):
    with pytest.raises(WebSocketDisconnect) as refused:
        async with auth_client.websocket("/echo"):
            pytest.fail("it is open")
    assert (refused.value.code, refused.value.reason) == (1008, "not_authenticated")


async def test_the_app_may_close_it(auth_client, ada):
    async with auth_client.websocket("/echo") as socket:
        await socket.send_text("close")
        with pytest.raises(WebSocketDisconnect) as closed:
            await socket.receive_text()
    assert (closed.value.code, closed.value.reason) == (4000, "enough")


async def test_what_the_app_raises_fails_the_test(auth_client, ada):
    with pytest.raises(ZeroDivisionError):
        async with auth_client.websocket("/echo") as socket:
            await socket.send_text("break")
            await socket.receive_text()
    with pytest.raises(ZeroDivisionError):
        async with auth_client.websocket("/echo") as socket:
            await socket.send_text("break")


async def test_an_app_that_does_not_see_its_client_leave_fails_the_test(auth_client, monkeypatch):
    monkeypatch.setattr(testing, "LEAVING", 0.05)
    with pytest.raises(TimeoutError, match="has to receive, too"):
        async with auth_client.websocket("/deaf"):
            pass
"""

FORMS = """
import pytest

pytestmark = pytest.mark.asyncio
KNOWN = {"email": "ada@example.com", "password": "correct horse battery"}


async def test_a_form_is_sent_as_a_browser_does_and_its_cookies_open_a_socket(auth_client, user_factory):
    await user_factory(KNOWN["email"], password=KNOWN["password"])
    entered = await auth_client.submit("/account/sign-in", KNOWN, page="/account/sign-in?next=%2Fapi%2Fdocs")
    assert (entered.status_code, entered.headers["location"]) == (303, "/api/docs")
    async with auth_client.websocket("/echo") as socket:
        await socket.send_text("hello")
        assert await socket.receive_text() == "ada@example.com: hello"


async def test_a_form_or_field_that_is_not_there_is_named(auth_client):
    with pytest.raises(LookupError, match="has no form for /docs; its status is 200"):
        await auth_client.submit("/docs", {})
    with pytest.raises(LookupError, match="The form has no flat, town; it has .*password"):
        await auth_client.submit("/account/sign-in", {"town": "x", "flat": "y"})
"""


def test_it_opens_sockets_and_fills_in_forms(tmp_path: Path) -> None:
    files = {"shop.py": APP, "conftest.py": CONFTEST, "test_sockets.py": SOCKETS, "test_forms.py": FORMS}
    assert_passing(tmp_path, 7, files)
