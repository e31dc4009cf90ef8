"""The test kit signs in at the providers of a host's app, without a network."""

from __future__ import annotations

from pathlib import Path

from .hosts import assert_passing

APP = """
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from fastapi import FastAPI
from fastapi_pluggable_auth import AuthSettings, CurrentUser, include_auth
from fastapi_pluggable_auth.features import Apple, GitHub, Google, Microsoft, SocialLogin

made = generate_private_key(SECP256R1())
key = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
settings = AuthSettings(
    _env_file=None,
    jwt_secret="h2Qm7RkZ9tLb3XvN8wYp5Dc6GsJf4TeU",
    public_base_url="https://shop.example.com/api",
    route_prefix="/v1",
)
social = SocialLogin(
    Google(client_id="g"),
    GitHub(client_id="h"),
    Microsoft(client_id="m"),
    Apple(client_id="a", team_id="T", key_id="K", private_key=key),
)
app, tokens = FastAPI(), FastAPI()
auth = include_auth(app, settings=settings, pages=True, features=[social])
include_auth(tokens, settings=settings.model_copy(), features=[SocialLogin(Google(client_id="g"))])


for each in (app, tokens):

    @each.get("/hello")
    async def hello(user: CurrentUser) -> str:
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
from fastapi_pluggable_auth.models import Identity, User
from shop import auth, social, tokens

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("name", ["google", "github", "apple"])
async def test_a_provider_signs_up_and_in(name, auth_client, identity_provider):
    identity_provider.user("ada@example.com", name="Ada")
    back = await auth_client.sign_in_at(name, "/hello")
    assert (back.status_code, back.headers["location"]) == (303, "/hello")
    assert (await auth_client.get("/hello")).json() == "ada@example.com"
    assert (await User.get()).display_name == "Ada"


async def test_each_provider_has_its_own_users(auth_client, identity_provider):
    identity_provider.user("ada@example.com")
    for name in ("google", "github"):
        await auth_client.sign_in_at(name)
    assert await User.all().count() == 1
    assert {each.provider for each in await Identity.all()} == {"google", "github"}


async def test_addresses_that_nobody_vouches_for_and_refusals(auth_client, identity_provider, user_factory):
    ada = await user_factory("ada@example.com")
    identity_provider.user(ada.email, email_verified=False)
    assert "Your e-mail address" in (await auth_client.sign_in_at("google")).text
    identity_provider.user(ada.email)
    assert "Your e-mail address" in (await auth_client.sign_in_at("microsoft")).text
    identity_provider.fail("access_denied")
    refused = await auth_client.sign_in_at("google")
    assert (refused.status_code, "You have not signed in there." in refused.text) == (400, True)
    assert await Identity.all().count() == 0


async def test_the_provider_goes_by_the_clock_of_the_test(auth_client, identity_provider, auth_clock):
    auth_clock.advance(days=40)
    assert (await auth_client.sign_in_at("google")).status_code == 303


async def test_the_providers_are_put_back():
    assert social.options["google"].issuer == "https://accounts.google.com"
    assert social.options["github"].issuer is None


class TestTokens:
    @pytest.fixture
    def auth_app(self):
        tokens.state.pluggable_auth.features.settings[0].social_return_url = "https://app.example.com/back"
        return tokens

    async def test_an_app_without_cookies_exchanges(self, auth_client, identity_provider):
        assert "access_token" in (await auth_client.sign_in_at("google")).json()
        assert (await auth_client.get("/hello")).json() == "kim@example.com"
"""


def test_a_host_signs_in_at_its_providers_without_a_network(tmp_path: Path) -> None:
    files = {"shop.py": APP, "conftest.py": CONFTEST, "test_shop.py": TESTS}
    assert_passing(tmp_path, 8, files)
