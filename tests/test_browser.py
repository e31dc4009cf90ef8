"""The pages in a real browser, with and without JavaScript.

`TEST_SCREENSHOTS=folder` writes pictures of each page: in both colour schemes, and on a phone.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pyotp
import pytest
import pytest_asyncio
from fastapi import Response
from PIL import Image

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.email.preview import sample
from fastapi_pluggable_auth.email.provider import MemoryProvider
from fastapi_pluggable_auth.email.rendering import render
from fastapi_pluggable_auth.email.template_folders import available_languages
from fastapi_pluggable_auth.features import (
    Administration,
    AuditLog,
    Feature,
    OAuthServer,
    PersonalTokens,
    Slot,
)

from . import browsers
from .conftest import PASSWORD, SECRET, Clock
from .live import serving
from .shipped import ALL_MAILS, FEATURES
from .test_plugin import app_with_plain_init_in_lifespan

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing())),
]

NEW = "a new horse battery"
WAYS = ("Acorn", "Birch", "Cedar and all other trees of the wood")
LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 40" width="120" height="40">
<rect width="120" height="40" rx="8" fill="#6a4bd8"/>
<text x="60" y="26" fill="#fff" font-family="system-ui" font-size="18" text-anchor="middle">Lumen</text>
</svg>"""
SCREENSHOTS = os.environ.get("TEST_SCREENSHOTS")
PHONE = {"width": 375, "height": 740}
SMALL_PHONE = {"width": 320, "height": 640}
DESK = {"width": 640, "height": 560}
ROLES = {"editor": "posts:write", "support": "accounts:read", "translator": "words:write"}


@dataclass(frozen=True)
class Site:
    """An app under a real server, with its mailbox."""

    base: str
    clock: Clock
    mails: MemoryProvider
    database: Path
    settings: AuthSettings

    def change(self, email: str, column: str, value: object) -> None:
        """Sets a column of an account that no page sets."""
        with closing(sqlite3.connect(self.database, timeout=30)) as connection, connection:
            connection.execute(f"UPDATE user SET {column} = ? WHERE email = ?", (value, email))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("browser")) as site:
        yield site


@pytest.fixture(scope="module")
def full_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An app with a logo, terms, other ways in, and the features that have pages."""
    folder = tmp_path_factory.mktemp("full")
    ways = "".join(f'<a class="button quiet" href="/{name}">Continue with {name}</a>' for name in WAYS)
    (folder / "ways.html").write_text(ways)
    slots = (Slot(place="sign_in", template="ways.html"), Slot(place="sign_up", template="ways.html"))
    features = [
        Administration(),
        AuditLog(),
        PersonalTokens(scopes={"notes:read": "Read your notes", "notes:write": "Change your notes"}),
        OAuthServer(resources=["/api"]),
        Feature(name="ways", slots=slots, templates=folder),
    ]
    look = {"page_logo_url": "/logo.svg", "page_favicon_url": "/logo.svg"}
    links = {"terms_url": "/terms", "privacy_url": "/privacy"}
    with served(folder, features, ROLES, **look, **links) as site:
        yield site


@contextmanager
def served(
    folder: Path,
    features: Sequence[Feature] = (),
    roles: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
    **values: str,
) -> Iterator[Site]:
    """An app under a real server, which browsers know by this host."""
    database = folder / "test.sqlite3"
    app = app_with_plain_init_in_lifespan(f"sqlite://{database}")

    @app.get("/logo.svg")
    async def logo() -> Response:
        return Response(LOGO, media_type="image/svg+xml")

    settings = AuthSettings(
        _env_file=None,
        jwt_secret=SECRET,
        bcrypt_rounds=4,
        totp_issuer="Lumen",
        dev_mailbox=True,
        mail_limit=1000,
        database_timeout=60,
        **values,  # type: ignore[arg-type]  # addresses, as texts
    )
    clock, mails = Clock(), MemoryProvider()
    include_auth(
        app,
        settings=settings,
        clock=clock,
        email_provider=mails,
        pages=True,
        roles=roles,
        features=features,
    )
    with serving(app) as address:
        base = address.replace("127.0.0.1", host)
        settings.public_base_url = base
        yield Site(base, clock, mails, database, settings)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright)
        yield browser
        await browser.close()


class Person:
    """Somebody in front of a browser of their own."""

    def __init__(self, site: Site, page: Any, javascript: bool) -> None:
        self.site = site
        self.page = page
        self.javascript = javascript
        self.problems: list[str] = []
        page.on("request", lambda request: self._check_request(request.url))
        page.on("console", lambda message: self._check_console(message.type, message.text))

    def _check_request(self, url: str) -> None:
        if not url.startswith((self.site.base, "data:")):
            self.problems.append(f"external request {url}")

    def _check_console(self, kind: str, text: str) -> None:
        if kind == "error" and not text.startswith("Failed to load resource"):  # a refusal of ours
            self.problems.append(text)

    def address(self, name: str) -> str:
        """An address that nobody else signs up with."""
        return f"{name}@example.com" if self.javascript else f"{name}-plain@example.com"

    async def open(self, path: str) -> None:
        await self.page.goto(self.site.base + path)

    async def send(self, button: str, **typed: str) -> None:
        """Fills in fields by their ids, and presses a button."""
        for name, value in typed.items():
            await self.page.fill(f"#{name}", value)
        await self.page.get_by_role("button", name=button, exact=True).click()

    async def sees(self, title: str, text: str = "") -> None:
        await self.page.get_by_role("heading", level=1, name=title, exact=True).wait_for()
        assert text in await self.page.inner_text("body")
        assert self.problems == []

    async def sign_in(self, email: str, password: str = PASSWORD) -> None:
        await self.open("/account/sign-in")
        await self.send("Sign in", email=email, password=password)

    async def follow_link(self, email: str, subject: str) -> None:
        """Opens the newest such mail in the mailbox and clicks its button."""
        mail = f"li:has(:text('{email}')) a:text('{subject}')"
        for _ in range(100):
            await self.open("/dev/mailbox")
            if await self.page.locator(mail).count():
                break
            await asyncio.sleep(0.05)
        await self.page.locator(mail).first.click()
        await self.page.wait_for_url("**/dev/mailbox/*")
        await self.page.frame_locator("iframe").get_by_role("link").first.click()
        await self.page.wait_for_url("**/auth/**")

    async def paste(self, name: str, text: str) -> None:
        """Puts a text from the clipboard in the place of what is in a field."""
        await self.page.evaluate("text => navigator.clipboard.writeText(text)", text)
        await self.page.fill(f"#{name}", "")
        await self.page.focus(f"#{name}")
        await self.page.keyboard.press("Control+V")

    async def meter_says(self, password: str, said: str, **typed: str) -> None:
        """Types in a password to set, and waits for what is said of it; nothing is without script."""
        for name, value in {"new_password": password, **typed}.items():
            await self.page.fill(f"#{name}", value)
        place, bar = (self.page.locator(f"[data-strength] {tag}") for tag in ("[role=status]", "meter"))
        if self.javascript and said:
            await place.filter(has_text=said).wait_for()
            assert await bar.is_visible()
        else:
            await bar.wait_for(state="hidden")
            assert await place.inner_text() == ""

    async def look(self, name: str) -> None:
        """Checks the page that is open: for everybody, in both colour schemes, on a phone, small."""
        assert len((await self.page.content()).encode()) < 30_000
        if not self.javascript:
            return
        for scheme in ("light", "dark"):
            await self.page.emulate_media(color_scheme=scheme)
            found = await self.page.evaluate(f"{AXE}; axe.run({{runOnly: {RULES}}})")
            assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
            await self._picture(f"{name}-{scheme}")
        await self.page.emulate_media(color_scheme="light")
        for phone in (SMALL_PHONE, PHONE):
            await self.page.set_viewport_size(phone)
            assert await self.page.evaluate("document.documentElement.scrollWidth") <= phone["width"], name
            small = await self.page.evaluate(SMALL_TARGETS)
            assert small == [], name
        await self._picture(f"{name}-phone")
        await self.page.set_viewport_size(DESK)

    async def _picture(self, name: str) -> None:
        if not SCREENSHOTS:
            return
        window = self.page.viewport_size
        height = await self.page.evaluate("document.documentElement.scrollHeight")
        await self.page.set_viewport_size({**window, "height": height})
        await self.page.wait_for_timeout(300)  # a frame is drawn only where it can be seen, and later
        picture = Image.open(io.BytesIO(await self.page.screenshot())).convert("RGB")
        await self.page.set_viewport_size(window)
        few = picture.quantize(48, dither=Image.Dither.NONE).convert("RGB")
        few.save(Path(SCREENSHOTS) / f"{name}.webp", lossless=True, method=6)

    async def tab_to(self, *, name: str = "", id: str = "") -> None:
        """Goes on by the keyboard alone to what has this name or id; all that is passed shows the focus."""
        for _ in range(60):
            await self.page.keyboard.press("Tab")
            focused = await self.page.evaluate(FOCUSED)
            assert focused["seen"], focused
            if focused["id"] == id if id else focused["name"] == name:
                return
        raise AssertionError(f"Tab does not lead to {name or id}.")

    async def press(self, *, name: str = "", id: str = "", key: str = "Enter") -> None:
        """Presses a button, follows a link or ticks a box, by the keyboard alone."""
        await self.tab_to(name=name, id=id)
        await self.page.keyboard.press(key)

    async def box(self, selector: str) -> dict[str, float]:
        """Where the first such element is."""
        return dict(await self.page.locator(selector).first.bounding_box())


AXE = browsers.axe_source() if browsers.missing() is None else ""
RULES = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']"
SMALL_TARGETS = """
  [...document.querySelectorAll(
    "button, .button, nav a, .links a, input:not([type=checkbox]), select, summary, .check label"
  )]
    .filter(element => element.checkVisibility())
    .filter(element => element.getBoundingClientRect().height < 44)
    .map(element => element.outerHTML)
"""
LINES = "element => new Set([...element.getClientRects()].map(part => part.top)).size"
BEYOND_THE_CARD = """(() => {
  const { left, right } = document.querySelector("main").getBoundingClientRect()
  return [...document.querySelectorAll("main *")]
    .filter(element => element.checkVisibility())
    .filter(element => {
      const box = element.getBoundingClientRect()
      return box.left < left || box.right > right
    })
    .map(element => element.outerHTML)
})()"""
FOCUSED = """(() => {
  const element = document.activeElement, { outlineStyle, outlineWidth } = getComputedStyle(element)
  const { top, bottom, left, right } = element.getBoundingClientRect()
  const inside = top > -1 && bottom < innerHeight + 1 && left > -1 && right < innerWidth + 1
  const ringed = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2
  const name = element.ariaLabel ?? element.innerText
  return { id: element.id, name, seen: element === document.body || inside && ringed }
})()"""


@pytest_asyncio.fixture(
    loop_scope="module",
    params=[True, pytest.param(False, marks=pytest.mark.full)],
    ids=["javascript", "plain"],
)
async def person(request: pytest.FixtureRequest, site: Site, browser: Any) -> AsyncIterator[Person]:
    context = await browser.new_context(java_script_enabled=request.param, viewport=DESK)
    context.set_default_timeout(10_000)
    yield Person(site, await context.new_page(), request.param)
    await context.close()


with_and_without_script = pytest.mark.parametrize(
    "person", [True, False], ids=["javascript", "plain"], indirect=True
)
"""Of a test that runs without also in `.ci/run`: of the others, that waits for `.ci/full`."""


async def registered(person: Person, email: str) -> str:
    """Signs up, verifies and signs in; returns the address."""
    await person.open("/account/sign-up")
    await person.send("Create account", email=email, new_password=PASSWORD)
    await person.follow_link(email, "Confirm your e-mail address")
    await person.send("Verify")
    await person.sees("Your account")
    return email


@with_and_without_script
async def test_signing_up_verifying_signing_in_and_out(person: Person, browser: Any) -> None:
    email = person.address("ada")
    await person.open("/account/profile")
    await person.sees("Sign in")
    await person.look("sign-in")
    await person.page.get_by_role("link", name="Create an account").click()
    await person.meter_says("elisabeth77", "Easy to guess. Names are tried early.", email=email)
    await person.look("sign-up-meter")
    await person.meter_says("tall giraffe river", "Very good.")
    await person.meter_says("short", "")
    await person.send("Create account", email=email, new_password="password1")
    await person.sees("Create an account", "among the most common")
    await person.look("sign-up")
    await person.send("Create account", new_password=PASSWORD)
    await person.sees("Check your mail", f"We wrote to {email}.")
    await person.look("check-mail")
    await person.send("Send again")
    await person.sees("Check your mail", "Another mail is on its way")
    await person.page.get_by_role("link", name="Use another address").click()
    assert await person.page.input_value("#email") == email
    await person.page.get_by_role("link", name="Sign in").click()
    await person.sees("Sign in")
    assert await person.page.input_value("#email") == email
    await person.send("Sign in", password=PASSWORD)
    await person.sees("Sign in", "not verified yet")
    await person.look("sign-in-unverified")
    await person.page.get_by_role("link", name="Ask for a new link").click()
    await person.look("verify-email")
    assert await person.page.input_value("#email") == email
    await person.send("Send link")
    await person.sees("Check your mail", f"If {email} is waiting to be verified")
    await person.open("/dev/mailbox")
    await person.look("mailbox")
    await person.page.get_by_role("link", name="Confirm").first.click()
    await person.sees("Mail")
    await person.look("mail")
    await person.follow_link(email, "Confirm your e-mail address")
    link = person.page.url
    await person.sees("Verify your e-mail address", "You signed up in this browser")
    await person.look("verify")
    elsewhere = await browser.new_context(java_script_enabled=person.javascript, viewport=DESK)
    other = Person(person.site, await elsewhere.new_page(), person.javascript)
    await other.page.goto(link)
    await other.sees("Verify your e-mail address", "not the browser in which")
    await other.look("verify-elsewhere")
    await other.send("Verify", password="wrong")
    await other.sees("Verify your e-mail address", "not the right password")
    await other.page.get_by_role("link", name="Choose a new one").click()
    await other.sees("Choose a new password", "yours alone")
    await other.look("claim")
    await elsewhere.close()
    await person.send("Verify")
    await person.sees("Your account")
    await person.page.goto(link)
    await person.sees("This link does not work any more")
    await person.look("dead-link")
    await person.page.get_by_role("link", name="Sign in").click()
    await person.sees("Your account")
    await person.send("Save", display_name="Ada Lovelace")
    await person.sees("Your account", "Saved.")
    await person.look("profile")
    await person.meter_says("12.03.1987", "Dates and years are tried early.")
    await person.send("Sign out")
    await person.sees("Sign in", "You are signed out.")
    await person.page.go_back()
    await person.sees("Sign in")


async def test_an_address_that_another_browser_verifies_is_filled_in_there(
    person: Person, browser: Any
) -> None:
    email = person.address("elsa")
    await person.open("/account/sign-up")
    await person.send("Create account", email=email, new_password=PASSWORD)
    elsewhere = await browser.new_context(java_script_enabled=person.javascript, viewport=DESK)
    other = Person(person.site, await elsewhere.new_page(), person.javascript)
    await other.follow_link(email, "Confirm your e-mail address")
    await other.send("Verify", password=PASSWORD)
    await other.sees("Sign in", "Your e-mail address is verified.")
    assert await other.page.input_value("#email") == email
    await other.look("verified")
    await other.send("Sign in", password=PASSWORD)
    await other.sees("Your account")
    await elsewhere.close()


@with_and_without_script
async def test_two_factor_recovery_codes_and_devices(person: Person, browser: Any) -> None:
    email = await registered(person, person.address("bob"))
    elsewhere = await browser.new_context(user_agent="Mozilla/5.0 (X11; Linux) Firefox/140.0")
    other = Person(person.site, await elsewhere.new_page(), True)
    await other.sign_in(email)
    await person.page.get_by_role("link", name="Security").click()
    await person.sees("Security", "Firefox, Linux")
    assert ("UTC" in await person.page.inner_text("main")) is not person.javascript
    await person.look("security")
    await person.page.get_by_role("button", name="Sign out: Firefox, Linux").click()
    await person.sees("Security", "The device is signed out.")
    await other.page.reload()
    await other.sees("Sign in")
    await elsewhere.close()

    await person.send("Set up")
    secret = await person.page.inner_text(".steps code")
    assert secret in str(await person.page.get_by_role("link", name="Open in your").get_attribute("href"))
    if person.javascript:
        await person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await person.send("Copy the key")
        await person.page.get_by_text("Copied.").wait_for()
        assert await person.page.evaluate("navigator.clipboard.readText()") == secret
    else:
        assert await person.page.get_by_role("button", name="Copy the key").count() == 0
    await person.look("two-factor")
    step, beside = await person.box(".steps form button"), await person.box(".steps + form button")
    assert (step["x"], step["width"]) == (beside["x"], beside["width"])

    def code() -> str:
        return pyotp.TOTP(secret).at(person.site.clock())

    await person.send("Switch on", code="000000")
    await person.sees("Security", "This code is wrong")
    await person.send("Switch on", code=code())
    await person.sees("Your recovery codes")
    codes = (await person.page.inner_text("#codes")).split()
    await person.look("recovery-codes")
    async with person.page.expect_download() as downloading:
        await person.page.get_by_role("link", name="Download").click()
    download = await downloading.value
    assert download.suggested_filename == "recovery-codes.txt"
    assert Path(await download.path()).read_text().split()[-10:] == codes
    if person.javascript:
        await person.send("Copy")
        await person.page.get_by_text("Copied.").wait_for()
        assert (await person.page.evaluate("navigator.clipboard.readText()")).split() == codes
    else:
        assert await person.page.get_by_role("button", name="Copy").count() == 0
    await person.page.get_by_role("link", name="I have kept them").click()
    await person.sees("Security", "Unused: 10.")
    await person.look("security-on")

    await person.send("Sign out")
    await person.sign_in(email)
    await person.sees("Enter your code")
    await person.send("Sign in", code="000000")
    await person.sees("Enter your code", "This code is wrong")
    await person.look("code")
    if person.javascript:  # a whole code that is pasted is sent, and no part of one
        for pasted in ("12345", f"{code()[:3]} {code()[3:]}"):
            await person.sees("Enter your code")
            await person.paste("code", pasted)
    else:
        await person.send("Sign in", code=code())
    await person.sees("Your account")
    await person.send("Sign out")
    await person.sign_in(email)
    await person.sees("Enter your code")
    keyboard = person.page.keyboard
    await keyboard.press("Tab")  # from the code, which has the focus
    await keyboard.press("Enter")
    await person.look("code-recovery")
    opened, label = await person.box("summary"), await person.box("label[for=recovery_code]")
    assert opened["y"] + opened["height"] + 5 <= label["y"]  # 5 is the ring of the focus
    await keyboard.press("Tab")
    await keyboard.type(codes[0])
    await keyboard.press("Enter")
    await person.sees("Your account")
    await person.open("/account/security")
    person.site.clock.advance(minutes=16)
    await person.send("Switch off")
    await person.sees("Confirm your password")
    await person.look("confirm-password-and-code")
    if person.javascript:  # nor is one that is pasted where something is missing
        await person.paste("code", code())
        await person.page.wait_for_timeout(200)
        assert await person.page.input_value("#code") == code()
        await person.page.fill("#password", PASSWORD)
        await person.paste("code", code())
    else:
        await person.send("Confirm", password=PASSWORD, code=code())
    await person.sees("Security")
    await person.send("Switch off")
    await person.sees("Security", "Two-factor sign-in is off.")


@with_and_without_script
async def test_passwords_addresses_and_the_end(person: Person) -> None:
    email = await registered(person, person.address("cleo"))
    await person.send("Change password", password=PASSWORD, new_password=NEW)
    await person.sees("Sign in", "Your password was changed")
    await person.page.get_by_role("link", name="Forgot your password?").click()
    await person.look("forgot-password")
    await person.send("Send link", email=email)
    await person.sees("Check your mail", f"If there is an account with {email}")
    await person.follow_link(email, "Choose a new password")
    await person.look("reset")
    await person.meter_says(f"{email} a", "It has something about you in it.")
    await person.send("Set password", new_password="short")
    await person.sees("Choose a new password", "8 to 1024 characters")
    await person.send("Set password", new_password=PASSWORD)
    await person.sees("Your password was changed")
    await person.sign_in(email)

    new = person.address("cleo.new")
    await person.send("Change address", email=new)
    await person.sees("Your account", f"A change to {new} waits")
    await person.follow_link(new, "Confirm your new e-mail address")
    await person.look("email-change")
    await person.send("Confirm")
    await person.sees("Your e-mail address was changed")
    await person.open("/account/profile")
    await person.sees("Your account", f"You sign in as {new}.")

    person.site.clock.advance(minutes=16)
    await person.page.get_by_role("link", name="Delete account").click()
    await person.sees("Confirm your password")
    await person.look("confirm-password")
    await person.send("Confirm", password=PASSWORD)
    await person.sees("Delete account")
    await person.send("Delete for good")
    await person.sees("Delete account", "Tick the box")
    await person.look("delete")
    await person.page.check("#sure")
    await person.send("Delete for good")
    await person.sees("Sign in", "Your account was deleted.")


async def test_moments_are_in_the_words_and_the_time_of_the_reader(person: Person, browser: Any) -> None:
    """Without script they are in UTC."""
    await registered(person, person.address("zoe"))
    for locale, said in (
        ("en-GB", ("now", "2 minutes ago", "yesterday")),
        ("de-DE", ("jetzt", "vor 2 Minuten", "gestern")),
    ):
        context = await browser.new_context(
            java_script_enabled=person.javascript, locale=locale, timezone_id="Asia/Tokyo"
        )
        page = await context.new_page()
        await page.goto(f"{person.site.base}/dev/mailbox")
        moment = page.locator("time").first
        at = datetime.fromisoformat(str(await moment.get_attribute("datetime")))
        if not person.javascript:
            assert await moment.inner_text() == f"{at:%H:%M:%S} UTC"
            continue
        written = str(await moment.get_attribute("title"))
        in_tokyo = at.astimezone(ZoneInfo("Asia/Tokyo"))
        assert written.endswith(f", {in_tokyo:%H:%M}")
        assert {str(in_tokyo.year), f"{in_tokyo.day}"} <= {*re.findall(r"[1-9]\d*", written)}
        for later, shown in zip((20, 130, 86_400, 1_000_000), (*said, written), strict=True):
            await page.clock.set_fixed_time(at + timedelta(seconds=later))
            await page.reload()
            assert await moment.inner_text() == shown
        await context.close()


async def test_pages_of_features_logo_terms_and_other_ways_in(full_site: Site, person: Person) -> None:
    person = Person(full_site, person.page, person.javascript)
    await person.open("/account/sign-in")
    await person.sees("Sign in", "Continue with Acorn")
    boxes = [await way.bounding_box() for way in await person.page.locator(".ways > *").all()]
    lefts, tops = {box["x"] for box in boxes}, [box["y"] for box in boxes]
    assert (len(boxes), len(lefts), tops) == (len(WAYS), 1, sorted(tops))
    assert len({box["width"] for box in boxes}) == 1
    assert await person.page.locator(".or").inner_text() == "or"
    assert await person.page.locator(".brand img").evaluate("image => image.naturalWidth") == 120
    await person.look("sign-in-ways")
    await person.open("/account/sign-up")
    await person.look("sign-up-ways")
    await registered(person, person.address("fay"))
    await person.page.get_by_role("link", name="Tokens").click()
    await person.sees("Access tokens")
    await person.send("Create token", name="backup script")
    await person.sees("Access tokens", "Please choose one of these.")
    await person.look("tokens-refused")
    keyboard = person.page.keyboard
    await person.page.focus("#name")
    await keyboard.press("Tab")
    await keyboard.press("Space")
    await keyboard.press("Tab")
    await keyboard.press("Tab")
    assert await person.page.locator(":focus").get_attribute("id") == "days"
    await keyboard.press("Tab")
    await keyboard.press("Enter")
    await person.sees("Your new token", "it is not shown again")
    await person.look("new-token")
    secret = await person.page.inner_text("#token")
    if person.javascript:
        await person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await person.send("Copy")
        await person.page.get_by_text("Copied.").wait_for()
        assert await person.page.evaluate("navigator.clipboard.readText()") == secret
    await person.page.get_by_role("link", name="I have kept it").click()
    await person.sees("Access tokens", "Read your notes")
    await person.look("tokens")
    about, revoke = await person.box(".rows li > div"), await person.box(".rows button")
    assert revoke["x"] >= about["x"] + about["width"]
    assert about["y"] <= revoke["y"] <= about["y"] + about["height"]
    end = person.page.locator("time[data-day]").last
    if person.javascript:  # a day was chosen, and no time of day
        written = str(await end.get_attribute("title"))
        assert re.fullmatch(rf"{re.escape(await end.inner_text())}, \d+:\d\d.*", written)
    await person.page.get_by_role("button", name="Revoke: backup script").click()
    await person.sees("Access tokens", "The token is revoked.")
    await person.page.get_by_role("link", name="Activity").click()
    await person.sees("Activity", "Access token created")
    await person.look("activity")
    await person.open("/account/profile")
    async with person.page.expect_download() as downloading:
        await person.send("Download your data")
    download = await downloading.value
    assert download.suggested_filename == "account.json"
    assert json.loads(Path(await download.path()).read_text("utf-8"))["profile"]["email"]
    await person.sees("Your account")


async def test_the_keyboard_is_enough_for_tokens_and_what_happened(full_site: Site, person: Person) -> None:
    person = Person(full_site, person.page, person.javascript)
    email = await registered(person, person.address("gus"))
    await person.press(name="Tokens")
    await person.sees("Access tokens")
    await person.press(name="Create token")
    await person.sees("Access tokens", "Please fill this in.")
    assert await person.page.locator(":focus").get_attribute("id") == "name"
    await person.open("/account/security/tokens")
    for name in ("first", "second"):
        await person.tab_to(id="name")
        await person.page.keyboard.type(name)
        await person.press(id="scope-2", key="Space")
        await person.tab_to(id="days")
        await person.page.keyboard.press("ArrowDown")
        await person.press(name="Create token")
        await person.sees("Your new token", "it is not shown again")
        if person.javascript:
            await person.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            await person.press(name="Copy")
            await person.page.get_by_text("Copied.").wait_for()
        await person.press(name="I have kept it")
        await person.sees("Access tokens", "Change your notes")
    ends = person.page.locator("time[data-day]")
    days = [str(await end.get_attribute("datetime")) for end in await ends.all()]
    lived = datetime.fromisoformat(days[-1]) - datetime.fromisoformat(days[-2])
    assert lived == timedelta(days=365)  # the one below the usual 90
    await person.press(name="Revoke: first")
    await person.sees("Access tokens", "The token is revoked.")
    assert await person.page.locator(".rows strong").all_inner_texts() == ["second"]
    await person.press(name="Activity")
    await person.sees("Activity", "Access token revoked")
    async with httpx.AsyncClient(base_url=full_site.base) as client:
        for password in ("wrong", *[PASSWORD] * 20):
            await client.post("/auth/login", json={"email": email, "password": password})
    await person.page.reload()
    await person.press(name="Earlier activity")
    await person.sees("Activity", "Sign-up")
    await person.look("activity-earlier")
    assert "Failed" in await person.page.inner_text("main")
    await person.press(name="Change password")
    await person.sees("Your account")
    full_site.clock.advance(minutes=16)
    await person.press(name="Tokens")
    await person.sees("Access tokens", "second")
    await person.look("tokens-later")
    await person.press(name="Create token")
    await person.sees("Confirm your password")
    await person.page.keyboard.type(PASSWORD)  # into the field that has the focus
    await person.page.keyboard.press("Enter")
    await person.sees("Access tokens", "Expires after")


async def test_people_are_invited_and_accept_by_the_keyboard_alone(
    full_site: Site, person: Person, browser: Any
) -> None:
    person = Person(full_site, person.page, person.javascript)
    chief, invited = person.address("iris"), person.address("kim")
    await registered(person, chief)
    assert await person.page.get_by_role("link", name="Invite").count() == 0
    await person.open("/account/invite")
    await person.sees("That did not work")
    await person.look("refused")
    full_site.change(chief, "is_superuser", True)
    await person.open("/account/profile")
    await person.press(name="Invite")
    await person.sees("Invite somebody")
    await person.look("invite-people")
    boxes = [await box.bounding_box() for box in await person.page.locator("fieldset input").all()]
    tops = [box["y"] for box in boxes]
    assert [below - above for above, below in pairwise(tops)] == [44, 44]
    await person.tab_to(id="email")
    await person.page.keyboard.type("kim")
    await person.press(id="role-support", key="Space")
    await person.press(name="Send invitation")
    await person.sees("Invite somebody", "not a complete e-mail address")
    assert await person.page.locator(":focus").get_attribute("id") == "email"
    assert await person.page.is_checked("#role-support")
    await person.look("invite-people-refused")
    await person.page.keyboard.press("Control+A")
    await person.page.keyboard.type(invited)
    await person.press(id="role-translator", key="Space")
    await person.press(name="Send invitation")
    await person.sees("Invite somebody", "The invitation is on its way.")
    await person.look("invited")

    context = await browser.new_context(java_script_enabled=person.javascript, viewport=DESK)
    other = Person(full_site, await context.new_page(), person.javascript)
    await other.follow_link(invited, "Your invitation")
    await other.sees("Welcome", invited)
    link = other.page.url
    await other.look("invite")
    await other.tab_to(id="new_password")
    await other.page.keyboard.type("short")
    await other.page.keyboard.press("Enter")
    await other.sees("Welcome", "8 to 1024")
    await other.look("invite-refused")
    assert await other.page.locator(":focus").get_attribute("id") == "new_password"
    await other.page.keyboard.type(PASSWORD)
    await other.press(name="Set password")
    await other.sees("Your account is ready")
    await other.look("invite-done")
    await other.page.goto(link)
    await other.sees("This link does not work any more", "If you have set your password already, sign in.")
    await other.look("invite-dead-link")
    await other.press(name="Sign in")
    await other.sees("Sign in")
    await other.sign_in(invited)
    await other.sees("Your account")
    await context.close()
    with closing(sqlite3.connect(full_site.database)) as connection:
        query = "SELECT roles FROM user WHERE email = ?"
        (roles,) = connection.execute(query, (invited,)).fetchone()
    assert roles.split() == ["support", "translator"]


async def test_six_tabs_and_the_way_out_fit_on_one_line_of_a_desk_and_two_of_a_phone(
    full_site: Site, person: Person
) -> None:
    """In every language."""
    person = Person(full_site, person.page, person.javascript)
    email = await registered(person, person.address("noor"))
    full_site.change(email, "is_superuser", True)
    languages = available_languages(AuthSettings(_env_file=None), FEATURES.folders)
    assert len(languages) == 9
    for language in languages:
        full_site.change(email, "language", language)
        await person.open("/account/profile")
        assert await person.page.locator("html").get_attribute("lang") == language
        for size, lines in ((SMALL_PHONE, 3), (PHONE, 2), (DESK, 1)):
            await person.page.set_viewport_size(size)
            parts = await person.page.locator("nav a, nav button").all()
            boxes = [await part.bounding_box() for part in parts]
            middles = [round(box["y"] + box["height"] / 2) for box in boxes]
            assert len(boxes) == 7
            assert len({*middles}) <= lines, (language, size, middles)
            assert middles[-1] == max(middles)


async def test_nothing_is_cut_on_the_pages_of_features_however_long_the_names(
    full_site: Site, person: Person
) -> None:
    """On a desk and a small phone."""
    person = Person(full_site, person.page, person.javascript)
    email = await registered(person, person.address("lea"))
    full_site.change(email, "is_superuser", True)

    async def look(what: str) -> None:
        for size in (DESK, SMALL_PHONE):
            await person.page.set_viewport_size(size)
            assert await person.page.evaluate("document.documentElement.scrollWidth") <= size["width"], what
            beyond = await person.page.evaluate(BEYOND_THE_CARD)
            assert beyond == [], what

    await person.open("/account/security/tokens")
    await person.page.check("#scope-1")
    await person.page.check("#scope-2")
    await person.send("Create token", name="w" * 64)
    await person.sees("Your new token", "w" * 64)
    await look("new token")
    await person.open("/account/security/tokens")
    await look("tokens")
    await person.page.get_by_role("button", name=f"Revoke: {'w' * 64}").click()
    await person.sees("Access tokens", "The token is revoked.")
    await person.page.set_extra_http_headers({"User-Agent": "w" * 250})
    await person.send("Sign out")
    await person.sign_in(email)
    await person.sees("Your account")
    for path in ("security/activity", "invite"):
        await person.open(f"/account/{path}")
        await look(path)


async def test_mails_are_whole_in_the_mailbox(site: Site, person: Person) -> None:
    """On a desk and a phone."""
    settings = AuthSettings(_env_file=None, public_base_url=site.base)
    for kind in ALL_MAILS:
        mail = render(settings, kind, sample(settings, kind, pages=True), features=FEATURES.folders)
        await site.mails.send(person.address("whole"), mail.subject, mail.body, mail.html)
        number = site.mails.mails[-1].number
        for size in (DESK, PHONE):
            await person.page.set_viewport_size(size)
            await person.open(f"/dev/mailbox/{number}")
            frame = person.page.frame(url=f"**/dev/mailbox/{number}/html")
            assert frame is not None
            await frame.wait_for_load_state()
            needed, there, wide, width = await frame.evaluate(
                "(({ scrollHeight, clientHeight, scrollWidth, clientWidth }) =>"
                " [scrollHeight, clientHeight, scrollWidth, clientWidth])(document.scrollingElement)"
            )
            assert (needed <= there, wide <= width) == (True, True), (kind, size, needed, there)


async def test_two_tabs_that_refresh_at_once_stay_signed_in(person: Person) -> None:
    await registered(person, person.address("dan"))
    tabs = [person.page, await person.page.context.new_page()]
    for _ in range(3):
        person.site.clock.advance(minutes=16)
        await asyncio.gather(*(tab.goto(f"{person.site.base}/account/profile") for tab in tabs))
        for tab in tabs:
            await tab.get_by_role("heading", level=1, name="Your account").wait_for()


async def test_pages_from_right_to_left_are_for_everybody(site: Site, browser: Any) -> None:
    """Mirrored, with addresses, keys and links from left to right; the mail too."""
    context = await browser.new_context(locale="ar", viewport=DESK)
    person = Person(site, await context.new_page(), True)
    submit, email = "main button[type=submit]", "rtl@example.com"

    async def directions(*selectors: str) -> list[str]:
        script = "element => getComputedStyle(element).direction"
        return [await person.page.locator(each).first.evaluate(script) for each in selectors]

    await person.open("/account/sign-up")
    assert await directions("html", "label", "#email", "#new_password") == ["rtl", "rtl", "ltr", "ltr"]
    await person.look("sign-up-rtl")
    await person.page.fill("#email", email)
    await person.page.fill("#new_password", PASSWORD)
    show = await person.page.locator(".show").bounding_box()
    field = await person.page.locator("#new_password").bounding_box()
    assert show["x"] < field["x"] + field["width"] / 2
    await person.page.click(submit)
    while not (mails := [mail for mail in site.mails.mails if mail.to == email]):
        await asyncio.sleep(0.05)
    await person.page.goto(mails[-1].link)
    await person.look("verify-rtl")
    await person.page.click(submit)
    await person.page.wait_for_url(lambda url: "/auth/verify/" not in url)
    await person.open("/account/profile")
    await person.look("profile-rtl")
    await person.open("/account/security")
    await person.page.click("section button >> nth=0")
    assert await directions("main", ".steps code", "#code") == ["rtl", "ltr", "ltr"]
    await person.look("two-factor-rtl")
    await person.page.goto("data:text/html,")  # without the policy of the pages
    await person.page.set_content(mails[-1].html)
    assert await directions("html", "p", "br + a") == ["rtl", "rtl", "ltr"]
    assert person.problems == []
    await context.close()


async def test_the_back_button_shows_no_account_after_signing_out(person: Person) -> None:
    await registered(person, person.address("eve"))
    await person.page.get_by_role("link", name="Security").click()
    await person.sees("Security")
    await person.send("Sign out")
    await person.sees("Sign in")
    for _ in range(2):
        await person.page.go_back(wait_until="commit")
        await person.sees("Sign in")


async def test_the_keyboard_is_enough(person: Person) -> None:
    """The skip link comes first, a problem has the focus, and nothing needs a mouse."""
    await person.open("/account/sign-in")
    keyboard = person.page.keyboard
    await keyboard.press("Tab")
    assert await person.page.locator(":focus").inner_text() == "Skip to the content"
    await keyboard.press("Enter")
    await keyboard.press("Tab")
    await keyboard.type("nobody@example.com")
    await keyboard.press("Tab")
    await keyboard.type("wrong password")
    await keyboard.press("Enter")
    await person.sees("Sign in", "is wrong")
    assert await person.page.locator(":focus").get_attribute("role") == "alert"
    await person.open("/account/sign-up")
    await person.send("Create account", email="nobody@example.com", new_password="short")
    focused = person.page.locator(":focus")
    assert await focused.get_attribute("id") == "new_password"
    described = str(await focused.get_attribute("aria-describedby")).split()
    assert "8 to 1024" in await person.page.locator(f"#{described[-1]}").inner_text()
    await keyboard.press("Tab")
    if person.javascript:
        await keyboard.press("Enter")
        await keyboard.press("Shift+Tab")
        await keyboard.type("visible")
        assert await focused.get_attribute("type") == "text"
    else:
        assert await focused.inner_text() == "Create account"


async def test_nothing_is_cut_on_a_phone_however_long_the_address(person: Person) -> None:
    """In no mail, and on no page that shows the address."""
    long = f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 50}.com"
    address = long if person.javascript else long.replace("aa", "ab", 1)
    await registered(person, address)
    await person.page.set_viewport_size({"width": 320, "height": 640})

    async def look(what: str) -> None:
        widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        needed, there = await person.page.evaluate(widths)
        assert needed <= there, what

    for path in ("profile", "security", "delete", "confirm-password"):
        await person.open(f"/account/{path}")
        await look(path)
    await person.open("/account/forgot-password")
    await person.send("Send link", email=address)
    await person.sees("Check your mail")
    await look("check-mail")
    settings = AuthSettings(_env_file=None, public_base_url=person.site.base)
    await person.page.goto("data:text/html,")  # without the policy of the pages
    for kind in ALL_MAILS:
        values = sample(settings, kind, pages=True)
        values |= {"email": address} | ({"new_email": address} if "new_email" in values else {})
        mail = render(settings, kind, values, features=FEATURES.folders)
        silent = kind.spec.code or kind.spec.code_page  # says nothing of the account
        assert address in str(mail.html) or silent
        await person.page.set_content(mail.html)
        await look(kind)
        if values["when"] in mail.body:  # which is not broken over two lines
            assert await person.page.get_by_text(values["when"], exact=True).evaluate(LINES) == 1, kind
