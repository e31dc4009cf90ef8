"""The tokens of providers: kept only where the app says so, sealed, and renewed by one request at a time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Google, Microsoft, Oidc, SocialLogin
from fastapi_pluggable_auth.features.social_login.models import Identity
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.models import User

from .conftest import Clock, on_each_database
from .test_social_login import BROWSER, KIM, at_provider, provider

__all__ = ["provider"]

DIALECTS = ("sqlite",)
CREDENTIALS: dict[str, Any] = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, provider: IdentityProvider) -> FastAPI:
    app = FastAPI()
    kept = Oidc("acme", issuer=provider.issuer, store_tokens=True, **CREDENTIALS)
    passing = Oidc("passing", issuer=provider.issuer, **CREDENTIALS)
    include_auth(app, settings=settings, clock=clock, pages=True, features=[SocialLogin(kept, passing)])
    provider.clock = lambda: clock().timestamp()
    return app


@pytest.fixture
def auth(app: FastAPI) -> Auth:
    auth: Auth = app.state.pluggable_auth
    return auth


@pytest.fixture
async def browser(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    base, transport = "http://localhost:8000", httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=BROWSER) as browser:
        yield browser


@pytest.fixture
def asked(provider: IdentityProvider) -> list[dict[str, str]]:
    """What is sent to the token endpoint from now on, which answers as it would."""
    seen: list[dict[str, str]] = []
    give = provider.token

    def token(sent: dict[str, str]) -> dict[str, Any]:
        seen.append(sent)
        return give(sent)

    provider.token = token  # type: ignore[method-assign]
    return seen


async def sign_in(browser: httpx.AsyncClient, name: str = "acme") -> User:
    begun = await browser.get(f"/auth/social/{name}/start")
    back = await browser.get(await at_provider(begun.headers["location"]))
    assert back.status_code == 303, back.text
    return await User.get(email=KIM)


async def refusal(auth: Auth, user: User) -> tuple[int, str]:
    with pytest.raises(AuthError) as refused:
        await auth.provider_token(user, "acme")
    return refused.value.code.status, refused.value.code.code


@on_each_database
async def test_of_ten_at_once_one_renews_and_all_get_the_new_token(
    browser: httpx.AsyncClient, auth: Auth, clock: Clock, asked: list[dict[str, str]]
) -> None:
    user = await sign_in(browser)
    first = await auth.provider_token(user, "acme")
    assert await auth.provider_token(user, "acme") == first
    clock.advance(minutes=59, seconds=1)
    del asked[:]
    tokens = await asyncio.gather(*(auth.provider_token(user, "acme") for _ in range(10)))
    assert len({*tokens}) == 1
    assert tokens[0] != first
    assert [each["grant_type"] for each in asked] == ["refresh_token"]
    clock.advance(hours=1)  # by the new refresh token, as the first was good once
    assert await auth.provider_token(user, "acme") not in (first, tokens[0])


async def test_a_provider_that_says_no_end_is_not_asked_again(
    browser: httpx.AsyncClient,
    auth: Auth,
    clock: Clock,
    provider: IdentityProvider,
    asked: list[dict[str, str]],
) -> None:
    provider.expires_in = None
    user = await sign_in(browser)
    first = await auth.provider_token(user, "acme")
    clock.advance(days=400)
    assert await auth.provider_token(user, "acme") == first
    assert len(asked) == 1


async def test_no_token_is_readable_at_rest_or_good_in_another_row(
    browser: httpx.AsyncClient, auth: Auth, provider: IdentityProvider
) -> None:
    """ASVS 11.3.2, 14.2.6."""
    user = await sign_in(browser)
    token = await auth.provider_token(user, "acme")
    identity = await Identity.get()
    said = str([getattr(identity, name) for name in Identity._meta.db_fields])
    assert identity.tokens
    assert token not in said
    assert not any(each in said for each in provider.refresh_tokens)
    assert "tokens" not in repr(identity)
    exported = await browser.get("/account/export")
    assert exported.json()["identities"]
    assert identity.tokens not in exported.text
    provider.user("eve@example.com")
    await browser.post("/auth/logout")
    begun = await browser.get("/auth/social/acme/start")
    await browser.get(await at_provider(begun.headers["location"]))
    theirs = await Identity.get(email="eve@example.com")
    await Identity.filter(id=theirs.id).update(tokens=identity.tokens)
    eve = await User.get(email="eve@example.com")
    assert await refusal(auth, eve) == (409, "provider_token_needed")
    auth.settings.jwt_secret = secrets.token_urlsafe(48)
    assert await refusal(auth, user) == (409, "provider_token_needed")


async def test_without_store_tokens_none_is_kept_and_those_that_were_are_dropped(
    browser: httpx.AsyncClient, auth: Auth
) -> None:
    user = await sign_in(browser, "passing")
    identity = await Identity.get()
    assert identity.tokens is None
    with pytest.raises(ValueError, match="store_tokens=True"):
        await auth.provider_token(user, "passing")
    with pytest.raises(LookupError, match="'nobody'"):
        await auth.provider_token(user, "nobody")
    assert await refusal(auth, user) == (409, "provider_token_needed")  # of the other one
    await Identity.filter(id=identity.id).update(tokens="of a former setting")
    await browser.post("/auth/logout")
    await sign_in(browser, "passing")
    assert (await Identity.get()).tokens is None


async def test_what_the_user_has_withdrawn_asks_for_another_sign_in(
    browser: httpx.AsyncClient,
    auth: Auth,
    clock: Clock,
    provider: IdentityProvider,
    asked: list[dict[str, str]],
) -> None:
    user = await sign_in(browser)
    provider.refresh_tokens.clear()
    clock.advance(hours=2)
    assert await refusal(auth, user) == (409, "provider_token_needed")
    del asked[:]
    assert await refusal(auth, user) == (409, "provider_token_needed")
    assert not asked
    await browser.post("/auth/logout")
    await sign_in(browser)
    assert await auth.provider_token(user, "acme")


async def test_a_provider_that_is_down_costs_no_token(
    browser: httpx.AsyncClient, auth: Auth, clock: Clock, provider: IdentityProvider
) -> None:
    def down(handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(503)

    user = await sign_in(browser)
    clock.advance(hours=2)
    provider.raw = down
    assert await refusal(auth, user) == (503, "provider_unavailable")
    provider.raw = None
    assert await auth.provider_token(user, "acme")


async def test_one_who_died_with_the_turn_keeps_nobody_waiting_for_good(
    browser: httpx.AsyncClient, auth: Auth, clock: Clock
) -> None:
    """As with kill -9 while the provider is asked."""
    user = await sign_in(browser)
    clock.advance(hours=2)
    await Identity.all().update(renewing_until=clock())
    clock.advance(seconds=1)
    assert await auth.provider_token(user, "acme")


async def test_a_new_grant_without_a_refresh_token_leaves_the_one_that_is_there(
    browser: httpx.AsyncClient, auth: Auth, clock: Clock, provider: IdentityProvider
) -> None:
    """Google gives one with the first consent only."""

    give = provider.token

    def without(sent: dict[str, str]) -> dict[str, Any]:
        answer = give(sent)
        if sent["grant_type"] == "authorization_code":
            provider.refresh_tokens.discard(answer.pop("refresh_token"))
        return answer

    await sign_in(browser)
    await browser.post("/auth/logout")
    provider.token = without  # type: ignore[method-assign]
    user = await sign_in(browser)
    clock.advance(hours=2)
    assert await auth.provider_token(user, "acme")


async def test_an_identity_that_is_held_gives_no_token(browser: httpx.AsyncClient, auth: Auth) -> None:
    user = await sign_in(browser)
    await Identity.all().update(held_since=auth.clock())
    assert await refusal(auth, user) == (409, "provider_token_needed")


def test_providers_that_have_their_own_way_are_asked_for_refresh_tokens() -> None:
    """https://developers.google.com/identity/protocols/oauth2/web-server#offline and
    https://learn.microsoft.com/entra/identity-platform/scopes-oidc#offline_access."""
    google = Google(store_tokens=True, scopes=("openid", "email", "calendar"), parameters={"hl": "de"})
    asked = {"access_type": "offline", "prompt": "consent", "hl": "de"}
    assert (google.scopes[2], google.parameters) == ("calendar", asked)
    assert "offline_access" in Microsoft(store_tokens=True).scopes
    assert (Google().parameters, Microsoft().scopes[-1]) == ({}, "profile")


def test_a_provider_is_refused_a_text_where_several_are_meant() -> None:
    """Of which each letter would be one, and each part of the text a domain."""
    for option in ("allowed_domains", "native_client_ids"):
        with pytest.raises(ValueError, match=option):
            Google(**{option: "acme.example"})
    assert "acme.example" in Google(allowed_domains=["ACME.example"]).allowed_domains
