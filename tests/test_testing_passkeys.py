"""The client of the test kit adds passkeys and signs in with them, over the routes of a host's app."""

from __future__ import annotations

from pathlib import Path

from .hosts import assert_passing

APP = """
from fastapi import Depends, FastAPI, WebSocket
from fastapi_pluggable_auth import (
    AuthSettings,
    CurrentUser,
    CurrentWebSocketUser,
    include_auth,
    require,
)
from fastapi_pluggable_auth.features import Passkeys
from fastapi_pluggable_auth.features.passkeys import PasskeySettings

app, plain = FastAPI(), FastAPI()
settings = AuthSettings(
    _env_file=None,
    jwt_secret="h2Qm7RkZ9tLb3XvN8wYp5Dc6GsJf4TeU",
    public_base_url="https://shop.example.com/api",
    route_prefix="/v1",
    cookies=True,
)
own = PasskeySettings(
    _env_file=None, passkey_rp_id="example.com", passkey_origins=["https://www.example.com"]
)
auth = include_auth(app, settings=settings, features=[Passkeys(own)])
include_auth(plain, settings=settings.model_copy())


@app.get("/hello")
async def hello(user: CurrentUser) -> str:
    return user.email


@app.get("/vault", dependencies=[Depends(require(phishing_resistant=True))])
async def vault() -> str:
    return "gold"


@app.websocket("/echo")
async def echo(websocket: WebSocket, user: CurrentWebSocketUser) -> None:
    await websocket.accept()
    await websocket.send_text(user.email)
    await websocket.close()
"""

CONFTEST = """
import pytest
from shop import app

pytest_plugins = ["fastapi_pluggable_auth.testing"]


@pytest.fixture
def auth_app():
    return app
"""

TESTS = """
import pytest
from fastapi_pluggable_auth import AuthError
from fastapi_pluggable_auth.models import Session, User
from shop import auth, plain
from fastapi_pluggable_auth.testing import AuthClient

pytestmark = pytest.mark.asyncio


async def test_a_passkey_signs_in_and_all_later_requests_are_of_its_user(auth_client, user_factory, mailbox):
    ada = await user_factory("ada@example.com")
    await auth_client.add_passkey(ada, "Phone")
    assert "Phone" in mailbox.newest(ada.email).body
    assert (await auth_client.get("/hello")).status_code == 401
    assert await Session.all().count() == 0
    await auth_client.sign_in_with_passkey(ada)
    assert (await auth_client.get("/hello")).json() == ada.email
    async with auth_client.websocket("/echo") as socket:
        assert await socket.receive_text() == ada.email
    (session,) = await Session.all()
    assert session.factors == "passkey"


async def test_a_passkey_opens_what_a_password_does_not(auth_client, user_factory):
    ada = await user_factory()
    await auth_client.add_passkey(ada)
    await auth_client.sign_in(ada)
    assert (await auth_client.get("/vault")).status_code == 403
    await auth_client.sign_in_with_passkey(ada)
    assert (await auth_client.get("/vault")).json() == "gold"


async def test_each_user_has_passkeys_of_their_own_and_the_newest_counts(auth_client, user_factory):
    ada, eve = await user_factory("ada@example.com"), await user_factory("eve@example.com")
    first, second = await auth_client.add_passkey(ada), await auth_client.add_passkey(ada)
    await auth_client.add_passkey(eve)
    await auth_client.sign_in_with_passkey(ada)
    await auth_client.add_passkey(eve)
    assert (await auth_client.get("/hello")).json() == ada.email
    listed = (await auth_client.get("/v1/account/passkeys")).json()
    used = {each["id"]: each["last_used_at"] for each in listed}
    assert used[str(first)] is None
    assert used[str(second)] is not None
    await auth_client.sign_in_with_passkey(eve)
    assert (await auth_client.get("/hello")).json() == eve.email


async def test_a_browser_that_gets_cookies_signs_in_with_them(auth_client, user_factory):
    ada = await user_factory("ada@example.com")
    await auth_client.sign_in(await user_factory())
    await auth_client.add_passkey(ada)
    auth_client.headers["Sec-Fetch-Site"] = "same-origin"
    await auth_client.sign_in_with_passkey(ada)
    assert "authorization" not in auth_client.headers
    assert (await auth_client.get("/hello")).json() == ada.email


async def test_the_authenticator_answers_what_a_page_of_the_host_asks_for(auth_client, user_factory):
    ada = await user_factory("ada@example.com")
    await auth_client.add_passkey(ada)
    options = (await auth_client.post("/v1/auth/passkey/options")).json()
    body = {"credential": auth_client.authenticator.get(options)}
    assert (await auth_client.post("/v1/auth/passkey/login", json=body)).status_code == 200


async def test_time_ends_a_challenge(auth_client, user_factory, auth_clock):
    await auth_client.add_passkey(await user_factory())
    options = (await auth_client.post("/v1/auth/passkey/options")).json()
    auth_clock.advance(minutes=6)
    body = {"credential": auth_client.authenticator.get(options)}
    answer = await auth_client.post("/v1/auth/passkey/login", json=body)
    assert answer.json()["code"] == "passkey_expired"


async def test_a_user_without_a_passkey_is_named(auth_client, user_factory):
    ada, eve = await user_factory("ada@example.com"), await user_factory("eve@example.com")
    await auth_client.add_passkey(eve)
    with pytest.raises(LookupError, match=r"no passkey of ada@example.com: add_passkey\\(user\\)"):
        await auth_client.sign_in_with_passkey(ada)


async def test_what_the_app_refuses_is_raised(auth_client, user_factory):
    ada = await user_factory()
    await auth_client.add_passkey(ada)
    await User.filter(id=ada.id).update(is_verified=False)
    with pytest.raises(AuthError) as refused:
        await auth_client.sign_in_with_passkey(ada)
    assert refused.value.code.code == "email_not_verified"
    await User.filter(id=ada.id).update(is_active=False)
    with pytest.raises(AuthError) as refused:
        await auth_client.add_passkey(ada)
    assert refused.value.code.code == "invalid_token"
    assert (await auth_client.get("/hello")).status_code == 401


async def test_an_app_without_passkeys_is_named(auth_client, user_factory):
    ada, client = await user_factory(), AuthClient(plain)
    for work in (client.add_passkey, client.sign_in_with_passkey):
        with pytest.raises(LookupError, match="The app has no passkeys"):
            await work(ada)
"""


def test_it_adds_passkeys_and_signs_in_with_them(tmp_path: Path) -> None:
    files = {"shop.py": APP, "conftest.py": CONFTEST, "test_keys.py": TESTS}
    assert_passing(tmp_path, 9, files)
