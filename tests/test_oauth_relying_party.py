"""One app of ours signs its users in with the accounts of another one, both under real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI
from tortoise import Tortoise

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.email.provider import MemoryProvider
from fastapi_pluggable_auth.features import OAuthServer, Oidc, SocialLogin
from fastapi_pluggable_auth.features.oauth_server.clients import create_client
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.security.hashing import hash_password
from fastapi_pluggable_auth.security.totp import code_at, generate_totp_secret

from . import live
from .conftest import EMAIL, PASSWORD, SECRET
from .form_browser import BROWSER, FormBrowser, Page
from .oauth_program import location_in
from .test_keys import EC, pem_of
from .test_plugin import app_with_plain_init_in_lifespan, schemas

TOTP = generate_totp_secret()


@dataclass
class Known:
    """What the operator of one app tells that of the other."""

    client_id: str = ""
    client_secret: str = ""


@dataclass(frozen=True)
class Sites:
    provider: str
    relying: str
    client_id: str


def settings_of(base: str, **more: Any) -> AuthSettings:
    return AuthSettings(
        _env_file=None,
        jwt_secret=SECRET,
        bcrypt_rounds=4,
        database_timeout=60,
        public_base_url=base,
        **more,
    )


def provider_of(url: str, base: str, callback: str, after: str, known: Known) -> FastAPI:
    """An app with one account, which has two-factor, and one client."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await schemas(app, url)
        made = await create_client(
            auth, "Shop", [callback], confidential=True, post_logout_redirect_uris=[after]
        )
        known.client_id, known.client_secret = made.client.client_id, made.secret or ""
        await User.create(
            email=EMAIL,
            hashed_password=hash_password(PASSWORD, settings),
            is_verified=True,
            display_name="Ada",
            totp_secret=TOTP,
            totp_confirmed=True,
        )
        yield
        await Tortoise.close_connections()

    app = FastAPI(lifespan=lifespan)
    settings = settings_of(base, jwt_algorithm="ES256", jwt_private_key=pem_of(EC))
    server = OAuthServer(settings=OAuthSettings(_env_file=None, oauth_openid=True))
    auth = include_auth(
        app, settings=settings, pages=True, email_provider=MemoryProvider(), features=[server]
    )
    return app


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder: Path = tmp_path_factory.mktemp("sites")
    ports = live.free_port(), live.free_port()
    provider = f"http://127.0.0.1:{ports[0]}"
    relying = f"http://localhost:{ports[1]}"  # of another host, as cookies know no ports
    known = Known()
    callback, after = f"{relying}/auth/social/ours/callback", f"{relying}/account/sign-in"
    first = provider_of(f"sqlite://{folder / 'provider.sqlite3'}", provider, callback, after, known)
    with live.serving(first, port=ports[0]):
        ours = Oidc("ours", issuer=provider, client_id=known.client_id, client_secret=known.client_secret)
        second = app_with_plain_init_in_lifespan(f"sqlite://{folder / 'relying.sqlite3'}")
        include_auth(
            second,
            settings=settings_of(relying),
            pages=True,
            email_provider=MemoryProvider(),
            features=[SocialLogin(ours)],
        )
        with live.serving(second, port=ports[1]):
            yield Sites(provider, relying, known.client_id)


class Traveller(FormBrowser):
    """A browser that goes from one site to the other."""

    async def submit(self, name: str, /, **typed: str) -> Page:
        address = self.page.answer.url
        self.client.base_url = httpx.URL(f"{address.scheme}://{address.netloc.decode()}")
        return await super().submit(name, **typed)

    async def who(self, site: str) -> dict[str, Any]:
        answer = await self.client.get(f"{site}/auth/me", headers={"Accept": "application/json"})
        return dict(answer.json())


async def signs_in(browser: Traveller, sites: Sites) -> Page:
    """By the other app, with both factors there; gives the page where the user was going."""
    page = await browser.open(f"{sites.relying}/auth/social/ours/start?next=/account/profile")
    assert str(page.answer.url).startswith(f"{sites.provider}/account/sign-in"), page.text
    await browser.submit("sign-in", email=EMAIL, password=PASSWORD)
    return await browser.submit("sign-in/code", code=code_at(TOTP, datetime.now(UTC)))


async def test_a_user_of_one_app_signs_in_to_another_with_two_factors_and_out_of_both(
    sites: Sites,
) -> None:
    """OpenID Connect Core, Discovery and RP-Initiated Logout, between two apps of this library."""
    async with httpx.AsyncClient(headers=BROWSER) as client:
        browser = Traveller(client)
        page = await signs_in(browser, sites)
        for said in ("Shop", "Sign you in with this account", "See your e-mail address"):
            assert said in page.text
        page = await browser.submit("authorize", decision="allow")
        page = await browser.open(location_in(page))
        assert str(page.answer.url).startswith(f"{sites.relying}/account/profile"), page.text
        there, here = await browser.who(sites.provider), await browser.who(sites.relying)
        assert (here["email"], here["is_verified"], here["display_name"]) == (EMAIL, True, "Ada")
        assert here["id"] != there["id"]

        await browser.open(f"{sites.relying}/account/profile")
        await browser.submit("sign-out")
        again = await browser.open(f"{sites.relying}/auth/social/ours/start?next=/account/profile")
        assert again.form(
            "authorize"
        )  # who is signed in there, and asked as the answer stays on this machine
        again = await browser.open(location_in(await browser.submit("authorize", decision="allow")))
        assert again.path == "/account/profile"
        assert (await browser.who(sites.relying))["id"] == here["id"]

        await browser.submit("sign-out")
        asked = {
            "client_id": sites.client_id,
            "post_logout_redirect_uri": f"{sites.relying}/account/sign-in",
        }
        page = await browser.open(f"{sites.provider}/oauth/logout?{urlencode(asked)}")
        assert (await browser.who(sites.provider))["email"] == EMAIL
        page = await browser.open(location_in(await browser.submit("logout")))
        assert str(page.answer.url) == f"{sites.relying}/account/sign-in"
        for site in (sites.provider, sites.relying):
            assert "email" not in await browser.who(site)
