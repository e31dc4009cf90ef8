"""Social login in apps of every shape: own users, a prefix, a proxy, apps in apps, and none with cookies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import Oidc, SocialLogin
from fastapi_pluggable_auth.features.social_login.names import BeforeSocialSignup
from fastapi_pluggable_auth.features.social_login.settings import SocialSettings
from fastapi_pluggable_auth.features.social_login.states import s256
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.models import Identity, User
from fastapi_pluggable_auth.schemas import UserCreate

from . import databases, own_tables
from .conftest import PASSWORD, Clock, Mailbox, on_one_spare
from .spare_database import SpareDatabase
from .test_social_attacks import FETCH
from .test_social_login import BROWSER, KIM, provider

__all__ = ["provider"]

DIALECTS = ("sqlite",)
BASE = "http://localhost:8000"


def social(provider: IdentityProvider, *names: str, **options: Any) -> SocialLogin:
    made = [
        Oidc(name, issuer=provider.issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, **options)
        for name in names
    ]
    settings = SocialSettings(_env_file=None, social_return_url="https://front.example/in")  # type: ignore[call-arg]
    return SocialLogin(*made, settings=settings)


@asynccontextmanager
async def browser_of(app: Any, base: str = BASE) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url=base, headers=BROWSER
    ) as browser:
        yield browser


async def goes_there(browser: httpx.AsyncClient, start: str) -> httpx.Response:
    """To the provider and back, to the address that the provider was given, whatever that is."""
    begun = await browser.get(start)
    assert begun.status_code == 303, begun.text
    async with httpx.AsyncClient() as away:
        back = (await away.get(begun.headers["location"])).headers["location"]
    return await browser.get(back)


class NewMember(UserCreate):
    username: str


@on_one_spare
async def test_columns_of_the_host_are_filled_in_by_a_hook(
    settings: AuthSettings,
    clock: Clock,
    spare: SpareDatabase,
    mailbox: Mailbox,
    provider: IdentityProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where one that needs a value has none, the visitor gets a page with a way on, and the log names it."""
    await databases.create(spare.url, spare.dialect, own_tables.__name__, "shop")
    app, filled = FastAPI(), dict[str, Any]()
    auth = include_auth(
        app,
        settings=settings,
        clock=clock,
        pages=True,
        user_model=own_tables.User,
        user_create=NewMember,
        features=[social(provider, "acme")],
    )

    @auth.on(BeforeSocialSignup)
    async def fill(event: BeforeSocialSignup) -> None:
        assert event.profile.email is not None
        event.columns.update(filled)

    async with TortoiseContext() as context, browser_of(app) as browser:
        await context.init(databases.config(spare.url, f"{spare.dialect} own", "shop", own_tables.__name__))
        identities, start = auth.tables.of(Identity), "/auth/social/acme/start"
        body = {"email": "ann@example.com", "password": PASSWORD, "username": "ann"}
        assert (await browser.post("/auth/signup", json=body, headers=FETCH)).status_code == 201
        for silent in (False, True):
            settings.prevent_enumeration = silent
            for wrong in (
                {},
                {"username": None},
                {"username": "\ud800"},
                {"username": "Ann"},
                {"username": "kim", "level": "many"},
                {"username": "kim", "company_id": 7},
            ):
                filled.clear()
                filled.update(wrong)
                caplog.clear()
                page = await goes_there(browser, start)
                assert (page.status_code, "There is no account for you here" in page.text) == (403, True)
                assert "Sign in" in page.text
                named = any(each in caplog.text for each in ("username", "level", "company_id"))
                assert named or (silent and wrong == {"username": "Ann"}), wrong
        assert (await own_tables.User.all().count(), await identities.all().count()) == (1, 0)
        filled.clear()
        filled.update(username="Kim", city="Oslo", unknown="x")
        assert (await goes_there(browser, start)).status_code == 303
        user = await own_tables.User.get(email=KIM)
        assert (user.username, user.city, (await identities.get()).user_id) == ("kim", "Oslo", user.id)
        assert (await browser.get("/auth/me", headers=FETCH)).json()["email"] == KIM
        await browser.post("/auth/logout", headers=FETCH)
        assert (await goes_there(browser, start)).status_code == 303
    await auth.close()


@pytest.mark.parametrize("spare", databases.DIALECTS, indirect=True)
async def test_first_logins_at_once_make_one_account_where_usernames_are_unique_too(
    settings: AuthSettings,
    clock: Clock,
    spare: SpareDatabase,
    mailbox: Mailbox,
    provider: IdentityProvider,
) -> None:
    await databases.create(spare.url, spare.dialect, own_tables.__name__, "shop")
    app = FastAPI()
    auth = include_auth(
        app,
        settings=settings,
        clock=clock,
        user_model=own_tables.User,
        user_create=NewMember,
        pages=True,
        features=[social(provider, "acme", "other")],
    )

    @auth.on(BeforeSocialSignup)
    async def fill(event: BeforeSocialSignup) -> None:
        event.columns["username"] = "kim"

    async def arrives(name: str) -> int:
        async with browser_of(app) as browser:
            return (await goes_there(browser, f"/auth/social/{name}/start")).status_code

    async with TortoiseContext() as context:
        await context.init(databases.config(spare.url, f"{spare.dialect} own", "shop", own_tables.__name__))
        for silent in (False, True):
            settings.prevent_enumeration = silent
            assert {*await asyncio.gather(*map(arrives, ["acme", "other"] * 4))} == {303}
            assert await own_tables.User.all().count() == 1
            assert len({*await auth.tables.of(Identity).all().values_list("user_id", flat=True)}) == 1
            await own_tables.User.all().delete()
    await auth.close()


@pytest.mark.parametrize("mounted", [True, False], ids=["mounted", "behind a proxy"])
async def test_an_app_below_a_path_sends_browsers_there_and_back(
    mounted: bool, settings: AuthSettings, clock: Clock, tortoise: object, provider: IdentityProvider
) -> None:
    """Mounted below another app, or behind a proxy that takes the path off, with a prefix for its routes."""
    settings.public_base_url = "http://localhost:8000/shop"
    settings.route_prefix = "/v1"
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock, pages=True, features=[social(provider, "acme")])
    outer = FastAPI()
    outer.mount("/shop", app)

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        """As a server with `--root-path` gives it on, which has the path again."""
        await app({**scope, "root_path": "/shop"}, receive, send)

    async with browser_of(outer if mounted else proxy) as browser:
        shown = (await browser.get("/shop/v1/auth/providers")).json()
        assert shown == [{"name": "acme", "label": "Acme", "start": "/shop/v1/auth/social/acme/start"}]
        assert shown[0]["start"] in (await browser.get("/shop/v1/account/sign-in")).text
        begun = await browser.get(shown[0]["start"])
        asked = parse_qs(urlsplit(begun.headers["location"]).query)
        assert asked["redirect_uri"] == ["http://localhost:8000/shop/v1/auth/social/acme/callback"]
        back = await goes_there(browser, shown[0]["start"])
        assert (back.status_code, back.headers["location"]) == (303, "/shop/v1/account/profile")
        assert (await browser.get("/shop/v1/auth/me")).json()["email"] == KIM
        provider.user("kim@elsewhere.example.com")
        begun = await browser.post("/shop/v1/account/identities/acme", json={}, headers=FETCH)
        async with httpx.AsyncClient() as away:
            back = await away.get(begun.json()["url"])
        answer = await browser.get(back.headers["location"])
        assert answer.headers["location"].startswith("/shop/v1/account/security?notice=identity_linked")
        assert await Identity.all().count() == 2
        provider.fail()
        page = await goes_there(browser, shown[0]["start"])
        assert (page.status_code, 'action="/shop/v1/account/sign-in' in page.text) == (400, True)
    await auth.close()


async def test_two_apps_in_one_process_have_their_own_providers(
    settings: AuthSettings, clock: Clock, tortoise: object, provider: IdentityProvider
) -> None:
    """Even with the same key: what was begun in one is not finished in the other, of another issuer."""
    apps = [FastAPI(), FastAPI()]
    with IdentityProvider().serving() as other:
        other.user("mallory@example.com")
        first = include_auth(apps[0], settings=settings, clock=clock, features=[social(provider, "acme")])
        second = include_auth(
            apps[1],
            settings=settings.model_copy(),
            clock=clock,
            pages=True,
            features=[social(other, "acme", "staff")],
        )
        async with browser_of(apps[0]) as one, browser_of(apps[1]) as two:
            names = [
                [each["name"] for each in (await app.get("/auth/providers")).json()] for app in (one, two)
            ]
            assert names == [["acme"], ["acme", "staff"]]
            assert (await one.get("/auth/social/staff/start", headers=FETCH)).status_code == 404
            assert (await goes_there(two, "/auth/social/acme/start")).status_code == 303
            begun = await one.get(f"/auth/social/acme/start?code_challenge={s256('v' * 43)}")
            async with httpx.AsyncClient() as away:
                back = (await away.get(begun.headers["location"])).headers["location"]
            two.cookies.update(one.cookies)
            assert "error=social_refused" in (await two.get(back)).headers["location"]
            there = await one.get(back)
            assert there.headers["location"].startswith("https://front.example/in?social_code=")
        assert {user.email for user in await User.all()} == {KIM, "mallory@example.com"}
        await asyncio.gather(first.close(), second.close())


async def test_an_app_of_tokens_gives_browsers_no_session(
    settings: AuthSettings, clock: Clock, tortoise: object, provider: IdentityProvider
) -> None:
    """Whatever happens at the provider, its front end gets a code or the name of an error, nothing else."""
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock, features=[social(provider, "acme")])
    start, verifier = f"/auth/social/acme/start?code_challenge={s256('v' * 43)}&next=/notes", "v" * 43
    async with browser_of(app) as browser:
        without = await browser.get("/auth/social/acme/start")
        assert without.headers["location"] == "https://front.example/in?error=code_challenge_needed"
        there = parse_qs(urlsplit((await goes_there(browser, start)).headers["location"]).query)
        assert ({*there}, there["next"]) == ({"social_code", "next"}, ["/notes"])
        assert not {*browser.cookies} & {"access_token", "refresh_token"}
        body = {"social_code": there["social_code"][0], "code_verifier": verifier}
        tokens = (await browser.post("/auth/social/exchange", json=body)).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}", **FETCH}
        provider.user("kim@elsewhere.example.com")
        connecting = await browser.post("/account/identities/acme", json={}, headers=headers)
        async with httpx.AsyncClient() as away:
            back = (await away.get(connecting.json()["url"])).headers["location"]
        async with browser_of(app) as stranger:
            assert "error=social_expired" in (await stranger.get(back)).headers["location"]
        done = await browser.get(back)
        assert done.headers["location"] == "https://front.example/in?done=identity_linked"
        assert await Identity.all().count() == 2
        for error, code in (("access_denied", "social_denied"), ("server_error", "provider_unavailable")):
            provider.fail(error)
            there = parse_qs(urlsplit((await goes_there(browser, start)).headers["location"]).query)
            assert there["error"] == [code]
    await auth.close()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in ("pwd", "otp", "mfa", "Passkey", "mail", "recovery")),
        *((name, {}) for name in ("", "a b", "a_b", "\u0430cme", "a/b", "x" * 33)),
        ("acme", {"issuer": f"https://{'x' * 250}.example"}),
    ],
)
def test_a_provider_has_a_name_and_an_issuer_that_can_be_stored_and_count_as_no_other_factor(
    name: str, options: dict[str, str]
) -> None:
    """One called passkey would otherwise open what needs a passkey."""
    with pytest.raises(ValueError, match="provider"):
        Oidc(name, **{"issuer": "https://acme.example"} | options)


def test_two_providers_with_the_same_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        SocialLogin(*(Oidc(name, issuer=f"https://{name}.example") for name in ("acme", "Acme")))
