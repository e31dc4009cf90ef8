"""Social login over HTTP, at a real provider of OpenID Connect on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import Oidc, SocialLogin
from fastapi_pluggable_auth.features.social_login.states import s256
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.models import Identity, Session, User

from .conftest import EMAIL, Account, Clock, claims_of, on_each_database

DIALECTS = ("sqlite",)
KIM = "kim@example.com"
BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider().serving() as provider:
        provider.user(KIM, name="Kim")
        yield provider


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, provider: IdentityProvider) -> FastAPI:
    app = FastAPI()
    acme = Oidc("acme", issuer=provider.issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    include_auth(app, settings=settings, clock=clock, pages=True, features=[SocialLogin(acme)])
    return app


@pytest.fixture
async def browser(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    base = "http://localhost:8000"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=BROWSER) as browser:
        yield browser


async def at_provider(url: str) -> str:
    """Where the provider sends the browser back to: path and query."""
    async with httpx.AsyncClient() as away:
        answer = await away.get(url)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].removeprefix("http://localhost:8000")


async def come_back(browser: httpx.AsyncClient, **asked: str) -> httpx.Response:
    begun = await browser.get("/auth/social/acme/start", params=asked)
    assert begun.status_code == 303, begun.text
    return await browser.get(await at_provider(begun.headers["location"]))


@on_each_database
async def test_somebody_new_gets_an_account_and_is_known_again(browser: httpx.AsyncClient) -> None:
    first = await come_back(browser, next="/notes")
    assert (first.status_code, first.headers["location"]) == (303, "/notes"), first.text
    assert (await browser.get("/auth/me")).json()["email"] == KIM
    user, identity = await User.get(), await Identity.get()
    assert (user.is_verified, user.display_name, identity.user_id) == (True, "Kim", user.id)
    assert (await Session.get()).factors == "acme"
    await browser.post("/auth/logout")
    assert (await come_back(browser)).status_code == 303
    assert await User.all().count() == 1
    assert (await browser.get("/auth/me")).json()["email"] == KIM


@on_each_database
async def test_a_client_takes_its_tokens_with_the_verifier_of_its_challenge(
    browser: httpx.AsyncClient, client: httpx.AsyncClient, app: FastAPI
) -> None:
    verifier = "v" * 43
    app.state.pluggable_auth.features.settings[0].social_return_url = "https://app.example.com/signed-in"
    back = await come_back(browser, code_challenge=s256(verifier))
    assert back.headers["location"].startswith("https://app.example.com/signed-in?social_code=")
    code = parse_qs(urlsplit(back.headers["location"]).query)["social_code"][0]
    wrong = await client.post("/auth/social/exchange", json={"social_code": code, "code_verifier": "w" * 43})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "social_expired")
    body = {"social_code": code, "code_verifier": verifier}
    answers = await asyncio.gather(*(client.post("/auth/social/exchange", json=body) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 400, 401}
    assert await Session.all().count() == 1
    (right,) = [answer for answer in answers if answer.status_code == 200]
    assert claims_of(right.json()["access_token"])["amr"] == ["acme"]


async def test_an_address_that_is_not_vouched_for_takes_over_nothing(
    browser: httpx.AsyncClient, account: Account, provider: IdentityProvider
) -> None:
    """A-93, A-95: nOAuth: https://www.descope.com/blog/post/noauth."""
    provider.user(EMAIL, email_verified=False)
    answer = await come_back(browser)
    assert "Your e-mail address" in answer.text
    assert await Identity.all().count() == 0
    provider.user(EMAIL)
    assert (await come_back(browser)).status_code == 303
    assert (await Identity.get().select_related("user")).user.email == EMAIL


@pytest.mark.parametrize(
    "extra",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"nonce": "another"},
        {"exp": 1},
        {"sub": ""},
        {"aud": [CLIENT_ID, "another"]},
        {"nonce": None},
        {"iat": 99999999999},
        {"at_hash": "x"},
    ],
)
async def test_a_token_that_is_not_for_this_sign_in_is_refused(
    extra: dict[str, Any], browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """A-93."""
    provider.extra = extra
    answer = await come_back(browser)
    assert answer.status_code == 400
    assert "not valid" in answer.text
    assert await User.all().count() == 0


async def test_a_state_of_another_browser_is_refused(browser: httpx.AsyncClient, app: FastAPI) -> None:
    """A-94: Login CSRF: CVE-2025-68481, CVE-2025-14546, CVE-2025-68158."""
    begun = await browser.get("/auth/social/acme/start")
    back = await at_provider(begun.headers["location"])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost:8000", headers=BROWSER
    ) as other:
        assert (await other.get(back)).status_code == 400
    assert (await browser.get(back)).status_code == 303
    assert (await browser.get(back)).status_code == 400
