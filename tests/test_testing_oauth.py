"""The test kit has clients of the OAuth server of a host's app, and tokens of theirs."""

from __future__ import annotations

from pathlib import Path

from .hosts import assert_passing

APP = """
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi_pluggable_auth import AuthSettings, include_auth, require
from fastapi_pluggable_auth.features import OAuthServer
from fastapi_pluggable_auth.models import User

app, plain = FastAPI(), FastAPI()
settings = AuthSettings(
    _env_file=None,
    jwt_secret="h2Qm7RkZ9tLb3XvN8wYp5Dc6GsJf4TeU",
    public_base_url="https://shop.example.com/api",
    route_prefix="/v1",
)
scopes = {"notes:read": "Read your notes", "notes:write": "Change your notes"}
auth = include_auth(
    app, settings=settings, pages=True, features=[OAuthServer(resources=["/notes", "/mcp"], scopes=scopes)]
)
include_auth(plain, settings=settings.model_copy())


@app.get("/notes")
async def notes(user: Annotated[User, Depends(require(scope="notes:read"))]) -> str:
    return user.email


@app.post("/notes")
async def write(user: Annotated[User, Depends(require(scope="notes:write"))]) -> str:
    return user.email
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
from fastapi_pluggable_auth.features import verify_oauth_token
from fastapi_pluggable_auth.testing import AuthClient
from shop import auth, plain

pytestmark = pytest.mark.asyncio


async def test_a_program_is_let_in_by_its_user(auth_client, oauth_client, user_factory, mailbox):
    ada = await user_factory("ada@example.com")
    tokens = await oauth_client.connect(ada, "notes:read")
    assert tokens["scope"] == "notes:read"
    assert (await oauth_client.get("/notes")).json() == ada.email
    assert (await oauth_client.post("/notes")).status_code == 403
    assert "Client" in mailbox.newest(ada.email).body
    await auth_client.sign_in(ada)
    (application,) = (await auth_client.get("/v1/account/applications")).json()
    assert application["client_id"] == oauth_client.client_id


async def test_its_access_is_renewed_and_ends(oauth_client, user_factory, auth_clock):
    await oauth_client.connect(await user_factory())
    auth_clock.advance(minutes=61)
    assert (await oauth_client.get("/notes")).status_code == 401
    await oauth_client.refresh()
    assert (await oauth_client.post("/notes")).status_code == 200
    await oauth_client.revoke()
    assert (await oauth_client.get("/notes")).status_code == 401
    with pytest.raises(AuthError, match="not valid"):
        await oauth_client.refresh()


async def test_a_device_is_let_in_by_its_user(oauth_client, user_factory, auth_clock):
    ada = await user_factory()
    tokens = await oauth_client.connect_device(ada, "notes:read", resource="/notes")
    assert tokens["scope"] == "notes:read"
    assert (await oauth_client.get("/notes")).json() == ada.email
    with pytest.raises(AuthError, match="did not allow"):
        await oauth_client.connect_device(ada, allow=False)
    begun = await oauth_client.begin_device()
    with pytest.raises(AuthError, match="not decided yet"):
        await oauth_client.poll(begun["device_code"])
    auth_clock.advance(minutes=10)
    with pytest.raises(AuthError, match="has expired"):
        await oauth_client.poll(begun["device_code"])


async def test_a_user_refuses(oauth_client, user_factory):
    answer = await oauth_client.authorize(await user_factory(), allow=False)
    assert answer["error"] == "access_denied"


async def test_a_confidential_one_shows_its_secret_and_asks_for_a_resource(oauth_client, user_factory):
    await oauth_client.register("Reports", ["notes:read"], confidential=True)
    await oauth_client.connect(await user_factory(), resource="/mcp")
    assert oauth_client.tokens["scope"] == "notes:read"
    assert (await oauth_client.get("/notes")).status_code == 401
    oauth_client.client_secret += "x"
    with pytest.raises(AuthError, match="did not authenticate"):
        await oauth_client.refresh()
    oauth_client.client_secret = None
    await oauth_client.register("Another", ["notes:write"])
    with pytest.raises(AuthError, match="more than was allowed"):
        await oauth_client.connect(await user_factory(), "notes:read")


async def test_a_token_needs_no_consent(auth_client, user_factory, auth_clock):
    ada = await user_factory("ada@example.com")
    token = await auth_client.use_token(ada, "notes:read")
    assert (await auth_client.get("/notes")).json() == ada.email
    assert (await auth_client.post("/notes")).status_code == 403
    assert (await auth_client.get("/v1/account")).status_code == 401
    access = await verify_oauth_token(auth, token, "/mcp")
    assert (access.user.id, access.scopes, access.resource) == (
        ada.id, {"notes:read"}, "https://shop.example.com/api/mcp"
    )
    assert access.client_id.startswith("c_")
    await auth_client.use_token(ada, resource="/mcp")
    assert (await auth_client.get("/notes")).status_code == 401
    await auth_client.use_token(ada)
    assert (await auth_client.post("/notes")).status_code == 200
    auth_clock.advance(minutes=61)
    assert (await auth_client.post("/notes")).status_code == 401
    assert await verify_oauth_token(auth, token, "/mcp") is None


async def test_only_what_the_app_has_is_given(auth_client, user_factory):
    ada = await user_factory()
    with pytest.raises(LookupError, match="no scope notes:delete; it has notes:read, notes:write"):
        await auth_client.use_token(ada, "notes:delete")
    with pytest.raises(LookupError, match="no resource /api; it has /notes, /mcp"):
        await auth_client.use_token(ada, resource="/api")
    with pytest.raises(LookupError, match="OAuthServer"):
        await AuthClient(plain).use_token(ada)
    with pytest.raises(LookupError, match="/elsewhere belongs to no resource"):
        await verify_oauth_token(auth, "oat_", "/elsewhere")


async def test_a_token_that_is_verified_is_good_there_alone_and_at_once_no_more(oauth_client, user_factory):
    await oauth_client.connect(await user_factory(), resource="/mcp")
    token = oauth_client.tokens["access_token"]
    assert (await verify_oauth_token(auth, token, "/mcp")).client_id == oauth_client.client_id
    assert await verify_oauth_token(auth, token, "/notes") is None
    for other in ("", "x", "oat_\\ud800", oauth_client.tokens["refresh_token"]):
        assert await verify_oauth_token(auth, other, "/mcp") is None
    await oauth_client.revoke()
    assert await verify_oauth_token(auth, token, "/mcp") is None
"""


def test_a_host_tests_what_programs_do_for_its_users(tmp_path: Path) -> None:
    assert_passing(tmp_path, 8, {"shop.py": APP, "conftest.py": CONFTEST, "test_shop.py": TESTS})
