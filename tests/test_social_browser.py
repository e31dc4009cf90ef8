"""Social login on the pages, in a real browser: the provider is another site, with a server of its own."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyotp
import pytest
import pytest_asyncio
from fastapi.responses import HTMLResponse

from fastapi_pluggable_auth import AuthSettings, Refused, include_auth
from fastapi_pluggable_auth.features import Feature, Oidc, SocialLogin
from fastapi_pluggable_auth.features.social_login.names import BeforeSocialSignup
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider

from . import browsers, live
from .conftest import SECRET, claims_of
from .snippets import blocks
from .test_browser import DESK, Person, Site, registered, served, with_and_without_script
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
        Oidc("closed", issuer=provider.issuer, signup=False, **own),
    )
    club = Feature(name="club", hooks=((BeforeSocialSignup, refuse_club),))
    with served(tmp_path_factory.mktemp("social"), [features, club], host="localhost") as site:
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


@pytest_asyncio.fixture(
    loop_scope="module",
    params=[True, pytest.param(False, marks=pytest.mark.full)],
    ids=["javascript", "plain"],
)
async def person(
    request: pytest.FixtureRequest, site: Site, browser: Any, provider: IdentityProvider
) -> AsyncIterator[Visitor]:
    context = await browser.new_context(java_script_enabled=request.param, viewport=DESK)
    context.set_default_timeout(10_000)
    visitor = Visitor(site, await context.new_page(), request.param)
    visitor.provider = provider
    yield visitor
    await context.close()


@with_and_without_script
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


@with_and_without_script
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


async def refuse_club(auth: object, event: BeforeSocialSignup) -> None:
    if str(event.profile.email).startswith("club"):
        raise Refused("Only members of the club.")


REFUSALS = {
    "no account": ("Closed", "There is no account for you here"),
    "signup closed": ("Acme", "Nobody can sign up here."),
    "hook": ("Acme", "Only members of the club."),
    "disabled": ("Acme", "There is no account for you here"),
    "held": ("Acme", "The password of this account was reset."),
    "reset first": ("Acme", "Choose a new password first: we can mail"),
    "unvouched": ("Acme", "Your e-mail address"),
    "sign in to link": ("Acme", "Your e-mail address"),
}
"""What may be the matter with the user, at which provider, and what the page says."""


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_who_is_refused_after_the_provider_is_on_a_page_with_a_way_on(
    refusal: str, person: Visitor, provider: IdentityProvider
) -> None:
    """Whatever it is: another account, or another way to sign in, is a click away."""
    name, sentence = REFUSALS[refusal]
    own = person.address(f"lou-{refusal.replace(' ', '-')}")
    email = person.address(
        f"club-{refusal.replace(' ', '-')}" if refusal == "hook" else own.partition("@")[0]
    )
    known = refusal in ("disabled", "held", "reset first", "sign in to link")
    if known:
        await registered(person, email)
        if refusal != "sign in to link":
            provider.user(email)
            await person.open("/account/security")
            await person.connect("Acme")
            await person.sees("Security", "The account is connected.")
            await person.open("/account/profile")
        await person.send("Sign out")
    if refusal in ("disabled", "reset first"):
        column = {"disabled": "is_active", "reset first": "password_reset_required"}[refusal]
        person.site.change(email, column, refusal != "disabled")
    elif refusal == "held":
        with closing(sqlite3.connect(person.site.database, timeout=30)) as connection, connection:
            held = "UPDATE auth_identity SET held_since = created_at WHERE email = ?"
            assert connection.execute(held, (email,)).rowcount == 1
    provider.user(email, email_verified=refusal not in ("unvouched", "sign in to link"))
    person.site.settings.signup = "closed" if refusal == "signup closed" else "open"
    try:
        await person.open("/account/sign-in?next=/account/security")
        await person.go_on_with(name)
        asked = refusal in ("unvouched", "sign in to link")
        await person.sees("Your e-mail address" if asked else "Sign in", sentence)
        await person.look(f"social-{refusal}")
        if asked:
            await person.page.get_by_role("link", name="Back to sign in").click()
            await person.sees("Sign in")
    finally:
        person.site.settings.signup = "open"
    provider.user(person.address(f"max-{refusal.replace(' ', '-')}"))
    await person.go_on_with("Acme")
    await person.sees("Security", "Connected accounts")


async def test_an_account_that_is_connected_to_somebody_else_is_said_in_the_section(
    person: Visitor, provider: IdentityProvider
) -> None:
    provider.user(person.address("noa"))
    await person.open("/account/sign-in")
    await person.go_on_with("Acme")
    await person.sees("Your account")
    await person.send("Sign out")
    await registered(person, person.address("oda"))
    await person.open("/account/security?next=/account/profile")
    await person.connect("Acme")
    await person.sees("Security", "This account is connected to somebody else here.")
    await person.look("identities-taken")
    provider.user(person.address("oda.elsewhere"))
    await person.connect("Acme")
    await person.sees("Your account")


async def test_who_comes_back_too_often_can_sign_in_another_way(
    browser: Any, provider: IdentityProvider, tmp_path: Path
) -> None:
    acme = Oidc("acme", issuer=provider.issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    limit = {"social_callback": "1/hour"}
    with served(tmp_path, [SocialLogin(acme)], host="localhost", rate_limits=limit) as site:  # type: ignore[arg-type]
        context = await browser.new_context(viewport=DESK)
        person = Visitor(site, await context.new_page(), True)
        person.provider = provider
        provider.fail()
        for sentence in ("You have not signed in there.", "Too many requests."):
            await person.open("/account/sign-in?next=/account/security")
            await person.go_on_with("Acme")
            await person.sees("Sign in", sentence)
        await person.look("social-too-often")
        assert await person.page.locator("#password").count() == 1
        await context.close()


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
    provider.clock = time.time  # as this app has it
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
