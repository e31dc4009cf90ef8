"""A user whom the model's own `Manager` hides exists nowhere, but for what has to be unique."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, CurrentUser, OptionalUser, include_auth
from fastapi_pluggable_auth.authorization import require
from fastapi_pluggable_auth.errors import AuthError, ErrorCode
from fastapi_pluggable_auth.features import Administration, AuditLog, OAuthServer, Passkeys, PersonalTokens
from fastapi_pluggable_auth.features.administration import users as users_flow
from fastapi_pluggable_auth.features.administration.importing import import_users
from fastapi_pluggable_auth.features.two_factor.sealing import seal_secrets
from fastapi_pluggable_auth.models import User, every
from fastapi_pluggable_auth.testing import UserFactory
from fastapi_pluggable_auth.websocket import CurrentWebSocketUser

from . import databases, own_manager
from .conftest import EMAIL, PASSWORD, Mailbox
from .form_browser import BROWSER, FormBrowser
from .oauth_program import code_for, registered
from .own_manager import Club, Guest, tenant

BASE = "http://testserver"
BOB = "bob@example.com"
NEW = "another good one"


@pytest.fixture
def app(settings: AuthSettings) -> FastAPI:
    """An app with everything, whose users are hidden by a manager."""
    settings.public_base_url = BASE
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        user_model=Guest,
        pages=True,
        features=[
            Administration(),
            PersonalTokens(scopes={"notes:read": "Read"}),
            AuditLog(),
            Passkeys(),
            OAuthServer(resources=["/notes"]),
        ],
    )

    @app.get("/notes")
    async def notes(user: Annotated[User, Depends(require(scope="notes:read"))]) -> str:
        return user.email

    @app.get("/mine")
    async def mine(user: CurrentUser) -> str:
        return user.email

    @app.get("/perhaps")
    async def perhaps(user: OptionalUser) -> bool:
        return user is not None

    @app.websocket("/feed")
    async def feed(websocket: WebSocket, user: CurrentWebSocketUser) -> None:
        await websocket.accept()
        await websocket.close()

    return app


@pytest.fixture
def auth(app: FastAPI) -> Auth:
    """Its `Auth`."""
    found: Auth = app.state.pluggable_auth
    return found


@pytest.fixture
async def client(app: FastAPI, auth: Auth, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A program. The host's condition is the same on every database."""
    url = f"sqlite://{tmp_path / 'guests.sqlite3'}"
    await databases.create(url, "sqlite", own_manager.__name__, "shop")
    async with TortoiseContext() as context:
        await context.init(databases.config(url, "sqlite guests", "shop", own_manager.__name__))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE) as client:
            yield client
        await auth.close()


class Signed:
    """Ada, in every way that there is to be known."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient, mailbox: Mailbox) -> None:
        self.app, self.client, self.mailbox = app, client, mailbox
        self.pair: dict[str, str] = {}
        self.personal = self.unverified = self.reset = self.oauth = ""

    async def begin(self) -> None:
        account = {"email": EMAIL, "password": PASSWORD, "username": "ada"}
        assert (await self.client.post("/auth/signup", json=account)).status_code == 201
        self.unverified = self.mailbox.link()
        assert (await self.client.get(self.unverified)).status_code == 200
        self.pair = (await self.log_in()).json()
        wanted = {"name": "backup", "scopes": ["notes:read"]}
        made = await self.client.post("/account/tokens", json=wanted, headers=self.bearer())
        self.personal = made.json()["token"]
        auth: Auth = self.app.state.pluggable_auth
        program = await registered(auth, self.client)
        await program.exchange(await code_for(auth, program))
        self.oauth, self.renewal = program.tokens["access_token"], program.refresh
        await self.client.post("/auth/forgot-password", json={"email": EMAIL})
        self.reset = self.mailbox.link()
        await every(Guest).update(is_superuser=True)

    def bearer(self, token: str = "") -> dict[str, str]:
        return {"Authorization": f"Bearer {token or self.pair['access_token']}"}

    async def log_in(self, name: str = EMAIL) -> httpx.Response:
        return await self.client.post("/auth/login", json={"email": name, "password": PASSWORD})

    async def status(self, path: str, token: str = "") -> int:
        return (await self.client.get(path, headers=self.bearer(token))).status_code

    async def socket(self) -> str:
        """What the app says to a WebSocket."""
        said: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect" if not said else "websocket.disconnect"}

        async def send(message: Any) -> None:
            said.append(message)

        headers = [(b"host", b"testserver"), (b"authorization", self.bearer()["Authorization"].encode())]
        scope = {
            **{"type": "websocket", "path": "/feed", "raw_path": b"/feed", "headers": headers},
            **{"query_string": b"", "subprotocols": [], "client": ("192.0.2.7", 1), "scheme": "ws"},
            "server": ("testserver", 80),
            "extensions": {},
        }
        await self.app(scope, receive, send)
        return str(said[0]["type"])


@pytest.fixture
async def ada(app: FastAPI, client: httpx.AsyncClient, mailbox: Mailbox) -> Signed:
    """Somebody with a session, a personal token and mailed links, who is not hidden yet."""
    ada = Signed(app, client, mailbox)
    await ada.begin()
    return ada


async def hide() -> None:
    await every(Guest).filter(email=EMAIL).update(is_deleted=True)


IDS = (
    *("user_id", "session_id", "device_id", "token_id", "event_id", "passkey_id"),
    *("application_id", "client_id"),
)


async def test_a_hidden_user_is_known_on_no_route(ada: Signed) -> None:
    """Of all routes that ask who it is: 401 each."""
    document = ada.app.openapi()
    asked = [
        (method, path.format(**dict.fromkeys(IDS, uuid4())))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation.get("security") and path != "/perhaps"
    ]
    assert len(asked) > 30
    assert (await ada.status("/mine"), await ada.status("/notes", ada.personal)) == (200, 200)
    assert await ada.status("/notes", ada.oauth) == 200
    assert await ada.socket() == "websocket.accept"
    await hide()
    for method, path in asked:
        answer = await ada.client.request(method, path, headers=ada.bearer(), json={})
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token"), (method, path)
    assert await ada.status("/notes", ada.personal) == 401
    assert await ada.status("/notes", ada.oauth) == 401
    assert (await ada.renewal()).json()["error"] == "invalid_grant"
    assert await ada.socket() != "websocket.accept"
    assert await ada.status("/perhaps") == 401
    for name in (EMAIL, "ada"):
        refused = await ada.log_in(name)
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credentials")
    for _ in range(2):
        token = {"token": ada.pair["refresh_token"]}
        refused = await ada.client.post("/auth/refresh", json=token)
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_token")


async def test_a_hidden_user_is_not_known_for_somebody_else_who_is_shown(ada: Signed, auth: Auth) -> None:
    await users_flow.create_user(auth, BOB, PASSWORD, verified=True, columns={"username": "bob"})
    await hide()
    assert (await ada.status("/mine"), await ada.status("/notes", ada.personal)) == (401, 401)
    refused = await ada.client.post("/auth/refresh", json={"token": ada.pair["refresh_token"]})
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_token")


async def test_a_hidden_user_is_mailed_nothing_and_no_link_works(ada: Signed) -> None:
    await hide()
    ada.mailbox.clear()
    for path in ("/auth/forgot-password", "/auth/verify/resend"):
        assert (await ada.client.post(path, json={"email": EMAIL})).status_code < 300
    assert not ada.mailbox.messages
    refused = await ada.client.post(ada.reset, json={"new_password": NEW})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_link")
    assert (await ada.client.get(ada.unverified)).status_code == 400
    assert (await every(Guest).get()).is_verified


async def test_a_hidden_user_is_signed_in_on_no_page(ada: Signed) -> None:
    transport = httpx.ASGITransport(ada.app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as browser:
        visitor = FormBrowser(browser)
        await visitor.open("/account/sign-in")
        assert (await visitor.submit("sign-in", email="ada", password=PASSWORD)).path == "/account/profile"
        await hide()
        for page in ("profile", "security", "delete", "confirm-password"):
            assert (await visitor.open(f"/account/{page}")).path == "/account/sign-in", page
        await visitor.open("/account/sign-up")
        page = await visitor.submit("sign-up", email=EMAIL, username="eve", new_password=PASSWORD)
        assert (page.status, "an account with this e-mail address already" in page.text) == (400, True)


async def test_the_address_and_name_of_a_hidden_user_are_taken(
    ada: Signed, auth: Auth, settings: AuthSettings
) -> None:
    """They are in the table, and unique."""
    account = {"email": BOB, "password": PASSWORD, "username": "bob"}
    assert (await ada.client.post("/auth/signup", json=account)).status_code == 201
    await ada.client.get(ada.mailbox.link(BOB))
    login = await ada.client.post("/auth/login", json={"email": BOB, "password": PASSWORD})
    bob = ada.bearer(login.json()["access_token"])
    await hide()
    for body, code in (({"email": EMAIL}, "email_taken"), ({"username": "ADA"}, "username_taken")):
        new = {"email": "eve@example.com", "username": "eve", "password": PASSWORD} | body
        answer = await ada.client.post("/auth/signup", json=new)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
    answer = await ada.client.patch("/account", json={"email": EMAIL}, headers=bob)
    assert (answer.status_code, answer.json()["code"]) == (400, "email_taken")
    with pytest.raises(AuthError) as refused:
        await users_flow.create_user(auth, EMAIL, PASSWORD, columns={"username": "eve"})
    assert refused.value.code is ErrorCode.EMAIL_TAKEN
    lines = io.StringIO(f"email,username\n{EMAIL},eve\neve@example.com,eve\n")
    (batch,) = [each async for each in import_users(auth, lines)]
    assert (batch.imported, batch.skipped, batch.refused) == (1, 1, [])
    settings.prevent_enumeration = True
    taken = await ada.client.post("/auth/signup", json={**account, "email": EMAIL, "username": "x1"})
    fresh = await ada.client.post(
        "/auth/signup", json={**account, "email": "x@example.com", "username": "x2"}
    )
    assert (taken.status_code, fresh.status_code, taken.json().keys()) == (201, 201, fresh.json().keys())
    assert await every(Guest).filter(email=EMAIL).count() == 1


async def test_a_hidden_user_is_in_no_hand_of_an_administrator(ada: Signed, auth: Auth) -> None:
    boss = await users_flow.create_user(auth, BOB, PASSWORD, verified=True, columns={"username": "bob"})
    await every(Guest).filter(id=boss.id).update(is_superuser=True)
    login = await ada.client.post("/auth/login", json={"email": BOB, "password": PASSWORD})
    headers = ada.bearer(login.json()["access_token"])
    hidden = await every(Guest).get(email=EMAIL)
    await hide()
    shown = (await ada.client.get("/admin/users", headers=headers)).json()
    assert [user["email"] for user in shown["users"]] == [BOB]
    assert (await ada.client.get(f"/admin/users/{hidden.id}", headers=headers)).status_code == 404
    assert (await ada.client.delete(f"/admin/users/{hidden.id}", headers=headers)).status_code == 404
    for name in (hidden.id, EMAIL, "ada"):
        with pytest.raises(AuthError) as refused:
            await users_flow.find_user(auth, name)
        assert refused.value.code is ErrorCode.USER_NOT_FOUND
    with pytest.raises(AuthError):
        await users_flow.disable_user(auth, hidden.id)
    assert await every(Guest).filter(email=EMAIL, is_active=True).exists()


async def test_who_is_shown_again_goes_on_as_before(ada: Signed) -> None:
    await hide()
    assert await ada.status("/mine") == 401
    await every(Guest).all().update(is_deleted=False)
    assert (await ada.status("/mine"), await ada.status("/notes", ada.personal)) == (200, 200)
    answer = await ada.client.post("/auth/refresh", json={"token": ada.pair["refresh_token"]})
    assert answer.status_code == 200


async def test_the_condition_of_a_manager_may_change_from_request_to_request(ada: Signed) -> None:
    """A tenant in a context variable: nothing is kept of the first request's."""
    assert await ada.status("/mine") == 200
    south = tenant.set("south")
    assert (await ada.status("/mine"), (await ada.log_in()).status_code) == (401, 401)
    tenant.reset(south)
    assert (await ada.status("/mine"), (await ada.log_in()).status_code) == (200, 200)


async def test_the_condition_of_a_manager_may_join_other_tables(ada: Signed) -> None:
    guest = await Guest.get()
    await guest.clubs.add(*[await Club.create() for _ in range(3)])
    assert (await ada.status("/mine"), (await ada.log_in()).status_code) == (200, 200)
    changed = await ada.client.patch("/account", json={"display_name": "Ada"}, headers=ada.bearer())
    assert (changed.status_code, (await Guest.get()).display_name) == (200, "Ada")
    await Club.all().update(closed=True)
    assert (await ada.status("/mine"), (await ada.log_in()).status_code) == (401, 401)


async def test_what_scripts_make_may_be_hidden_from_the_start(ada: Signed, auth: Auth) -> None:
    """And secrets of hidden users are sealed with a new key like all others."""
    south = {"username": "bob", "tenant": "south"}
    assert (await users_flow.create_user(auth, BOB, PASSWORD, columns=south)).email == BOB
    factory = UserFactory(auth)
    made = await factory("carol@example.com", two_factor=True, is_deleted=True)
    assert made.email == "carol@example.com"
    sealed = [each async for each in seal_secrets(auth)]
    assert [each.up_to_date + each.sealed for each in sealed] == [1]
