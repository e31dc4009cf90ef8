"""The bot check on the pages: its widget is in the forms that ask, and its sources on these pages alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import BotCheck, EmailSignIn, Passkeys
from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, PASSWORD, Clock, Mailbox
from .form_browser import BROWSER, FormBrowser, Page
from .siteverify import SITE_KEY, Service
from .test_bot_check import NEW

DIALECTS = ("sqlite",)
FIELD = "cf-turnstile-response"
SAID = "Show that you are human, and try again."
FORMS = {
    "/account/sign-up": "signup",
    "/account/forgot-password": "forgot_password",
    "/account/verify-email": "resend",
    "/account/sign-in/mail": "email_sign_in",
}


@pytest.fixture
def service() -> Iterator[Service]:
    with Service().serving() as service:
        yield service


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, service: Service) -> FastAPI:
    app = FastAPI()
    features = [EmailSignIn(), Passkeys(), BotCheck(service.turnstile())]
    include_auth(app, settings=settings, clock=clock, pages=True, features=features)
    return app


@pytest.fixture
async def browser(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[FormBrowser]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    base = "http://localhost:8000"
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=BROWSER) as client:
        yield FormBrowser(client)


def policy(page: Page) -> dict[str, list[str]]:
    """What the page may load, by directive."""
    directives = page.answer.headers["content-security-policy"].split("; ")
    return {name: sources for name, *sources in (each.split() for each in directives)}


def action(page: Page) -> str | None:
    """What the widget on the page is for; None where there is no widget."""
    found = [attributes for tag, attributes in page.tags if attributes.get("class") == "cf-turnstile"]
    if not found:
        return None
    (widget,) = found
    assert widget["data-sitekey"] == SITE_KEY
    return widget["data-action"]


async def test_each_form_that_asks_has_the_widget_and_its_sources(
    browser: FormBrowser, service: Service
) -> None:
    for path, asked in FORMS.items():
        page = await browser.open(path)
        assert action(page) == asked
        assert page.one("script", src=f"{service.origin}/api.js")
        allowed = policy(page)
        assert allowed["frame-src"] == [service.origin]
        assert allowed["script-src"][1:] == [service.origin]
        assert allowed["script-src"][0].startswith("'sha256-")
        assert allowed["default-src"] == ["'none'"]
        assert "turn on JavaScript, and load the page again" in page.text.split("<noscript>")[1]


async def test_other_pages_load_nothing_from_elsewhere(browser: FormBrowser, service: Service) -> None:
    for path in ("/account/sign-in", "/account/check-mail", "/auth/verify/x", "/auth/reset-password/x"):
        page = await browser.open(path)
        assert action(page) is None
        assert service.origin not in page.text
        assert service.origin not in page.answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", FORMS)
async def test_what_was_typed_stays_when_the_check_fails(
    browser: FormBrowser, service: Service, path: str
) -> None:
    await browser.open(f"{path}?next=/hello")
    name = "sign-up" if path.endswith("up") else "mail" if path.endswith("mail") else path.rsplit("/", 1)[1]
    typed = {"email": NEW, **({"new_password": PASSWORD} if name == "sign-up" else {})}
    page = await browser.submit("email", **typed)
    assert (page.status, page.answer.url.path) == (403, path)
    assert SAID in page.text
    assert page.form("email").fields["email"]["value"] == NEW
    assert page.form("email").hidden["next"] == "/hello"
    assert action(page) == FORMS[path]
    assert not await User.exists()
    done = await browser.submit("email", **typed, **{FIELD: service.token(FORMS[path])})
    assert done.status == 200
    assert action(done) is None


async def test_a_form_takes_no_token_that_could_not_be_one(browser: FormBrowser, service: Service) -> None:
    for token in ("x" * 9000, "tökén", "two words", "\x00"):
        await browser.open("/account/sign-up")
        page = await browser.submit("email", email=NEW, new_password=PASSWORD, **{FIELD: token})
        assert page.status == 403
    assert not service.asked


async def test_where_the_service_is_down_the_form_says_so(browser: FormBrowser, service: Service) -> None:
    service.raw = lambda handler: handler.send_error(500)
    await browser.open("/account/sign-up")
    page = await browser.submit("email", email=NEW, new_password=PASSWORD, **{FIELD: "token"})
    assert page.status == 503
    assert "does not work just now" in page.text
    assert page.form("email").fields["email"]["value"] == NEW


async def test_the_form_for_signing_in_has_the_widget_after_wrong_guesses(
    browser: FormBrowser, service: Service, mailbox: Mailbox
) -> None:
    """The same for a name without an account."""
    await browser.open("/account/sign-up")
    await browser.submit("email", email=EMAIL, new_password=PASSWORD, **{FIELD: service.token("signup")})
    await User.all().update(is_verified=True)
    for email in ("nobody@example.com", EMAIL):
        await browser.open("/account/sign-in")
        widgets = []
        for _ in range(4):
            page = await browser.submit("password", email=email, password="wrong password")
            widgets.append((page.status, action(page)))
        assert widgets == [(401, None), (401, None), (401, "login"), (403, "login")]
        assert SAID in page.text
        assert page.form("password").fields["email"]["value"] == email
    page = await browser.submit("password", email=EMAIL, password=PASSWORD, **{FIELD: service.token("login")})
    assert page.path == "/account/profile"


async def test_a_login_may_be_asked_each_time(
    tortoise: object, settings: AuthSettings, service: Service
) -> None:
    app = FastAPI()
    always = BotCheck(service.turnstile(), login_after=0)
    include_auth(app, settings=settings, pages=True, features=[always])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        assert action(Page(await client.get("/account/sign-in", headers=BROWSER))) == "login"
