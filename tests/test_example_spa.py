"""examples/spa, over HTTP as a browser would, and in a real one."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from . import browsers
from .conftest import PASSWORD, SECRET
from .hosts import EXAMPLES, copied
from .live import free_port, served, serving
from .smtp_server import MailServer, link_in

STATIC = EXAMPLES / "spa" / "static"
needs_browser = pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing()))


@dataclass(frozen=True)
class Site:
    """The app, and the same front end on another origin, as its README tells."""

    base: str
    elsewhere: str
    mail_server: MailServer

    def account(self) -> dict[str, str]:
        """What nobody else signs up with."""
        return {"email": f"{secrets.token_hex(4)}@example.com", "password": PASSWORD}

    async def follow_link(self, email: str) -> None:
        """Opens the newest mail to this address and verifies it."""
        async with asyncio.timeout(20):
            while not (mails := [m for m in self.mail_server.messages if m["To"] == email]):
                await asyncio.sleep(0.05)
        async with httpx.AsyncClient() as client:
            assert (await client.get(link_in(mails[-1]))).status_code == 200

    async def signed_up(self) -> dict[str, str]:
        """A verified account."""
        account = self.account()
        async with httpx.AsyncClient(base_url=self.base, timeout=30) as client:
            assert (await client.post("/auth/signup", json=account)).status_code == 201
        await self.follow_link(account["email"])
        return account


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mail_server: MailServer) -> Iterator[Site]:
    tmp_path = tmp_path_factory.mktemp("spa")
    mail_server.behaviour, mail_server.delay = "accept", 0.0
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    static = Path(shutil.copytree(STATIC, tmp_path / "static"))
    page = static / "index.html"
    changed = page.read_text("utf-8").replace('name="api" content=""', f'name="api" content="{base}"')
    page.write_text(changed, "utf-8")
    elsewhere = FastAPI()
    elsewhere.mount("/", StaticFiles(directory=static, html=True))
    with serving(elsewhere) as origin:
        environment = {
            "JWT_SECRET": SECRET,
            "AUTH_COOKIES": "true",
            "AUTH_TRUSTED_ORIGINS": origin,
            "PUBLIC_BASE_URL": base,
            "AUTH_BCRYPT_ROUNDS": "4",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(mail_server.port),
        }
        with served(copied("spa", tmp_path), environment, tmp_path / "app.log", port=port):
            yield Site(base, origin, mail_server)


def page_of(origin: str, site: str) -> dict[str, str]:
    """The headers of a request that a page of this origin makes."""
    return {"Origin": origin, "Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}


async def test_a_page_of_the_app_signs_in_and_writes_and_no_other_page_does(site: Site) -> None:
    account, own = await site.signed_up(), page_of(site.base, "same-origin")
    async with httpx.AsyncClient(base_url=site.base, timeout=30, headers=own) as client:
        login = await client.post("/auth/login", json=account)
        assert login.json() == {"token_type": "cookie", "expires_in": 900}
        assert set(client.cookies) == {"access_token", "refresh_token", "device"}
        assert all("HttpOnly" in cookie for cookie in login.headers.get_list("set-cookie"))
        assert (await client.post("/api/notes", json={"text": "Tea"})).status_code == 201
        evil = page_of("https://evil.example", "cross-site")
        forged = await client.post("/api/notes", json={"text": "Evil"}, headers=evil)
        assert (forged.status_code, forged.json()["code"]) == (403, "csrf_refused")
        assert "access-control-allow-origin" not in forged.headers
        form = await client.post("/api/notes", data={"text": "Evil"}, headers=evil)
        assert (form.status_code, form.json()["code"]) == (403, "csrf_refused")
        for text, status in (("", 422), ("x" * 201, 422), ("a\0b", 422), ("x" * 200, 201)):
            assert (await client.post("/api/notes", json={"text": text})).status_code == status
        assert (await client.get("/api/notes")).json() == ["Tea", "x" * 200]
        client.cookies.delete("access_token")  # as the browser does when it is too old
        renewed = await asyncio.gather(*(client.get("/api/notes") for _ in range(5)))
        assert {answer.status_code for answer in renewed} == {200}
        assert (await client.patch("/account", json={"display_name": "Ada"})).status_code == 200
        as_json = {"Content-Type": "application/json"}
        assert (await client.post("/auth/logout", headers=as_json)).status_code == 200
        assert set(client.cookies) == {"device"}
        refused = await client.get("/api/notes")
        assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")


async def test_a_front_end_on_a_trusted_origin_asks_first_and_is_let_in(site: Site) -> None:
    account = await site.signed_up()
    headers = page_of(site.elsewhere, "same-site")
    async with httpx.AsyncClient(base_url=site.base, timeout=30, headers=headers) as client:
        for method, path in (("POST", "/auth/login"), ("PATCH", "/account"), ("POST", "/api/notes")):
            asked = {
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "content-type",
            }
            preflight = await client.options(path, headers=asked)
            assert preflight.status_code == 200
            assert preflight.headers["access-control-allow-origin"] == site.elsewhere
            assert preflight.headers["access-control-allow-credentials"] == "true"
            evil = page_of("https://evil.example", "cross-site")
            refused = await client.options(path, headers=asked | evil)
            assert refused.status_code == 400
            assert "access-control-allow-origin" not in refused.headers
        wrong = await client.post("/auth/login", json=account | {"password": "wrong horse battery"})
        assert wrong.status_code == 401
        assert wrong.headers["access-control-allow-origin"] == site.elsewhere  # or no script reads the code
        assert (await client.post("/auth/login", json=account)).json()["token_type"] == "cookie"
        assert (await client.post("/api/notes", json={"text": "Tea"})).status_code == 201
        answer = await client.get("/api/notes")
        assert answer.json() == ["Tea"]
        assert answer.headers["access-control-allow-origin"] == site.elsewhere


async def test_the_policy_allows_no_inline_code_and_the_page_needs_none(site: Site) -> None:
    async with httpx.AsyncClient(base_url=site.base, timeout=30) as client:
        for path in ("/", *(f"/{file.name}" for file in STATIC.iterdir())):
            answer = await client.get(path)
            assert answer.status_code == 200
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
            assert "unsafe" not in policy
            assert answer.headers["cache-control"] == "no-cache"
            assert not re.search(r"https?://(?!api\.example\.com)", answer.text)
        page = (await client.get("/")).text
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", page)
        assert "innerHTML" not in (await client.get("/app.js")).text
        assert (await client.get("/nothing")).status_code == 404


# In a real browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright)
        yield browser
        await browser.close()


class Reader:
    """Somebody in front of a page."""

    def __init__(self, page: Any, site: Site) -> None:
        self.page = page
        self.problems: list[str] = []
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("request", lambda request: self._check(request.url, site))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and not text.startswith("Failed to load resource"):  # a refusal of the API
            self.problems.append(text)

    def _check(self, url: str, site: Site) -> None:
        if not url.startswith((site.base, site.elsewhere, "data:")):
            self.problems.append(f"external request {url}")

    async def send(self, form: str, **typed: str) -> None:
        """Fills in fields of a form by name and presses its button."""
        for name, value in typed.items():
            await self.page.fill(f"#{form} [name={name}]", value)
        await self.page.click(f"#{form} > button")

    async def press(self, button: str) -> None:
        await self.page.get_by_role("button", name=button, exact=True).click()

    async def sees(self, text: str) -> None:
        await self.page.get_by_text(text).first.wait_for()
        assert self.problems == []

    async def look(self) -> None:
        """For everybody, in both colour schemes, on a phone."""
        await self.page.set_viewport_size({"width": 375, "height": 740})
        overflow = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not await self.page.evaluate(overflow)
        for scheme in ("light", "dark"):
            await self.page.emulate_media(color_scheme=scheme)
            found = await self.page.evaluate("axe.run().then(found => found.violations.map(v => v.id))")
            assert found == []


@pytest_asyncio.fixture(loop_scope="module")
async def reader(browser: Any, site: Site) -> AsyncIterator[Reader]:
    context = await browser.new_context(locale="en-GB")
    page = await context.new_page()
    await page.add_init_script(browsers.axe_source())
    yield Reader(page, site)
    await context.close()


@needs_browser
@pytest.mark.asyncio(loop_scope="module")
async def test_people_sign_up_and_in_with_a_code_and_end_other_sessions(reader: Reader, site: Site) -> None:
    account, page = site.account(), reader.page
    await page.goto(site.base)
    await reader.sees("Forgot your password?")
    await page.click("text=Create an account")
    await reader.look()
    await reader.send("sign-up", **account)
    await reader.sees("We have sent you a mail.")
    await reader.send("sign-in", **account)
    await reader.sees("Open the link in the mail that we sent you")
    await site.follow_link(account["email"])
    await reader.send("sign-in", **account)
    await reader.sees(f"Hello {account['email']}!")
    await reader.send("add-note", text="<b>Tea</b>")
    await reader.sees("<b>Tea</b>")
    await reader.send("profile", display_name="Ada")
    await reader.sees("Hello Ada!")
    await reader.press("Set up two-factor")
    await page.locator("#qr").wait_for()
    assert await page.evaluate("document.getElementById('qr').naturalWidth") > 100
    authenticator = pyotp.TOTP(await page.inner_text("#secret"))
    await reader.look()
    await reader.send("enrolment", code=authenticator.now())
    await reader.sees("Two-factor is on.")
    await reader.press("Sign out everywhere")
    await reader.sees("You are signed out.")
    assert await page.inner_text("#notes") == ""
    await reader.send("sign-in", **account)
    await reader.sees("Enter the code of your authenticator app")
    assert await page.evaluate("document.activeElement.id") == "code"
    await reader.send("sign-in", code="000000")
    await reader.sees("The address, password or code is wrong.")
    await reader.send("sign-in", code=authenticator.now())
    await reader.sees("Hello Ada!")
    await reader.sees("<b>Tea</b>")
    assert await page.evaluate("document.cookie + localStorage.length + sessionStorage.length") == "00"
    code = authenticator.at(int(time.time()) + 30)  # each works once
    async with httpx.AsyncClient(
        base_url=site.base, timeout=30, headers={"User-Agent": "A lost phone"}
    ) as phone:
        login = await phone.post("/auth/login", json=account | {"code": code})
        assert login.status_code == 200
        phone.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
        await page.reload()
        await page.get_by_role("button", name="Sign out A lost phone").click()
        await reader.sees("Signed out there.")
        assert (await phone.get("/auth/me")).status_code == 401
    assert await page.locator("#sessions li").count() == 1


@needs_browser
@pytest.mark.asyncio(loop_scope="module")
async def test_the_front_end_works_on_another_origin(reader: Reader, site: Site) -> None:
    account = await site.signed_up()
    await reader.page.goto(site.elsewhere)
    await reader.send("sign-in", **account)
    await reader.sees(f"Hello {account['email']}!")
    await reader.send("add-note", text="From elsewhere")
    await reader.sees("From elsewhere")
    await reader.page.reload()
    await reader.sees("From elsewhere")
    await reader.press("Sign out everywhere")
    await reader.sees("You are signed out.")


@needs_browser
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("raced", [False, True])
async def test_requests_that_are_refused_together_renew_the_session_once(
    raced: bool, reader: Reader, site: Site
) -> None:
    account, page = await site.signed_up(), reader.page
    await page.goto(site.base)
    await reader.send("sign-in", **account)
    await reader.sees("Hello")
    refused, renewals = [], []

    async def refuse(route: Any) -> None:
        """As after a race that this tab has lost."""
        first = route.request.url not in refused
        refused.append(route.request.url)
        if first:
            await route.fulfill(status=401, json={"detail": "", "code": "invalid_token"})
        else:
            await route.continue_()

    async def renew(route: Any) -> None:
        renewals.append(route.request.url)
        await asyncio.sleep(0.2)
        if raced:
            await route.fulfill(status=401, json={"detail": "", "code": "refresh_raced"})
        else:
            await route.continue_()

    for path in ("/auth/me", "/api/notes", "/account/sessions"):
        await page.route(f"**{path}", refuse)
    await page.route("**/auth/refresh", renew)
    await page.reload()
    await reader.sees("Hello")
    assert (len(refused), len(renewals)) == (6, 1)


@needs_browser
@pytest.mark.asyncio(loop_scope="module")
async def test_tabs_renew_together_and_hear_of_a_sign_out(reader: Reader, site: Site) -> None:
    account, page = await site.signed_up(), reader.page
    await page.goto(site.base)
    await reader.send("sign-in", **account)
    await reader.sees("Hello")
    other = Reader(await page.context.new_page(), site)
    await other.page.goto(site.base)
    await other.sees("Hello")
    for _ in range(3):
        await page.context.clear_cookies(name="access_token")
        await asyncio.gather(page.reload(), other.page.reload())
        await asyncio.gather(reader.sees("Hello"), other.sees("Hello"))
    await reader.press("Sign out everywhere")
    await reader.sees("You are signed out.")
    await other.page.get_by_role("heading", name="Sign in").wait_for()
    assert not await other.page.is_visible("#member")
