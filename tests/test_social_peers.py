"""Social login at providers that others have written: `oidc-provider` of npm, `oidc-provider-mock` of PyPI.

The browser goes through their pages, over HTTP, and the app runs under a real server.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx
import pytest

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.email.provider import MemoryProvider
from fastapi_pluggable_auth.features import Oidc, SocialLogin

from . import browsers, live, node
from .conftest import SECRET
from .form_browser import Page
from .test_plugin import app_with_plain_init_in_lifespan
from .test_social_login import BROWSER

with_node = pytest.mark.skipif(node.missing() is not None, reason=str(node.missing()))
with_browser = pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing()))

AWKWARD = "a secret: 100% & +more/="
"""Credentials in a header are encoded as in a form (RFC 6749 section 2.3.1)."""

CLIENTS: dict[str, dict[str, Any]] = {
    "basic": {"token_endpoint_auth_method": "client_secret_basic", "client_secret": AWKWARD},
    "public": {"token_endpoint_auth_method": "none", "id_token_signed_response_alg": "PS256"},
    "posting": {
        "token_endpoint_auth_method": "client_secret_basic",
        "client_secret": SECRET,
        "id_token_signed_response_alg": "EdDSA",
    },
    "told": {
        "token_endpoint_auth_method": "client_secret_post",
        "client_secret": SECRET,
        "id_token_signed_response_alg": "Ed25519",
    },
}
"""Those that are registered at `oidc-provider`, by the names of the providers in the app."""

MOCKED = {"mock": "client_secret_basic", "mock-body": "client_secret_post"}
"""The same of `oidc-provider-mock`, which takes the secret only as it is registered."""

OPTIONS: dict[str, dict[str, Any]] = {
    "mock-body": {"secret_in_body": True},
    "posting": {"parameters": {"response_mode": "form_post"}},
}


@dataclass(frozen=True)
class Peer:
    """A provider, by its name in the app."""

    name: str
    issuer: str

    def user(self, sub: str, **claims: object) -> None:
        """Somebody whom it knows."""
        httpx.put(f"{self.issuer}/users/{sub}", json=claims).raise_for_status()

    async def begun(self, browser: httpx.AsyncClient, **changed: str) -> str:
        """Its page, which the app leads to; an attacker may have changed something there."""
        begun = await browser.get(f"/auth/social/{self.name}/start?next=/notes")
        assert begun.status_code == 303, begun.text
        return with_fields(begun.headers["location"], **changed)

    async def signs_in(self, browser: httpx.AsyncClient, sub: str, **changed: str) -> httpx.Response:
        return await browser.get(await sent_back(await self.begun(browser, **changed), sub))


def with_fields(url: str, **changed: str) -> str:
    """The same address with other fields; without those that are empty."""
    parts = urlsplit(url)
    fields = {name: values[0] for name, values in parse_qs(parts.query).items()} | changed
    return parts._replace(query=urlencode({k: v for k, v in fields.items() if v})).geturl()


async def sent_back(url: str, sub: str, *, consents: bool = True) -> str:
    """Goes through the pages of a provider; gives where it sends the browser back to."""
    async with httpx.AsyncClient() as away:
        answer = await away.get(url)
        for _ in range(10):
            while answer.is_redirect:
                to = urljoin(url, answer.headers["location"])
                if urlsplit(to).netloc != urlsplit(url).netloc:
                    return to
                answer = await away.get(to)
            assert answer.status_code == 200, answer.text
            page = Page(answer)
            form = page.forms[0]
            typed = dict.fromkeys(form.fields, sub)
            if not consents and any(
                button.get("value") == "deny" for each in page.forms for button in each.buttons
            ):
                typed = {"action": "deny"}
            elif not consents and not typed:
                answer = await away.get(next(link for link in page.links if link.endswith("/abort")))
                continue
            answer = await away.post(urljoin(str(answer.url), form.action), data=form.hidden | typed)
    raise AssertionError(f"{answer.url} leads nowhere")


@dataclass(frozen=True)
class Site:
    """An app under a real server, and the providers of the app, by their names."""

    base: str
    peers: dict[str, Peer]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("peers")
    own, mock, userinfo, token = (f"http://127.0.0.1:{live.free_port()}" for _ in range(4))
    base = own.replace("127.0.0.1", "localhost")
    peers = {name: Peer(name, mock) for name in MOCKED}
    peers |= {name: Peer(name, token if name == "told" else userinfo) for name in CLIENTS}
    command = ["oidc_provider_mock", "--port", mock.rpartition(":")[2], "--require-registration"]
    with live.running(command, folder, {}, folder / "log") as process:
        process.wait_for(mock)
        credentials = {name: registered(peers[name], base, method) for name, method in MOCKED.items()}
        credentials |= {name: (name, client.get("client_secret")) for name, client in CLIENTS.items()}
        social = SocialLogin(
            *(
                Oidc(name, issuer=peer.issuer, client_id=key, client_secret=secret, **OPTIONS.get(name, {}))
                for name, peer in peers.items()
                for key, secret in [credentials[name]]
            )
        )
        app = app_with_plain_init_in_lifespan(f"sqlite://{folder / 'test.sqlite3'}")
        settings = AuthSettings(
            _env_file=None,
            jwt_secret=SECRET,
            bcrypt_rounds=4,
            database_timeout=60,
            public_base_url=base,
        )
        include_auth(app, settings=settings, pages=True, email_provider=MemoryProvider(), features=[social])
        with live.serving(app, port=int(own.rpartition(":")[2])):
            yield Site(base, peers)


def registered(peer: Peer, base: str, method: str) -> tuple[str, str]:
    """An id and a secret from the provider (RFC 7591)."""
    body = {"redirect_uris": [callback(base, peer.name)], "token_endpoint_auth_method": method}
    answer = httpx.post(f"{peer.issuer}/oauth2/clients", json=body).raise_for_status().json()
    return answer["client_id"], answer["client_secret"]


def callback(base: str, name: str) -> str:
    return f"{base}/auth/social/{name}/callback"


@pytest.fixture(scope="module")
def of_npm(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """While `oidc-provider` answers."""
    folder = tmp_path_factory.mktemp("node")
    node.install(folder, "oidc-provider")
    shutil.copy(Path(__file__).parent / "peer.mjs", folder)
    clients = [
        {"client_id": name, "redirect_uris": [callback(site.base, name)], **client}
        for name, client in CLIENTS.items()
    ]
    at = {"userinfo": site.peers["basic"].issuer, "token": site.peers["told"].issuer}
    (folder / "peer.json").write_text(json.dumps({**at, "clients": clients}))
    with node.serving(folder, at["token"], "peer.mjs", "peer.json"):
        yield


@pytest.fixture
def peer(request: pytest.FixtureRequest, site: Site) -> Peer:
    if request.param in CLIENTS:
        request.getfixturevalue("of_npm")
    return site.peers[request.param]


def at(*names: str) -> pytest.MarkDecorator:
    marked = [pytest.param(name, marks=with_node) if name in CLIENTS else name for name in names]
    return pytest.mark.parametrize("peer", marked, indirect=True)


@pytest.fixture
async def browser(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=site.base, headers=BROWSER) as browser:
        yield browser


async def who(browser: httpx.AsyncClient) -> dict[str, Any]:
    """Who is signed in; nobody where there is no address."""
    return dict((await browser.get("/auth/me", headers={"Accept": "application/json"})).json())


@at("mock", "mock-body", "basic", "public", "told")
async def test_somebody_gets_an_account_and_is_known_again(peer: Peer, browser: httpx.AsyncClient) -> None:
    """With PKCE and a nonce, which `oidc-provider` insists on, whatever signs its tokens."""
    email = f"{peer.name}@example.com"
    peer.user(f"known-{peer.name}", email=email, email_verified=True, name="Kim Lee")
    answer = await peer.signs_in(browser, f"known-{peer.name}")
    assert (answer.status_code, answer.headers.get("location")) == (303, "/notes"), answer.text
    first = await who(browser)
    assert (first["email"], first["is_verified"], first["display_name"]) == (email, True, "Kim Lee")
    browser.cookies.clear()
    peer.user(f"known-{peer.name}", email=f"another-{email}", email_verified=True)
    assert (await peer.signs_in(browser, f"known-{peer.name}")).status_code == 303
    assert (await who(browser))["id"] == first["id"]


@at("mock", "basic", "told")
@pytest.mark.parametrize(
    "said", [{}, {"email_verified": False}, {"email_verified": None}, {"email_verified": "true"}]
)
async def test_only_an_address_that_is_vouched_for_is_taken(
    said: dict[str, object], peer: Peer, browser: httpx.AsyncClient
) -> None:
    """nOAuth: https://www.descope.com/blog/post/noauth."""
    sub = f"unvouched-{peer.name}"
    peer.user(sub, email=f"{sub}@example.com", **said)
    answer = await peer.signs_in(browser, sub)
    assert (answer.status_code, "Your e-mail address" in answer.text) == (200, True), answer.text
    assert "email" not in await who(browser)


@at("mock", "basic")
async def test_who_refuses_there_is_on_a_page_that_says_so(peer: Peer, browser: httpx.AsyncClient) -> None:
    """Where the answer has its `state` (RFC 6749 section 4.1.2.1), which `oidc-provider-mock` leaves out
    on Python before 3.12: no refusal without one is for this browser."""
    peer.user("refusing", email="refusing@example.com", email_verified=True)
    back = await sent_back(await peer.begun(browser), "refusing", consents=False)
    said = parse_qs(urlsplit(back).query)
    assert said["error"] == ["access_denied"]
    assert "state" in said or peer.name == "mock"
    answer = await browser.get(back)
    sentence = "You have not signed in there." if "state" in said else "That took too long"
    assert (answer.status_code, sentence in answer.text) == (400, True), answer.text
    assert ('name="next" value="/notes"' in answer.text) == ("state" in said)


@at("mock", "basic", "public")
@pytest.mark.parametrize("nonce", ["another", ""])
async def test_a_token_with_another_nonce_is_refused(
    nonce: str, peer: Peer, browser: httpx.AsyncClient
) -> None:
    """OpenID Connect Core section 3.1.3.7: a token of another sign-in, here one that an attacker began."""
    sub = f"nonce-{peer.name}"
    peer.user(sub, email=f"{sub}@example.com", email_verified=True)
    answer = await peer.signs_in(browser, sub, nonce=nonce)
    assert (answer.status_code, "was not valid" in answer.text) == (400, True), answer.text
    assert "email" not in await who(browser)


@at("basic", "public", "told")
async def test_a_code_for_another_verifier_gets_no_token(peer: Peer, browser: httpx.AsyncClient) -> None:
    """RFC 7636 section 4.6: the provider checks it, and its refusal is one of the app."""
    peer.user("pkce", email="pkce@example.com", email_verified=True)
    answer = await peer.signs_in(browser, "pkce", code_challenge="A" * 43)
    assert (answer.status_code, "was not valid" in answer.text) == (400, True), answer.text


@at("basic", "told")
async def test_the_answer_of_another_issuer_is_refused(peer: Peer, browser: httpx.AsyncClient) -> None:
    """RFC 9207: it announces `iss`, so an answer without it is of somebody else."""
    sub = f"issuer-{peer.name}"
    peer.user(sub, email=f"{sub}@example.com", email_verified=True)
    back = await sent_back(await peer.begun(browser), sub)
    assert parse_qs(urlsplit(back).query)["iss"] == [peer.issuer]
    for issuer in ("", f"{peer.issuer}/", "https://evil.example"):
        answer = await browser.get(with_fields(back, iss=issuer))
        assert (answer.status_code, "was not valid" in answer.text) == (400, True), issuer
    assert (await browser.get(back)).status_code == 303


@at("basic")
async def test_a_login_is_recent_again_once_the_user_has_signed_in_there_anew(
    peer: Peer, browser: httpx.AsyncClient
) -> None:
    """By `prompt=login` and `max_age=0`, which the provider answers with `auth_time` (Core section
    3.1.2.1)."""
    peer.user("again", email="again@example.com", email_verified=True)
    peer.user("another", email="another@example.com", email_verified=True)
    await peer.signs_in(browser, "again")
    fetch = {"Accept": "application/json", "X-Requested-With": "fetch"}
    path = f"/account/identities/{peer.name}/reauthenticate"
    for sub, says in (("another", "refused="), ("again", "notice=confirmed")):
        begun = await browser.post(path, json={}, headers=fetch)
        assert begun.status_code == 200, begun.text
        answer = await browser.get(await sent_back(begun.json()["url"], sub))
        assert (answer.status_code, says in answer.headers["location"]) == (303, True), answer.headers
    begun = await browser.post(path, json={}, headers=fetch)
    url = with_fields(begun.json()["url"], prompt="", max_age="")
    answer = await browser.get(await sent_back(url, "again"))
    assert "refused=" in answer.headers["location"]


@with_browser
@at("posting")
async def test_its_page_posts_the_answer_in_a_real_browser(peer: Peer, site: Site) -> None:
    """OAuth 2.0 Form Post Response Mode, across sites: the browser sends no Lax cookie with it."""
    from playwright.async_api import async_playwright

    email = "posting@example.com"
    peer.user("posting", email=email, email_verified=True)
    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright)
        page = await browser.new_page()
        page.set_default_timeout(20_000)

        async def begin() -> None:
            await page.goto(f"{site.base}/account/sign-in?next=/account/security")
            await page.get_by_role("link", name="Continue with Posting", exact=True).click()

        await begin()
        await page.get_by_placeholder("Enter any login").fill("posting")
        await page.get_by_placeholder("and password").fill("x")
        await page.get_by_role("button", name="Sign-in").click()
        await page.get_by_role("link", name="Cancel").click()
        await page.get_by_text("You have not signed in there.").wait_for()
        await begin()
        await page.get_by_role("button", name="Continue").click()
        await page.get_by_role("heading", level=1, name="Security", exact=True).wait_for()
        assert (await (await page.request.get(f"{site.base}/auth/me")).json())["email"] == email
        await browser.close()
