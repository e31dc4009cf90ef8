"""Tokens in cookies, for browsers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from http.cookies import Morsel, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError
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
from fastapi_pluggable_auth.hooks import SessionEnded
from fastapi_pluggable_auth.models import RefreshToken, Session, User

from .conftest import EMAIL, PASSWORD, Clock, Mailbox, on_each_database
from .test_sessions import statuses

DIALECTS = ("sqlite",)
BASE = "https://app.example.com"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "X-Requested-With": "fetch"}
ACCESS, REFRESH, DEVICE = "__Host-access_token", "__Host-refresh_token", "__Host-device"
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
    """All but the one by which the browser is known again."""
    return {cookie.name: cookie.value or "" for cookie in client.cookies.jar if cookie.name != DEVICE}


def client_with(app: FastAPI, cookies: dict[str, str], **headers: str) -> httpx.AsyncClient:
    """A client that sends just these cookies and headers."""
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())} if cookies else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=BASE, headers={**cookie, **headers})


async def usable_tokens() -> int:
    return await RefreshToken.filter(revoked=False, session__revoked_at=None).count()


async def test_a_browser_gets_its_tokens_in_cookies_alone(browser: httpx.AsyncClient) -> None:
    """A-75: attributes of login and refresh, and no token in the body."""
    login = await browser.post("/auth/login", json=CREDENTIALS)
    for answer in (login, await browser.post("/auth/refresh")):
        assert answer.json() == {"token_type": "cookie", "expires_in": 900}
        assert answer.headers["cache-control"] == "no-store"
        cookies = set_cookies(answer)
        assert cookies.keys() - {DEVICE} == {ACCESS, REFRESH}
        assert (DEVICE in cookies) == (answer is login)
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


async def test_a_browser_that_is_not_to_remember_forgets_its_tokens_when_it_is_closed(
    browser: httpx.AsyncClient, clock: Clock
) -> None:
    """What was chosen is kept over refreshes, asked for or on the way, until the next sign-in."""
    login = await browser.post("/auth/login", json={**CREDENTIALS, "remember": False})
    clock.advance(minutes=16)
    renewed = await browser.get("/auth/me")
    asked = await browser.post("/auth/refresh")
    for answer in (login, renewed, asked):
        assert answer.status_code == 200
        cookies = set_cookies(answer)
        assert [cookies[name]["max-age"] for name in (ACCESS, REFRESH)] == ["", ""]
        assert all(attributes(cookie)["httponly"] for cookie in cookies.values())
    # On the server the session ends as any other.
    clock.advance(days=7)
    assert (await browser.post("/auth/refresh")).status_code == 401
    assert cookies_of(browser) == {}
    await browser.post("/auth/login", json={**CREDENTIALS, "remember": False})
    for body in (CREDENTIALS, CREDENTIALS | {"remember": True}):
        await browser.post("/auth/login", json=body)
        cookies = set_cookies(await browser.post("/auth/refresh"))
        assert int(cookies[REFRESH]["max-age"]) > 604_000
        assert cookies_of(browser).keys() == {ACCESS, REFRESH}


async def test_a_logout_of_one_device_leaves_the_others(
    app: FastAPI, signed_in: httpx.AsyncClient, auth: Auth
) -> None:
    ended: list[SessionEnded] = []
    auth.on(SessionEnded)(ended.append)
    cookies = cookies_of(signed_in)
    async with client_with(app, {}, **OWN_PAGE) as other, client_with(app, cookies, **OWN_PAGE) as late:
        await other.post("/auth/login", json=CREDENTIALS)
        assert (await signed_in.post("/auth/logout", json={"everywhere": "no"})).status_code == 422
        answer = await signed_in.post("/auth/logout", json={"everywhere": False})
        assert (answer.status_code, cookies_of(signed_in)) == (200, {})
        for path in ("/auth/me", "/account/sessions"):  # by the access token of the ended session
            assert (await late.get(path)).status_code == 401
        async with client_with(app, cookies, **OWN_PAGE) as later:
            assert (await later.post("/auth/logout", json={"everywhere": False})).status_code == 200
            assert (await later.post("/auth/refresh")).status_code == 401
        assert (await other.get("/auth/me")).status_code == 200
        assert (len(ended), await usable_tokens()) == (1, 1)
        # Nor does a form, as before.
        form = {"data": {"everywhere": "false"}, "headers": {"X-Requested-With": "fetch"}}
        assert (await other.post("/auth/logout", **form)).status_code == 200  # type: ignore[arg-type]
        assert await usable_tokens() == 0


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
        for body in ("", "null"):
            headers = {"Content-Type": "application/json"}
            answer = await client.post("/auth/refresh", content=body, headers=headers)
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


@pytest.mark.parametrize(
    "header", ["Basic YTpi", "basic YTpi", "Digest username=a", "Token x", "Bearerx y", ""]
)
async def test_a_header_of_another_scheme_leaves_the_cookies_on(
    app: FastAPI, signed_in: httpx.AsyncClient, clock: Clock, header: str
) -> None:
    """A-75: the browser repeats the password of a proxy with each request. It proves nothing to the app."""
    signed_in.headers["Authorization"] = header
    assert (await signed_in.get("/auth/me")).json()["email"] == EMAIL
    assert (await signed_in.get("/page")).text == EMAIL
    clock.advance(minutes=16)
    assert {ACCESS, REFRESH} <= set_cookies(await signed_in.get("/auth/me")).keys()
    async with client_with(app, cookies_of(signed_in), Authorization=header) as foreign:
        foreign.headers["Sec-Fetch-Site"] = "cross-site"
        answer = await foreign.post("/page")
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_refused")
    async with client_with(app, {}, Authorization=header) as nobody:
        assert (await nobody.get("/auth/me")).json()["code"] == "not_authenticated"
    assert (await signed_in.post("/auth/refresh")).status_code == 200
    assert (await signed_in.post("/auth/logout")).status_code == 200
    login = await signed_in.post("/auth/login", json=CREDENTIALS)
    assert set(set_cookies(login)) == {ACCESS, REFRESH, DEVICE}


HOST_ROUTES = {
    "/auth/me": 200,
    "/own-response": 200,
    "/teapot": 418,
    "/broken": 500,
    "/twice": 200,
    "/page": 200,
}


@pytest.mark.parametrize(("path", "status"), HOST_ROUTES.items())
@pytest.mark.parametrize("gone", [True, False])
async def test_an_old_access_cookie_is_renewed_whatever_the_route_does(
    signed_in: httpx.AsyncClient, clock: Clock, path: str, status: int, gone: bool
) -> None:
    """A-75: once per request, and no cache keeps the answer."""
    clock.advance(minutes=14)  # the login of `/twice` is recent still
    await signed_in.post("/auth/reauthenticate", json={"password": PASSWORD})
    clock.advance(minutes=2)
    before = cookies_of(signed_in)
    if gone:
        signed_in.cookies.delete(ACCESS)
    answer = await signed_in.get(path)
    assert answer.status_code == status
    assert answer.headers["cache-control"] == "no-store"
    new = set_cookies(answer)
    assert {ACCESS, REFRESH} <= new.keys()
    assert new[REFRESH].value != before[REFRESH]
    assert await RefreshToken.all().count() == 2
    again = await signed_in.get(path)
    assert (again.status_code, ACCESS in set_cookies(again)) == (status, False)
    assert await RefreshToken.all().count() == 2


async def test_cookies_of_the_host_stay_beside_ours(signed_in: httpx.AsyncClient, clock: Clock) -> None:
    clock.advance(minutes=16)
    assert set(set_cookies(await signed_in.get("/own-response"))) == {"mine", ACCESS, REFRESH}
    answer = await signed_in.get("/own-response")
    assert answer.headers["cache-control"] == "public, max-age=600"


@on_each_database
@pytest.mark.parametrize("gone", [True, False])
async def test_tabs_that_renew_at_once_stay_signed_in_together(
    app: FastAPI, signed_in: httpx.AsyncClient, clock: Clock, gone: bool
) -> None:
    """R-01: twenty requests, one rotation, one usable token."""
    clock.advance(minutes=16)
    old = cookies_of(signed_in)
    if gone:
        del old[ACCESS]
    async with client_with(app, old, **OWN_PAGE) as tabs:
        answers = await asyncio.gather(*(tabs.get("/auth/me") for _ in range(20)))
        assert statuses(answers) == {200: 20}
        assert len({set_cookies(answer)[REFRESH].value for answer in answers}) == 1
        assert (await usable_tokens(), await RefreshToken.all().count()) == (1, 2)
        new = {name: set_cookies(answers[0])[name].value for name in (ACCESS, REFRESH)}
    async with client_with(app, new, **OWN_PAGE) as tab:
        assert (await tab.get("/auth/me")).status_code == 200
        assert (await tab.post("/auth/refresh")).status_code == 200


@on_each_database
async def test_a_tab_that_is_two_rotations_late_is_refused_and_nothing_is_cleared(
    app: FastAPI, signed_in: httpx.AsyncClient
) -> None:
    """A-76: a loser of a race never signs the others out."""
    late = {REFRESH: cookies_of(signed_in)[REFRESH]}
    for _ in range(2):
        assert (await signed_in.post("/auth/refresh")).status_code == 200
    async with client_with(app, late, **OWN_PAGE) as tab:
        for answer in (await tab.get("/auth/me"), await tab.post("/auth/refresh")):
            assert (answer.status_code, answer.json()["code"]) == (401, "refresh_raced")
            assert not set_cookies(answer)
        page = await tab.get("/page")
        assert (page.status_code, page.headers["location"]) == (303, "/account/sign-in?next=%2Fpage")
        assert not set_cookies(page)
    assert (await signed_in.get("/auth/me")).status_code == 200
    assert (await signed_in.post("/auth/refresh")).status_code == 200


async def test_a_spent_cookie_after_the_leeway_still_ends_the_session(
    app: FastAPI, signed_in: httpx.AsyncClient, clock: Clock, mailbox: Mailbox
) -> None:
    """A-42."""
    stolen = {REFRESH: cookies_of(signed_in)[REFRESH]}
    assert (await signed_in.post("/auth/refresh")).status_code == 200
    assert (await signed_in.get("/auth/me")).status_code == 200
    clock.advance(seconds=11)
    async with client_with(app, stolen, **OWN_PAGE) as thief:
        answer = await thief.get("/auth/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert await usable_tokens() == 0
    answer = await signed_in.get("/auth/me")
    assert answer.status_code == 401
    assert set(set_cookies(answer)) == {ACCESS, REFRESH}
    assert cookies_of(signed_in) == {}
    assert [message["To"] for message in mailbox.messages] == [EMAIL]


async def test_cookies_of_a_session_that_ended_are_deleted(signed_in: httpx.AsyncClient) -> None:
    """A-76."""
    await User.all().update(is_active=False)
    answer = await signed_in.get("/own-response")
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert {cookie["max-age"] for cookie in set_cookies(answer).values()} == {"0"}
    assert "clear-site-data" not in answer.headers
    assert (await signed_in.get("/auth/me")).json()["code"] == "not_authenticated"


@on_each_database
async def test_a_database_that_is_down_deletes_no_cookies(signed_in: httpx.AsyncClient, clock: Clock) -> None:
    clock.advance(minutes=16)
    before = cookies_of(signed_in)
    database, table = Session._meta.db, Session._meta.db_table
    await database.execute_script(f"ALTER TABLE {table} RENAME TO away")
    try:
        answer = await signed_in.get("/auth/me")
    finally:
        await database.execute_script(f"ALTER TABLE away RENAME TO {table}")
    assert (answer.status_code, set_cookies(answer)) == (503, {})
    assert cookies_of(signed_in) == before
    assert (await signed_in.get("/auth/me")).status_code == 200


@pytest.mark.parametrize("asked_for", [True, False])
async def test_logging_out_clears_the_cookies_and_what_the_site_stored(
    signed_in: httpx.AsyncClient, settings: AuthSettings, asked_for: bool
) -> None:
    """A-76: the deletion repeats all attributes. The rest only where the settings say so, and never the
    cache, which keeps Chromium busy for seconds."""
    settings.clear_site_data = asked_for
    answer = await signed_in.post("/auth/logout")
    assert answer.status_code == 200
    assert answer.headers.get("clear-site-data") == ('"storage"' if asked_for else None)
    cookies = set_cookies(answer)
    assert set(cookies) == {ACCESS, REFRESH}
    for cookie in cookies.values():
        assert cookie.value == ""
        assert cookie["max-age"] == "0"
        expected = {"path": "/", "secure": True, "httponly": True, "samesite": "Lax"}
        assert attributes(cookie) == expected
    assert cookies_of(signed_in) == {}
    assert await usable_tokens() == 0


async def test_logging_out_with_an_old_access_cookie_leaves_none(
    signed_in: httpx.AsyncClient, clock: Clock
) -> None:
    """A-76."""
    clock.advance(minutes=16)
    assert (await signed_in.post("/auth/logout")).status_code == 200
    assert (cookies_of(signed_in), await usable_tokens()) == ({}, 0)


async def test_a_logout_may_be_repeated(app: FastAPI, signed_in: httpx.AsyncClient) -> None:
    """A-46."""
    before = cookies_of(signed_in)
    await signed_in.post("/auth/logout")
    async with client_with(app, before, **OWN_PAGE) as late:
        answer = await late.post("/auth/logout")
    assert (answer.status_code, set(set_cookies(answer))) == (200, {ACCESS, REFRESH})


async def test_what_ends_the_own_session_clears_its_cookies(app: FastAPI, browser: httpx.AsyncClient) -> None:
    """A-76."""
    change = {"old_password": PASSWORD, "new_password": "a new horse battery"}

    async def own_id() -> str:
        return str((await browser.get("/account/sessions")).json()[0]["id"])

    async def end(what: str) -> httpx.Response:
        if what == "session":
            return await browser.delete(f"/account/sessions/{await own_id()}")
        if what == "password":
            return await browser.post("/account/change-password", json=change)
        return await browser.delete("/account")

    for what, password in (("session", PASSWORD), ("password", PASSWORD), ("account", "a new horse battery")):
        await browser.post("/auth/login", json={"email": EMAIL, "password": password})
        answer = await end(what)
        assert answer.status_code == 204, answer.text
        assert {cookie["max-age"] for cookie in set_cookies(answer).values()} == {"0"}
        assert cookies_of(browser) == {}


async def test_ending_another_session_keeps_the_own_cookies(
    app: FastAPI, signed_in: httpx.AsyncClient
) -> None:
    async with client_with(app, {}) as phone:
        assert (await phone.post("/auth/login", json=CREDENTIALS)).status_code == 200
    other = next(each for each in (await signed_in.get("/account/sessions")).json() if not each["current"])
    answer = await signed_in.delete(f"/account/sessions/{other['id']}")
    assert (answer.status_code, set_cookies(answer)) == (204, {})


@pytest.mark.parametrize("value", ["a.b.c", "é", "x" * 9000, '"quoted; text"', "%00"])
async def test_any_value_of_a_cookie_is_refused_and_deleted(
    app: FastAPI, browser: httpx.AsyncClient, value: str
) -> None:
    cookie = f"{ACCESS}={value}; {REFRESH}={value}".encode()
    for method, path in (("GET", "/auth/me"), ("POST", "/auth/refresh")):
        answer = await browser.request(method, path, headers=[(b"Cookie", cookie)])
        assert answer.status_code == 401
        assert set(set_cookies(answer)) == {ACCESS, REFRESH}


async def test_tokens_of_one_cookie_do_not_work_in_the_other(
    app: FastAPI, signed_in: httpx.AsyncClient
) -> None:
    """A-56."""
    tokens = cookies_of(signed_in)
    swapped = {ACCESS: tokens[REFRESH], REFRESH: tokens[ACCESS]}
    async with client_with(app, swapped, **OWN_PAGE) as client:
        assert (await client.get("/auth/me")).status_code == 401
    assert (await signed_in.get("/auth/me")).status_code == 200


async def test_with_the_transport_off_cookies_are_neither_read_nor_set(
    settings: AuthSettings, app: FastAPI, signed_in: httpx.AsyncClient, clock: Clock
) -> None:
    """A-75."""
    settings.cookies = False
    plain = FastAPI()
    auth = include_auth(plain, settings=settings, clock=clock)
    cookies = cookies_of(signed_in)
    async with client_with(plain, cookies, **OWN_PAGE, Origin="https://evil.example") as client:
        assert (await client.get("/auth/me")).json()["code"] == "not_authenticated"
        answer = await client.post("/auth/login", json=CREDENTIALS)
        assert set(answer.json()) == {"access_token", "refresh_token", "token_type"}
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        logout = await client.post("/auth/logout", headers=headers)
        assert (await client.post("/auth/refresh")).status_code == 422
        assert not set_cookies(answer)
        assert not set_cookies(logout)
    await auth.close()


def test_pages_turn_the_transport_on(settings: AuthSettings) -> None:
    settings.cookies = False
    assert not include_auth(FastAPI(), settings=settings).uses_cookies
    assert include_auth(FastAPI(), settings=settings, pages=True).uses_cookies


async def test_plain_http_has_cookies_without_prefix_and_says_so(
    settings: AuthSettings,
    auth: Auth,
    tortoise: TortoiseContext,
    mailbox: Mailbox,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A-75: for development on localhost only."""
    await verified_user(auth)
    settings.public_base_url = "http://localhost:8000"
    plain = FastAPI()
    with caplog.at_level(logging.WARNING):
        local = include_auth(plain, settings=settings, clock=clock)
    assert [record.message for record in caplog.records if "Secure" in record.message] == [
        "AUTH_PUBLIC_BASE_URL is not https: cookies are set without Secure. For development only."
    ]
    transport = httpx.ASGITransport(plain)
    headers = {"Origin": "http://localhost:8000"}  # all that a browser sends without TLS elsewhere
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost:8000", headers=headers
    ) as client:
        cookies = set_cookies(await client.post("/auth/login", json=CREDENTIALS))
        assert set(cookies) == {"access_token", "refresh_token", "device"}
        for cookie in cookies.values():
            assert attributes(cookie) == {"path": "/", "httponly": True, "samesite": "Lax"}
    async with client_with(plain, {name: each.value for name, each in cookies.items()}) as client:
        assert (await client.get("/auth/me")).status_code == 200
    await local.close()


async def test_a_page_sends_whoever_is_not_signed_in_to_the_sign_in_page_and_back(
    browser: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-81."""
    answer = await browser.get("/page?a=1&b=%2F%2Fevil.example")
    assert (answer.status_code, answer.headers["cache-control"]) == (303, "no-store")
    location = urlsplit(answer.headers["location"])
    assert location.path == "/account/sign-in"
    assert parse_qs(location.query) == {"next": ["/page?a=1&b=%2F%2Fevil.example"]}
    settings.sign_in_url = "https://spa.example.com/login?lang=de"
    answer = await browser.get("/page")
    assert answer.headers["location"] == "https://spa.example.com/login?lang=de&next=%2Fpage"
    answer = await browser.post("/page")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    await browser.post("/auth/login", json=CREDENTIALS)
    assert (await browser.get("/page")).text == EMAIL


async def test_a_page_deletes_dead_cookies_on_the_way_to_the_sign_in_page(
    signed_in: httpx.AsyncClient, clock: Clock
) -> None:
    """A-76."""
    await Session.all().update(revoked_at=clock())
    answer = await signed_in.get("/page")
    assert (answer.status_code, set(set_cookies(answer))) == (303, {ACCESS, REFRESH})


# --- which cookies are ours ------------------------------------------------------------------------------

OTHER_NAMES = [
    "\xa0{}",
    "{}\xa0",
    "\x85{}",
    "\x0b{}",
    "\x0c{}",
    "\x1c{}",
    "\t{}",
    "{}\t",
    "{} ",
    '"{}"',
    "x{}",
    "{}x",
    "%5F{}",
]


@pytest.mark.parametrize("spelling", OTHER_NAMES)
async def test_a_cookie_of_nearly_our_name_is_not_ours(
    app: FastAPI, signed_in: httpx.AsyncClient, spelling: str
) -> None:
    """A-75: any page may set those, as no browser guards their prefix."""
    cookies = cookies_of(signed_in)
    assert len(cookies) == 2
    for name, value in cookies.items():
        for pair in (f"{spelling.format(name)}={value}", f"{name.swapcase()}={value}", f"a={name}={value}"):
            async with client_with(app, {}, **OWN_PAGE) as client:
                headers = [(b"cookie", f"a=1; {pair}; b=2".encode("latin-1"))]
                answer = await client.get("/auth/me", headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated"), pair
                assert not set_cookies(answer)


@pytest.mark.parametrize("name", [ACCESS, REFRESH])
@pytest.mark.parametrize("other", ["theirs", "", "same"])
async def test_two_cookies_of_one_name_are_refused_and_kept(
    app: FastAPI, signed_in: httpx.AsyncClient, name: str, other: str
) -> None:
    """A-75: a host beside this one may have set the second, for the whole domain. Deleting would leave the
    browser with that one alone, and sign it in as somebody else."""
    cookies = cookies_of(signed_in)
    second = cookies[name] if other == "same" else other
    both = "; ".join(f"{key}={value}" for key, value in cookies.items())
    for lines in ([f"{both}; {name}={second}"], [f"{name}={second}; {both}"], [both, f"{name}={second}"]):
        async with client_with(app, {}, **OWN_PAGE) as client:
            headers = [(b"cookie", line.encode()) for line in lines]
            for method, path in (("GET", "/auth/me"), ("POST", "/auth/logout"), ("POST", "/auth/refresh")):
                if path == "/auth/refresh" and name == ACCESS:
                    continue
                answer = await client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token"), path
                assert not set_cookies(answer)
            page = await client.get("/page", headers=headers)
            assert (page.status_code, set_cookies(page)) == (303, {})
    assert (await signed_in.get("/auth/me")).status_code == 200
    assert await usable_tokens() == 1


async def test_a_browser_is_known_by_a_cookie_that_outlives_its_session(
    browser: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-14: others who guess do not delay it; no script reads it, and the body has nothing of it."""
    settings.throttle_free_attempts, settings.throttle_first_pause = 5, timedelta(seconds=10)
    answer = await browser.post("/auth/login", json=CREDENTIALS | {"device": None})
    assert answer.json().keys() == {"token_type", "expires_in"}
    device = set_cookies(answer)[DEVICE]
    assert (device["httponly"], device["secure"], device["path"]) == (True, True, "/")
    assert (device["samesite"], int(device["max-age"])) == ("Lax", 90 * 86400)
    assert (await browser.post("/auth/logout")).status_code == 200
    assert browser.cookies[DEVICE] == device.value
    wrong = CREDENTIALS | {"password": "wrong password"}
    transport = browser._transport
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=OWN_PAGE) as other:
        statuses = [(await other.post("/auth/login", json=wrong)).status_code for _ in range(6)]
        assert statuses == [401] * 5 + [429]
        assert (await other.post("/auth/login", json=CREDENTIALS)).status_code == 429
        header = [(b"cookie", f"\xa0{DEVICE}={device.value}".encode("latin-1"))]
        assert (await other.post("/auth/login", json=CREDENTIALS, headers=header)).status_code == 429
    again = await browser.post("/auth/login", json=CREDENTIALS)
    assert again.status_code == 200
    assert set_cookies(again)[DEVICE].value == device.value


async def test_no_page_of_another_site_replaces_what_a_browser_is_known_by(
    browser: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await browser.post("/auth/forgot-password", json={"email": EMAIL})
    path = mailbox.link().removeprefix(BASE)
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example", "Accept": "text/html"}
    answer = await browser.post(f"{path}/form", data={"new_password": "a new horse battery"}, headers=headers)
    assert DEVICE not in set_cookies(answer)


async def test_the_browser_that_reset_the_password_is_known(
    browser: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await browser.post("/auth/forgot-password", json={"email": EMAIL})
    path, body = mailbox.link().removeprefix(BASE), {"new_password": "a new horse battery"}
    answer = await browser.post(path, json=body)
    assert (answer.status_code, answer.json().keys()) == (200, {"detail"})
    assert DEVICE in set_cookies(answer)


# --- apps in a web view ----------------------------------------------------------------------------------

WEB_VIEWS = [
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "http://tauri.localhost",
    "https://localhost",
    "app://bundle",
    "chrome-extension://abcdefghijklmnop",
]


@pytest.mark.parametrize("origin", WEB_VIEWS)
async def test_an_app_in_a_web_view_gets_tokens_where_the_settings_name_its_origin(
    app: FastAPI, browser: httpx.AsyncClient, settings: AuthSettings, origin: str
) -> None:
    """A-75: in the body, and no cookies, which would not come back from there."""
    page = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    async with client_with(app, {}, **page) as client:
        refused = await client.post("/auth/login", json=CREDENTIALS)
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf_refused")
        settings.token_origins = [*WEB_VIEWS]
        login = await client.post("/auth/login", json=CREDENTIALS)
        assert set(login.json()) == {"access_token", "refresh_token", "token_type"}
        refresh = await client.post("/auth/refresh", json={"token": login.json()["refresh_token"]})
        assert refresh.status_code == 200
        headers = {"Authorization": f"Bearer {refresh.json()['access_token']}"}
        assert (await client.patch("/account", json={"display_name": "A"}, headers=headers)).is_success
        empty = await client.post("/auth/refresh")
        assert (empty.status_code, empty.json()["code"]) == (422, "validation_error")
        logout = await client.post("/auth/logout", headers=headers)
        for answer in (login, refresh, empty, logout):
            assert not set_cookies(answer)


async def test_a_page_of_another_site_never_gets_tokens(
    app: FastAPI, browser: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-75: nor an own page, from which a script could take them."""
    settings.token_origins = ["capacitor://localhost", "http://localhost:3000", BASE]
    settings.trusted_origins = ["http://localhost:3000"]
    foreign = (
        [("origin", "https://evil.example")],
        [("origin", "null")],
        [("origin", "")],
        [("origin", "capacitor://localhost.evil.example")],
        [("origin", "capacitor://localhost:1")],
        [("origin", "CAPACITOR://localhost")],
        [("origin", "http://localhost")],
        [("origin", "capacitor://localhost, https://evil.example")],
        [("origin", "capacitor://localhost"), ("origin", "https://evil.example")],
        [("origin", "capacitor://localhost"), ("origin", "capacitor://localhost")],
        [("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "none")],
    )
    async with client_with(app, {}) as client:
        for headers in foreign:
            answer = await client.post("/auth/login", json=CREDENTIALS, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "csrf_refused"), headers
        for origin in (BASE, "http://localhost:3000"):
            answer = await client.post("/auth/login", json=CREDENTIALS, headers={"Origin": origin})
            assert answer.json()["token_type"] == "cookie"


async def test_cookies_do_nothing_for_an_app_in_a_web_view(
    app: FastAPI, signed_in: httpx.AsyncClient, settings: AuthSettings
) -> None:
    settings.token_origins = ["capacitor://localhost"]
    async with client_with(app, cookies_of(signed_in), Origin="capacitor://localhost") as client:
        for method, path in (("POST", "/auth/logout"), ("PATCH", "/account"), ("POST", "/page")):
            answer = await client.request(method, path, json={})
            assert (answer.status_code, answer.json()["code"]) == (403, "csrf_refused")


@pytest.mark.parametrize(
    "origin",
    ["null", "*", "localhost", "capacitor://", "capacitor:", "file://", "file:///", "https://*.example.com",
     "capacitor://localhost/path", "capacitor://u@localhost", "//localhost", "data:text/html,x", "about:x"],
)  # fmt: skip
def test_what_names_no_app_gets_no_tokens(origin: str) -> None:
    """`null` is what any page sends in a sandboxed frame."""
    with pytest.raises(ValidationError):
        AuthSettings(_env_file=None, token_origins=origin)  # type: ignore[arg-type]  # text of an environment


@pytest.mark.parametrize("origin", ["capacitor://localhost", "tauri://localhost", "app://bundle"])
def test_an_app_in_a_web_view_is_no_trusted_page(origin: str) -> None:
    with pytest.raises(ValidationError):
        AuthSettings(_env_file=None, trusted_origins=origin)  # type: ignore[arg-type]
