"""Social login on the pages, over HTTP: links that begin it, the section of connected accounts, and a page
with a way on for every refusal."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx
import pyotp
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, Refused, include_auth
from fastapi_pluggable_auth.features import GitHub, Oidc, Passkeys, SocialLogin
from fastapi_pluggable_auth.features.social_login.names import BeforeSocialSignup
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.models import Identity, Passkey, User

from .conftest import EMAIL, PASSWORD, Account, Clock
from .test_notices import enable_two_factor

DIALECTS = ("sqlite",)
KIM = "kim@example.com"
BASE = "http://localhost:8000"
BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
SECTION = "/account/security#identities"
CREDENTIALS = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider().serving() as provider:
        provider.user(KIM, name="Kim")
        yield provider


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, provider: IdentityProvider) -> FastAPI:
    app = FastAPI()
    acme = Oidc("acme", issuer=provider.issuer, label="Acme <&> Co", **CREDENTIALS)
    staff = Oidc("staff", issuer=provider.issuer, signup=False, **CREDENTIALS)
    gone = Oidc("gone", issuer="http://127.0.0.1:9", **CREDENTIALS)
    features = [SocialLogin(acme, staff, gone, GitHub(**CREDENTIALS)), Passkeys()]
    include_auth(app, settings=settings, clock=clock, pages=True, features=features)
    return app


@pytest.fixture
async def browser(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as browser:
        yield browser


def links_on(page: httpx.Response) -> dict[str, str]:
    """The addresses of links that look like buttons, by what they say."""
    found = re.findall(r'<a class="button quiet" href="([^"]+)"[^>]*>(.*?)</a>', page.text, re.DOTALL)
    return {unescape(re.sub("<[^>]+>", "", text)).strip(): unescape(link) for link, text in found}


async def at_provider(url: str) -> str:
    async with httpx.AsyncClient() as away:
        return (await away.get(url)).headers["location"].removeprefix(BASE)


async def follow(browser: httpx.AsyncClient, link: str) -> httpx.Response:
    """Follows a link to the provider, and comes back."""
    begun = await browser.get(link)
    assert begun.status_code == 303, begun.text
    assert begun.headers["location"].startswith("http://127.0.0.1:"), begun.headers["location"]
    return await browser.get(await at_provider(begun.headers["location"]))


async def signed_in(browser: httpx.AsyncClient, next: str = "") -> httpx.Response:
    return await follow(browser, f"/auth/social/acme/start?next={next}")


async def submit(browser: httpx.AsyncClient, page: str, action: str, **fields: str) -> httpx.Response:
    shown = await browser.get(page)
    token = re.search(r'name="csrf_token" value="([^"]+)"', shown.text)
    assert token is not None
    assert f'action="{action}' in shown.text
    return await browser.post(action, data={"csrf_token": token[1], **fields})


async def landed(browser: httpx.AsyncClient, response: httpx.Response) -> httpx.Response:
    """The page where a redirect ends."""
    while response.is_redirect:
        response = await browser.get(response.headers["location"])
    return response


async def password_of(browser: httpx.AsyncClient, next: str = "") -> httpx.Response:
    fields = {"email": EMAIL, "password": PASSWORD, "next": next}
    return await submit(browser, "/account/sign-in", "/account/sign-in", **fields)


async def test_each_provider_has_a_link_that_keeps_next(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/account/sign-in?next=/notes")
    links = links_on(page)
    assert [*links] == [
        "Continue with Acme <&> Co",
        "Continue with Staff",
        "Continue with Gone",
        "Continue with GitHub",
    ]
    assert links["Continue with Acme <&> Co"] == "/auth/social/acme/start?next=%2Fnotes"
    assert "Acme <&>" not in page.text
    assert page.text.count("<svg") == 4
    back = await follow(browser, links["Continue with Acme <&> Co"])
    assert (back.status_code, back.headers["location"]) == (303, "/notes")


async def test_a_provider_that_makes_no_accounts_is_not_on_the_page_to_sign_up(
    browser: httpx.AsyncClient,
) -> None:
    assert "Continue with Staff" not in links_on(await browser.get("/account/sign-up"))
    assert "Continue with GitHub" in links_on(await browser.get("/account/sign-up"))


async def test_links_lead_to_the_app_where_it_is_mounted(app: FastAPI, browser: httpx.AsyncClient) -> None:
    outer = FastAPI()
    outer.mount("/inner", app)
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as other:
        links = links_on(await other.get("/inner/account/sign-in"))
        assert links["Continue with Staff"] == "/inner/auth/social/staff/start"


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        ("access_denied", 400, "You have not signed in there."),
        ("server_error", 503, "The other site does not answer."),
        ("invalid_scope", 400, "was not valid."),
    ],
)
async def test_who_turns_back_at_the_provider_is_on_the_sign_in_page_with_all_other_ways(
    error: str, status: int, sentence: str, browser: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    provider.fail(error)
    page = await signed_in(browser, "/notes")
    assert (page.status_code, sentence in page.text) == (status, True)
    assert 'id="password"' in page.text
    assert links_on(page)["Continue with Staff"] == "/auth/social/staff/start?next=%2Fnotes"
    assert '<input type="hidden" name="next" value="/notes">' in page.text


async def test_what_a_provider_refuses_is_a_sentence_and_a_way_on(
    browser: httpx.AsyncClient, provider: IdentityProvider, app: FastAPI, clock: Clock
) -> None:
    async def refuse(event: BeforeSocialSignup) -> None:
        raise Refused("Only members of the club.")

    said = {
        "down": ("/auth/social/gone/start?next=/notes", 503, "The other site does not answer."),
        "unknown": ("/auth/social/nobody/start?next=/notes", 404, "There is no such way to sign in."),
    }
    for link, status, sentence in said.values():
        page = await browser.get(link)
        assert (page.status_code, sentence in page.text) == (status, True), page.text
        assert '<input type="hidden" name="next" value="/notes">' in page.text
    provider.user(KIM, email_verified=False)
    page = await signed_in(browser, "/notes")
    assert (page.status_code, "Your e-mail address" in page.text) == (200, True)
    assert '<input type="hidden" name="next" value="/notes">' in page.text
    provider.user("new@example.com")
    page = await follow(browser, "/auth/social/staff/start?next=/notes")
    assert (page.status_code, "There is no account for you here" in page.text) == (403, True)
    app.state.pluggable_auth.on(BeforeSocialSignup)(refuse)
    page = await signed_in(browser, "/notes")
    assert (page.status_code, "Only members of the club." in page.text) == (403, True)
    assert '<input type="hidden" name="next" value="/notes">' in page.text
    begun = await browser.get("/auth/social/acme/start")
    back = await at_provider(begun.headers["location"])
    clock.advance(minutes=11)
    page = await browser.get(back)
    assert (page.status_code, "That took too long" in page.text) == (400, True)
    assert links_on(page)
    page = await browser.get(f"/auth/social/acme/callback?code={'x' * 5000}")
    assert (page.status_code, "was not valid" in page.text) == (400, True)
    assert await User.all().count() == 0


async def test_a_closed_sign_up_is_said_on_the_sign_in_page(
    settings: AuthSettings, browser: httpx.AsyncClient
) -> None:
    settings.signup = "closed"
    page = await signed_in(browser)
    assert page.status_code == 403
    assert 'id="problem"' in page.text
    assert "sign-up" not in page.text


async def test_the_code_page_follows_where_a_second_factor_is_on(
    browser: httpx.AsyncClient, account: Account, provider: IdentityProvider, clock: Clock
) -> None:
    assert (await enable_two_factor(account)).status_code == 200
    clock.advance(minutes=5)
    provider.user(EMAIL)
    page = await signed_in(browser, "/notes")
    assert page.status_code == 200
    assert 'name="challenge"' in page.text
    assert '<input type="hidden" name="next" value="/notes">' in page.text
    assert (await browser.get("/auth/me")).status_code == 401


async def test_connecting_leads_on_to_next(browser: httpx.AsyncClient, account: Account) -> None:
    await password_of(browser)
    shown = await browser.get("/account/security?next=/notes")
    back = await follow(browser, links_on(shown)["Connect Acme <&> Co"])
    assert back.headers["location"] == "/notes"


async def connected(browser: httpx.AsyncClient) -> str:
    """Connects Acme for the user of `account`; gives the id of the identity."""
    await password_of(browser)
    shown = await browser.get("/account/security")
    back = await follow(browser, links_on(shown)["Connect Acme <&> Co"])
    assert back.headers["location"] == "/account/security?notice=identity_linked#identities"
    return str((await Identity.get()).id)


async def test_an_account_is_connected_listed_and_disconnected(
    browser: httpx.AsyncClient, account: Account
) -> None:
    identity = await connected(browser)
    page = await browser.get("/account/security?notice=identity_linked")
    assert "The account is connected." in page.text
    assert KIM in page.text
    assert "Connect Acme <&> Co" not in links_on(page)
    action = "/account/security/identities/disconnect"
    gone = await submit(browser, "/account/security", action, identity=identity)
    assert gone.headers["location"] == "/account/security?notice=identity_removed#identities"
    assert await Identity.all().count() == 0
    again = await browser.post(action, data={"identity": identity})
    assert (again.status_code, "There is no such connection." in again.text) == (404, True)


async def test_the_last_way_in_stays_and_the_page_says_why(browser: httpx.AsyncClient) -> None:
    """A-95."""
    await signed_in(browser)
    action = "/account/security/identities/disconnect"
    identity = str((await Identity.get()).id)
    answer = await submit(browser, "/account/security", action, identity=identity)
    assert (answer.status_code, "only way into your account" in answer.text) == (409, True)
    assert await Identity.all().count() == 1


@pytest.mark.parametrize("lie", ["none", "another provider", "another session"])
async def test_a_link_to_connect_that_our_page_did_not_make_leads_to_the_page(
    lie: str, app: FastAPI, browser: httpx.AsyncClient, account: Account
) -> None:
    """Another site, also by a `next` that people sign in with, would have a stranger's account connected."""
    await password_of(browser)
    link = links_on(await browser.get("/account/security"))["Connect Acme <&> Co"]
    if lie == "none":
        link = "/account/security/identities/acme/connect"
    elif lie == "another provider":
        link = link.replace("/acme/", "/staff/")
    else:
        await submit(browser, "/account/security", "/account/sign-out")
        await password_of(browser)
    answer = await browser.get(link)
    assert answer.headers["location"] == "/account/security/identities?refused=csrf_refused"
    page = await landed(browser, answer)
    assert (page.status_code, "open for too long" in page.text) == (403, True)
    assert links_on(page)["Connect Acme <&> Co"]


async def test_a_login_that_is_not_recent_is_confirmed_before_the_link_is_there(
    browser: httpx.AsyncClient, account: Account, clock: Clock
) -> None:
    """A-95: No form leads on to the provider: browsers would block that."""
    await password_of(browser)
    link = links_on(await browser.get("/account/security"))["Connect Acme <&> Co"]
    clock.advance(hours=1)
    section = "/account/confirm-password?next=%2Faccount%2Fsecurity%23identities"
    shown = links_on(await browser.get("/account/security"))
    assert shown["Connect Acme <&> Co"] == section
    assert (await browser.get(link)).headers["location"] == section
    action = "/account/confirm-password"
    done = await submit(browser, section, action, password=PASSWORD, next=SECTION)
    assert done.headers["location"] == "/account/security?notice=confirmed#identities"


async def test_who_is_signed_out_signs_in_before_connecting(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/account/security/identities/acme/connect?token=x")
    assert answer.headers["location"] == "/account/sign-in?next=%2Faccount%2Fsecurity%23identities"


async def test_what_is_refused_while_connecting_is_said_in_the_section(
    browser: httpx.AsyncClient, account: Account, provider: IdentityProvider, app: FastAPI
) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE, headers=BROWSER) as other:
        assert (await signed_in(other)).status_code == 303
    await password_of(browser)
    links = links_on(await browser.get("/account/security?next=/notes"))
    answer = await follow(browser, links["Connect Acme <&> Co"])
    page = await landed(browser, answer)
    assert (page.status_code, "connected to somebody else" in page.text) == (409, True)
    provider.fail()
    page = await landed(browser, await follow(browser, links["Connect Acme <&> Co"]))
    assert (page.status_code, "You have not signed in there." in page.text) == (400, True)
    assert links_on(page)["Connect Acme <&> Co"].endswith("next=%2Fnotes")
    page = await landed(browser, await browser.get(links["Connect Gone"]))
    assert (page.status_code, "does not answer" in page.text) == (503, True)
    assert '<section id="identities">' in page.text
    page = await browser.get("/account/security/identities?refused=%3Cscript%3E")
    assert page.headers["location"] == SECTION


async def test_a_held_account_is_kept_or_disconnected_by_its_owner(
    browser: httpx.AsyncClient, account: Account, app: FastAPI
) -> None:
    identity = await connected(browser)
    await Identity.all().update(held_since=app.state.pluggable_auth.clock())
    await submit(browser, "/account/security", "/account/sign-out")
    page = await signed_in(browser)
    assert (page.status_code, "The password of this account was reset." in page.text) == (403, True)
    there = await password_of(browser, "/notes")
    assert there.headers["location"] == "/account/security?notice=identities_held&next=%2Fnotes"
    page = await landed(browser, there)
    assert "On hold" in page.text
    assert "Go on" not in links_on(page)
    action = "/account/security/identities/keep"
    kept = await submit(browser, there.headers["location"], action, identity=identity)
    assert kept.headers["location"] == "/account/security?notice=identity_kept#identities"
    assert (await Identity.get()).held_since is None
    await submit(browser, "/account/security", "/account/sign-out")
    assert (await signed_in(browser)).status_code == 303


async def test_there_is_one_link_to_go_on_and_none_while_anything_is_held(
    browser: httpx.AsyncClient, account: Account, clock: Clock
) -> None:
    await connected(browser)
    user = await User.get()
    passkey = await Passkey.create(
        user=user,
        digest="d",
        credential_id="c",
        public_key="k",
        transports=[],
        aaguid=user.id,
        backup_eligible=False,
        backed_up=False,
        verifies_user=True,
        name="Phone",
        created_at=clock(),
    )
    page = await browser.get("/account/security?next=/notes")
    assert (page.text.count("Go on"), links_on(page)["Go on"]) == (1, "/notes")
    assert "Go on" not in (await browser.get("/account/security")).text
    for row in (passkey, await Identity.get()):
        await type(row).filter(id=row.id).update(held_since=clock())  # type: ignore[attr-defined]
        assert "Go on" not in (await browser.get("/account/security?next=/notes")).text
        await type(row).filter(id=row.id).update(held_since=None)  # type: ignore[attr-defined]
        await type(row).filter(id=row.id).delete()  # type: ignore[attr-defined]
    assert "Go on" not in (await browser.get("/account/security?next=/notes")).text


async def test_a_user_without_a_password_confirms_at_the_provider(
    browser: httpx.AsyncClient, clock: Clock, provider: IdentityProvider
) -> None:
    await signed_in(browser)
    clock.advance(hours=1)
    action = "/account/security/identities/disconnect"
    answer = await submit(browser, "/account/security", action, identity=str((await Identity.get()).id))
    assert answer.headers["location"].startswith("/account/confirm-password?next=")
    page = await browser.get(answer.headers["location"])
    assert "Your account has no password" not in page.text
    (link,) = [at for said, at in links_on(page).items() if said == "Confirm with Acme <&> Co"]
    provider.fail()
    refused = await landed(browser, await follow(browser, link))
    assert (refused.status_code, "You have not signed in there." in refused.text) == (400, True)
    link = links_on(refused)["Confirm with Acme <&> Co"]
    provider.user(KIM)
    begun = await browser.get(link)
    asked = parse_qs(urlsplit(begun.headers["location"]).query)
    assert asked["prompt"] == ["login"]
    provider.extra = {"auth_time": int(clock().timestamp()), "exp": int(clock().timestamp()) + 300}
    back = await browser.get(await at_provider(begun.headers["location"]))
    assert back.headers["location"].startswith("/account/security/identities/disconnect")
    answer = await submit(browser, "/account/security", action, identity=str((await Identity.get()).id))
    assert answer.status_code == 409


async def test_no_provider_confirms_in_place_of_a_second_factor(
    browser: httpx.AsyncClient, account: Account, provider: IdentityProvider, clock: Clock
) -> None:
    assert (await enable_two_factor(account)).status_code == 200
    clock.advance(minutes=5)
    provider.user(EMAIL)
    page = await signed_in(browser)
    challenge = re.search(r'name="challenge" value="([^"]+)"', page.text)
    token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert challenge is not None
    assert token is not None
    fields = {
        "csrf_token": token[1],
        "challenge": challenge[1],
        "code": pyotp.TOTP((await User.get()).totp_secret or "").at(clock()),
    }
    assert (await browser.post("/account/sign-in/code", data=fields)).status_code == 303
    page = await browser.get("/account/confirm-password")
    assert page.status_code == 200
    assert "Confirm with Acme" not in page.text
