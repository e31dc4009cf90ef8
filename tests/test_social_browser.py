"""Social login on the pages, in a real browser: the provider is another site, with a server of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
import pytest_asyncio
from fastapi.responses import HTMLResponse

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import Oidc, SocialLogin
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider

from . import browsers, live
from .conftest import SECRET, claims_of
from .snippets import blocks
from .test_browser import DESK, Person, Site, registered, served
from .test_plugin import app_with_plain_init_in_lifespan

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing())),
]


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider().serving() as provider:
        yield provider


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, provider: IdentityProvider) -> Iterator[Site]:
    own = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    posting = {"response_mode": "form_post"}
    shipped = {name: {**own, "label": name.capitalize()} for name in ("google", "apple", "microsoft")}
    features = SocialLogin(
        Oidc("acme", issuer=provider.issuer, **own),
        Oidc("posting", issuer=provider.issuer, parameters=posting, **own),
        Oidc("gone", issuer="http://127.0.0.1:9", label="A provider with quite a long name", **own),
        *(Oidc(name, issuer=provider.issuer, **options) for name, options in shipped.items()),
        *(Oidc(name, issuer=provider.issuer, **own) for name in ("gitlab", "github", "discord")),
    )
    with served(tmp_path_factory.mktemp("social"), [features], host="localhost") as site:
        provider.clock = lambda: site.clock().timestamp()
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright)
        yield browser
        await browser.close()


class Visitor(Person):
    """Somebody who also goes to the provider."""

    provider: IdentityProvider

    def _check_request(self, url: str) -> None:
        if not url.startswith(self.provider.issuer):
            super()._check_request(url)

    async def go_on_with(self, name: str) -> None:
        await self.page.get_by_role("link", name=f"Continue with {name}", exact=True).click()

    async def connect(self, name: str) -> None:
        await self.page.get_by_role("link", name=f"Connect {name}", exact=True).click()


@pytest_asyncio.fixture(loop_scope="module", params=[True, False], ids=["javascript", "plain"])
async def person(
    request: pytest.FixtureRequest, site: Site, browser: Any, provider: IdentityProvider
) -> AsyncIterator[Visitor]:
    context = await browser.new_context(java_script_enabled=request.param, viewport=DESK)
    context.set_default_timeout(10_000)
    visitor = Visitor(site, await context.new_page(), request.param)
    visitor.provider = provider
    yield visitor
    await context.close()


async def test_somebody_signs_up_and_in_with_a_provider(person: Visitor, provider: IdentityProvider) -> None:
    email = person.address("ada")
    provider.user(email, name="Ada")
    await person.open("/account/sign-up")
    await person.look("sign-up-social")
    await person.go_on_with("Acme")
    await person.sees("Your account", email)
    await person.send("Sign out")
    await person.open("/account/sign-in?next=/account/security")
    await person.look("sign-in-social")
    await person.go_on_with("Acme")
    await person.sees("Security", "Connected accounts")


async def test_an_answer_that_another_site_posts_signs_in(
    person: Visitor, provider: IdentityProvider
) -> None:
    """The browser sends no Lax cookie with it."""
    email = person.address("bo")
    provider.user(email)
    await person.open("/account/sign-in")
    await person.go_on_with("Posting")
    if not person.javascript:
        await person.page.get_by_role("button", name="Go back").click()
    await person.sees("Your account", email)


async def test_an_account_is_connected_signs_in_and_is_disconnected(
    person: Visitor, provider: IdentityProvider
) -> None:
    email = await registered(person, person.address("cy"))
    await person.open("/account/security")
    await person.look("identities-none")
    provider.user(person.address("cy.elsewhere"))
    await person.connect("Acme")
    await person.sees("Security", "The account is connected.")
    await person.look("identities")
    await person.send("Sign out")
    await person.go_on_with("Acme")
    await person.sees("Your account", email)
    await person.open("/account/security")
    await person.page.get_by_role("button", name="Disconnect: Acme").click()
    await person.sees("Security", "The account is disconnected.")
    assert await person.page.get_by_role("button", name="Disconnect: Acme").count() == 0


async def test_a_login_that_is_not_recent_is_confirmed_before_connecting(
    person: Visitor, provider: IdentityProvider
) -> None:
    """By another click: browsers block a form that leads to another site in the end."""
    await registered(person, person.address("di"))
    person.site.change(person.address("di"), "display_name", "Di")
    provider.user(person.address("di.elsewhere"))
    person.site.clock.advance(hours=1)
    try:
        await person.open("/account/security")
        await person.connect("Acme")
        await person.sees("Confirm your password")
        await person.send("Confirm", password="correct horse battery")
        await person.sees("Security", "Connected accounts")
        await person.connect("Acme")
        await person.page.wait_for_url("**/account/security?notice=identity_linked*")
    finally:
        person.site.clock.advance(hours=-1)


async def test_the_only_way_in_stays(person: Visitor, provider: IdentityProvider) -> None:
    provider.user(person.address("eli"))
    await person.open("/account/sign-in")
    await person.go_on_with("Acme")
    await person.sees("Your account")
    await person.open("/account/security")
    await person.page.get_by_role("button", name="Disconnect: Acme").click()
    await person.sees("Security", "This is the only way into your account.")
    await person.look("identities-last")


async def test_a_second_factor_is_asked_for_and_next_is_kept(
    person: Visitor, provider: IdentityProvider
) -> None:
    email = await registered(person, person.address("flo"))
    await person.open("/account/security")
    await person.send("Set up")
    secret = (await person.page.inner_text("#key")).replace(" ", "")
    totp = pyotp.TOTP(secret)
    await person.send("Switch on", code=totp.at(person.site.clock()))
    await person.open("/account/profile")
    await person.send("Sign out")
    provider.user(email)
    await person.open("/account/sign-in?next=/account/security")
    await person.go_on_with("Acme")
    await person.page.locator("#code").wait_for()
    person.site.clock.advance(seconds=60)
    await person.send("Sign in", code=totp.at(person.site.clock()))
    await person.sees("Security")


FAILURES = {
    "denied": ("Acme", "access_denied", "You have not signed in there."),
    "its fault": ("Acme", "server_error", "The other site does not answer."),
    "refused": ("Acme", "invalid_scope", "The answer of the other site was not valid."),
    "down": ("A provider with quite a long name", None, "The other site does not answer."),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failed_sign_in_ends_on_a_page_with_a_way_on(
    failure: str, person: Visitor, provider: IdentityProvider
) -> None:
    name, error, sentence = FAILURES[failure]
    email = await registered(person, person.address(f"gil-{failure.replace(' ', '-')}"))
    await person.send("Sign out")
    if error is not None:
        provider.fail(error)
    await person.open("/account/sign-in?next=/account/security")
    await person.go_on_with(name)
    await person.sees("Sign in", sentence)
    await person.look(f"social-{failure}")
    await person.send("Sign in", email=email, password="correct horse battery")
    await person.sees("Security")


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failed_connection_ends_on_the_security_page(
    failure: str, person: Visitor, provider: IdentityProvider
) -> None:
    name, error, sentence = FAILURES[failure]
    await registered(person, person.address(f"hal-{failure.replace(' ', '-')}"))
    if error is not None:
        provider.fail(error)
    await person.open("/account/security")
    await person.connect(name)
    await person.sees("Security", sentence)
    await person.look(f"identities-{failure}")
    provider.user(person.address(f"hal-{failure.replace(' ', '-')}-there"))
    await person.connect("Acme")
    await person.sees("Security", "The account is connected.")


async def test_what_was_begun_too_long_ago_is_begun_again(
    person: Visitor, provider: IdentityProvider
) -> None:
    provider.user(person.address("ida"))
    await person.open("/auth/social/acme/callback?code=x&state=y")
    await person.sees("Sign in", "That took too long")
    await person.go_on_with("Acme")
    await person.sees("Your account")


async def test_an_address_that_nobody_vouches_for_is_asked_for(
    person: Visitor, provider: IdentityProvider
) -> None:
    provider.user(person.address("jo"), email_verified=False)
    await person.open("/account/sign-in")
    await person.go_on_with("Acme")
    await person.sees("Your e-mail address")
    await person.look("social-address")
    await person.send("Send the code")
    await person.sees("Check your mail", person.address("jo"))
    await person.look("social-code")


async def test_the_front_end_of_the_docs_takes_its_tokens_itself(
    browser: Any, provider: IdentityProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = live.free_port()
    base = f"http://localhost:{port}"
    monkeypatch.setenv("AUTH_SOCIAL_RETURN_URL", f"{base}/front")
    (script,) = blocks("js", (Path(__file__).parent.parent / "docs" / "social-login.md").read_text("utf-8"))
    app = app_with_plain_init_in_lifespan(f"sqlite://{tmp_path / 'test.sqlite3'}")

    @app.get("/front")
    async def front() -> HTMLResponse:
        return HTMLResponse(f"<!doctype html><script>{script}</script>")

    settings = AuthSettings(_env_file=None, jwt_secret=SECRET, public_base_url=base, email_provider="memory")
    acme = Oidc("acme", issuer=provider.issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    include_auth(app, settings=settings, features=[SocialLogin(acme)])
    provider.user("front@example.com")
    with live.serving(app, port=port):
        page = await browser.new_page()
        await page.goto(f"{base}/front")
        await page.evaluate("signInWith('acme')")
        await page.wait_for_url("**/front?social_code=*")
        tokens = await page.evaluate("takeTokens()")
        assert claims_of(tokens["access_token"])["amr"] == ["acme"]
        assert (await page.evaluate("takeTokens()"))["code"] == "social_expired"
        provider.fail()
        await page.evaluate("signInWith('acme')")
        await page.wait_for_url("**/front?error=*")
        assert await page.evaluate("takeTokens()") == {"code": "social_denied"}
        await page.close()
