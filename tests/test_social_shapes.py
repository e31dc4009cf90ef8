"""Social login at the addresses of the shipped providers, which answer as their documentation says.

A server of the tests stands in for their hosts, behind a proxy that the environment names: nothing was tried
at the providers themselves.
"""

from __future__ import annotations

import dataclasses
import json
import re
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fastapi import FastAPI
from joserfc import jwk, jws, jwt

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import (
    Apple,
    Discord,
    GitHub,
    GitLab,
    Google,
    Microsoft,
    Provider,
    SocialLogin,
)
from fastapi_pluggable_auth.features.social_login.settings import settings_for
from fastapi_pluggable_auth.models import Identity, User
from fastapi_pluggable_auth.security import tls

from .conftest import Clock
from .snippets import blocks
from .test_social_login import BROWSER

DIALECTS = ("sqlite",)
BASE = "https://app.example.com"
CLIENT = "the-client"
SECRET = "the-secret-of-the-client"

DOCS = Path(__file__).parent.parent / "docs" / "social-login.md"
ENV_EXAMPLE = Path(__file__).parent.parent / ".env.example"
BOATS = ("boats.example", "api.boats.example")

GITHUB = "https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps"
GITHUB_ERRORS = (
    "https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/"
    "troubleshooting-oauth-app-access-token-request-errors"
)
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"
ENTRA = "https://login.microsoftonline.com"

Answer = tuple[int, object]


@dataclass
class World:
    """What is at the addresses of the providers: an answer, or what makes one of the fields and headers that
    come."""

    key: jwk.RSAKey = field(default_factory=lambda: jwk.RSAKey.generate_key(2048, auto_kid=True))
    at: dict[str, Answer | Callable[[dict[str, str], dict[str, str]], Answer]] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    claims: dict[str, Any] = field(default_factory=dict)
    """Of the next `id_token`."""

    def answer(self, url: str, fields: dict[str, str], headers: dict[str, str]) -> Answer:
        self.seen.append((url, fields, headers))
        found = self.at.get(url, (404, {"message": "Not Found"}))
        return found(fields, headers) if callable(found) else found

    def sent_to(self, url: str) -> tuple[dict[str, str], dict[str, str]]:
        """Fields and headers of the last request there."""
        return [each[1:] for each in self.seen if each[0] == url][-1]

    def publish(self, issuer: str, said_issuer: str = "", **more: object) -> None:
        """The document and the keys of a provider of OpenID Connect."""
        self.at[f"{issuer}/.well-known/openid-configuration"] = 200, {"issuer": said_issuer or issuer, **more}
        public = {**self.key.as_dict(private=False), "use": "sig", "alg": "RS256"}
        self.at[str(more["jwks_uri"])] = 200, {"keys": [public]}

    def grant(self, url: str, clock: Clock, nonce: str, **more: object) -> None:
        """Has a token endpoint give a token with the claims."""
        now = int(clock().timestamp())
        claims = {"aud": CLIENT, "iat": now, "exp": now + 3600, "nonce": nonce, **self.claims}
        header = {"alg": "RS256", "kid": self.key.kid, "typ": "JWT"}
        registry = jws.JWSRegistry(algorithms=["RS256"], strict_check_header=False)
        token = jwt.encode(header, claims, self.key, registry=registry)
        said = {
            "access_token": "an-access-token",
            "token_type": "Bearer",
            "expires_in": 3599,
            "id_token": token,
        }
        self.at[url] = 200, said | more


def _handler_of(world: World, certificate: ssl.SSLContext) -> type[BaseHTTPRequestHandler]:
    class Inside(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url, _, query = f"https://{self.headers['Host']}{self.path}".partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            fields = {name: values[0] for name, values in parse_qs(body or query).items()}
            status, said = world.answer(url, fields, {k.lower(): v for k, v in self.headers.items()})
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            with certificate.wrap_socket(self.connection, server_side=True) as inside:
                Inside(inside, self.client_address, self.server)
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    return Proxy


@pytest.fixture(scope="module")
def internet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, str, Path]]:
    """One server for all hosts, its address as a proxy, and the authority of its certificate."""
    world, authority = World(), trustme.CA()
    trusted = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    hosts = ("github.com", "api.github.com", "accounts.google.com", "oauth2.googleapis.com", "discord.com")
    more = ("www.googleapis.com", "appleid.apple.com", "login.microsoftonline.com", "graph.microsoft.com")
    authority.issue_cert(*hosts, *more, "gitlab.com", "git.example.com", *BOATS).configure_cert(context)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(world, context)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield world, f"http://127.0.0.1:{server.server_port}", trusted
        server.shutdown()
        thread.join()


@pytest.fixture
def world(internet: tuple[World, str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world, proxy, trusted = internet
    world.at.clear()
    world.seen.clear()
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    tls._https_context.cache_clear()
    yield world
    tls._https_context.cache_clear()


APPLE_KEY = generate_private_key(SECP256R1())
P8 = APPLE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def of_the_docs() -> Provider:
    """The provider that the page on social login writes."""
    (code,) = [block for block in blocks("python", DOCS.read_text("utf-8")) if "boats.example" in block]
    names: dict[str, Any] = {}
    exec(code, names)
    return dataclasses.replace(names["boats"], client_id=CLIENT, client_secret=SECRET)


@pytest.fixture
def app(request: pytest.FixtureRequest, settings: AuthSettings, clock: Clock) -> FastAPI:
    """With all providers, and those of Microsoft as the test has it."""
    own = {"client_id": CLIENT, "client_secret": SECRET}
    marker = request.node.get_closest_marker("parametrize")
    options = request.node.callspec.params if marker else {}
    providers = [
        of_the_docs(),
        GitHub(**own),
        Google(hd=options.get("hd"), **own),
        Apple(team_id="DEF123GHIJ", key_id="ABC123DEFG", private_key=P8, client_id=CLIENT),
        Microsoft(tenant=options.get("tenant", "common"), **own),
        Discord(**own),
        GitLab(url=options.get("url", "https://gitlab.com"), **own),
    ]
    settings.public_base_url = BASE
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, pages=True, features=[SocialLogin(*providers)])
    return app


@pytest.fixture
async def browser(app: FastAPI, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as browser:
        yield browser


async def begun(browser: httpx.AsyncClient, name: str) -> tuple[str, dict[str, str]]:
    """The page of the provider, without its fields, and the fields."""
    answer = await browser.get(f"/auth/social/{name}/start", params={"next": "/notes"})
    assert answer.status_code == 303, answer.text
    parts = urlsplit(answer.headers["location"])
    fields = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert fields["response_type"] == "code"
    assert fields["client_id"] == CLIENT
    assert fields["redirect_uri"] == f"{BASE}/auth/social/{name}/callback"
    assert fields["code_challenge_method"] == "S256"
    return parts._replace(query="").geturl(), fields


async def come_back(browser: httpx.AsyncClient, name: str, **said: str) -> httpx.Response:
    return await browser.get(f"/auth/social/{name}/callback", params=said)


def signed_in(answer: httpx.Response) -> bool:
    assert answer.status_code == 400 or (answer.status_code, answer.headers.get("location")) == (
        303,
        "/notes",
    )
    return answer.status_code == 303


def asks_for_an_address(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and "Your e-mail address" in answer.text


# GitHub

OCTOCAT = {
    "login": "octocat",
    "id": 583231,
    "node_id": "MDQ6VXNlcjE=",
    "type": "User",
    "site_admin": False,
    "name": "monalisa octocat",
    "email": None,
    "created_at": "2008-01-14T04:33:35Z",
}
"""https://docs.github.com/en/rest/users/users#get-the-authenticated-user"""
EMAILS = [
    {
        "email": "583231+octocat@users.noreply.github.com",
        "verified": True,
        "primary": False,
        "visibility": None,
    },
    {"email": "octocat@example.org", "verified": True, "primary": False, "visibility": None},
    {"email": "octocat@example.com", "verified": True, "primary": True, "visibility": "private"},
]
"""https://docs.github.com/en/rest/users/emails#list-email-addresses-for-the-authenticated-user"""


async def at_github(
    browser: httpx.AsyncClient,
    world: World,
    *,
    token: object = None,
    user: object = OCTOCAT,
    emails: Answer = (200, EMAILS),
    **more: str,
) -> httpx.Response:
    page, asked = await begun(browser, "github")
    assert (page, asked["scope"]) == ("https://github.com/login/oauth/authorize", "read:user user:email")
    right = {"access_token": "gho_16C7e42F292c", "scope": "read:user,user:email", "token_type": "bearer"}
    world.at["https://github.com/login/oauth/access_token"] = 200, token or right
    world.at["https://api.github.com/user"] = 200, user
    world.at["https://api.github.com/user/emails"] = emails
    return await come_back(browser, "github", code="a-code", state=asked["state"], **more)


async def test_github_gives_the_primary_address(browser: httpx.AsyncClient, world: World) -> None:
    """See GITHUB: JSON only where the request asks for it, credentials in the body."""
    assert signed_in(await at_github(browser, world))
    user, identity = await User.get(), await Identity.get()
    assert (user.email, user.is_verified, user.display_name) == (
        "octocat@example.com",
        True,
        "monalisa octocat",
    )
    assert (identity.issuer, identity.subject) == ("https://github.com", "583231")
    sent, headers = world.sent_to("https://github.com/login/oauth/access_token")
    assert (sent["client_id"], sent["client_secret"], sent["code"]) == (CLIENT, SECRET, "a-code")
    assert (headers["accept"], "authorization" in headers) == ("application/json", False)
    assert world.sent_to("https://api.github.com/user")[1]["authorization"] == "Bearer gho_16C7e42F292c"


async def test_somebody_at_github_who_has_another_name_and_address_now_is_the_same(
    browser: httpx.AsyncClient, world: World
) -> None:
    await at_github(browser, world)
    renamed = OCTOCAT | {"login": "octodog", "name": None}
    other = [{"email": "octodog@example.com", "verified": True, "primary": True, "visibility": "public"}]
    assert signed_in(await at_github(browser, world, user=renamed, emails=(200, other)))
    assert await User.all().count() == 1


async def test_github_vouches_for_a_primary_address_that_is_verified_alone(
    browser: httpx.AsyncClient, world: World
) -> None:
    octocat = EMAILS[-1]
    for emails in ([octocat | {"verified": False}], [octocat | {"primary": False}], []):
        assert asks_for_an_address(await at_github(browser, world, emails=(200, emails)))


async def test_an_error_of_github_comes_with_status_200(
    browser: httpx.AsyncClient, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """See GITHUB_ERRORS."""
    credentials = ("incorrect_client_credentials", "redirect_uri_mismatch")
    for error in ("bad_verification_code", *credentials, "unverified_user_email"):
        said = {"error": error, "error_description": "Why.", "error_uri": f"/apps/#{error}"}
        answer = await at_github(browser, world, token=said)
        assert (answer.status_code, "was not valid" in answer.text) == (400, True)
        assert error in caplog.text


async def test_addresses_that_github_does_not_show_are_a_refusal(
    browser: httpx.AsyncClient, world: World
) -> None:
    """https://docs.github.com/en/rest/users/emails: without the scope `user:email`."""
    said = {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"}
    for status in (403, 404):
        assert not signed_in(await at_github(browser, world, emails=(status, said)))


async def test_github_may_name_itself_in_the_callback(browser: httpx.AsyncClient, world: World) -> None:
    """RFC 9207, which it sent without having published an issuer:
    https://github.com/langfuse/langfuse/issues/13091."""
    assert signed_in(await at_github(browser, world, iss="https://github.com/login/oauth"))
    for issuer in ("https://evil.example/login/oauth", "https://github.com.evil.example"):
        assert not signed_in(await at_github(browser, world, iss=issuer))


async def test_who_says_no_at_github_is_on_a_page_that_says_so(
    browser: httpx.AsyncClient, world: World
) -> None:
    """https://docs.github.com/en/apps/oauth-apps/maintaining-oauth-apps/troubleshooting-authorization-request-errors"""
    _, asked = await begun(browser, "github")
    said = {"error": "access_denied", "error_description": "The user has denied your application access."}
    answer = await come_back(
        browser, "github", state=asked["state"], error_uri="/apps/#access-denied", **said
    )
    assert (answer.status_code, "You have not signed in there." in answer.text) == (400, True)


# Discord

NELLY = {
    "id": "80351110224678912",
    "username": "nelly",
    "discriminator": "1337",
    "global_name": "Nelly",
    "avatar": "8342729096ea3675442027381ff50dfe",
    "verified": True,
    "email": "nelly@discord.com",
    "flags": 64,
    "premium_type": 1,
}
"""https://discord.com/developers/docs/resources/user#user-object"""


async def at_discord(browser: httpx.AsyncClient, world: World, user: object) -> httpx.Response:
    page, asked = await begun(browser, "discord")
    assert (page, asked["scope"]) == ("https://discord.com/oauth2/authorize", "identify email")
    said = {
        "access_token": "6qrZcUqja781",
        "token_type": "Bearer",
        "expires_in": 604800,
        "refresh_token": "D43f",
    }
    world.at["https://discord.com/api/oauth2/token"] = 200, said | {"scope": "identify email"}
    world.at["https://discord.com/api/v10/users/@me"] = 200, user
    return await come_back(browser, "discord", code="a-code", state=asked["state"])


@pytest.mark.parametrize(("name", "shown"), [("Nelly", "Nelly"), (None, "nelly")])
async def test_discord_gives_an_address_that_it_has_verified(
    name: str | None, shown: str, browser: httpx.AsyncClient, world: World
) -> None:
    """https://discord.com/developers/docs/topics/oauth2#authorization-code-grant"""
    assert signed_in(await at_discord(browser, world, NELLY | {"global_name": name}))
    user = await User.get()
    assert (user.email, user.is_verified, user.display_name) == ("nelly@discord.com", True, shown)
    assert (await Identity.get()).subject == NELLY["id"]


async def test_discord_vouches_for_nothing_else(browser: httpx.AsyncClient, world: World) -> None:
    for said in ({"verified": False}, {"email": None}, {"verified": "true"}):
        assert asks_for_an_address(await at_discord(browser, world, NELLY | said))


async def test_an_error_of_discord_is_a_refusal(browser: httpx.AsyncClient, world: World) -> None:
    """RFC 6749 section 5.2, and https://discord.com/developers/docs/reference#error-messages."""
    grant, client = {"error": "invalid_grant"}, {"error": "invalid_client"}
    for said in ((400, grant), (401, client), (401, {"message": "401: Unauthorized", "code": 0})):
        _, asked = await begun(browser, "discord")
        world.at["https://discord.com/api/oauth2/token"] = said
        assert not signed_in(await come_back(browser, "discord", code="a-code", state=asked["state"]))


# Google

JSMITH = {
    "iss": "https://accounts.google.com",
    "azp": CLIENT,
    "sub": "10769150350006150715113082367",
    "hd": "example.com",
    "email": "jsmith@example.com",
    "email_verified": True,
    "name": "J Smith",
    "picture": "https://lh3.googleusercontent.com/a/x",
}
"""https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload"""


async def at_google(
    browser: httpx.AsyncClient, world: World, clock: Clock, said_back: str | None = None, **claims: object
) -> httpx.Response:
    world.publish(
        "https://accounts.google.com",
        authorization_endpoint="https://accounts.google.com/o/oauth2/v2/auth",
        token_endpoint="https://oauth2.googleapis.com/token",
        userinfo_endpoint="https://openidconnect.googleapis.com/v1/userinfo",
        jwks_uri="https://www.googleapis.com/oauth2/v3/certs",
        response_types_supported=["code", "token", "id_token", "none"],
        subject_types_supported=["public"],
        id_token_signing_alg_values_supported=["RS256"],
        token_endpoint_auth_methods_supported=["client_secret_post", "client_secret_basic"],
        code_challenge_methods_supported=["plain", "S256"],
    )
    page, asked = await begun(browser, "google")
    assert page == "https://accounts.google.com/o/oauth2/v2/auth"
    world.claims = {name: value for name, value in (JSMITH | claims).items() if value is not None}
    scope = "openid https://www.googleapis.com/auth/userinfo.email"
    world.grant("https://oauth2.googleapis.com/token", clock, asked["nonce"], scope=scope)
    back = {
        "code": "4/0A",
        "state": asked["state"],
        "scope": "email openid",
        "authuser": "0",
        "prompt": "none",
    }
    return await come_back(browser, "google", **back, **({"iss": said_back} if said_back else {}))


@pytest.mark.parametrize("said", [True, "true"])
async def test_google_gives_an_address_that_it_has_verified(
    said: object, browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    """The example of its page has `email_verified` as a text, its tokens have it as a boolean."""
    assert signed_in(await at_google(browser, world, clock, email_verified=said))
    user, identity = await User.get(), await Identity.get()
    assert (user.email, user.is_verified, user.display_name) == ("jsmith@example.com", True, "J Smith")
    assert (identity.issuer, identity.subject) == ("https://accounts.google.com", JSMITH["sub"])


async def test_google_vouches_for_nothing_else(
    browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    for said in (False, None, "false"):
        assert asks_for_an_address(await at_google(browser, world, clock, email_verified=said))


async def test_google_has_two_names_for_itself_in_tokens_and_people_have_one_account(
    browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    """https://developers.google.com/identity/gsi/web/guides/verify-google-id-token"""
    long, short = "https://accounts.google.com", "accounts.google.com"
    for said, back in ((long, long), (short, long), (short, None), (long, None)):
        assert signed_in(await at_google(browser, world, clock, back, iss=said))
    for evil in ("https://accounts.google.com.evil.example", [long], {}):
        assert not signed_in(await at_google(browser, world, clock, iss=evil))
    assert await Identity.all().count() == 1


@pytest.mark.parametrize("hd", ["example.com"])
async def test_only_a_domain_of_google_that_was_named_is_let_in(
    hd: str, browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    """By the claim: the field of the request is but a wish, which anybody may take out of the address."""
    for said in (hd, "evil.example", None):
        assert signed_in(await at_google(browser, world, clock, hd=said)) == (said == hd)
    assert (await begun(browser, "google"))[1]["hd"] == hd


# Apple

RELAY = "dpdcnf87nu@privaterelay.appleid.com"
JOHN = {
    "iss": "https://appleid.apple.com",
    "sub": "001234.0a1b2c3d4e5f.1234",
    "email": RELAY,
    "email_verified": "true",
    "is_private_email": "true",
    "nonce_supported": True,
}
"""https://developer.apple.com/documentation/signinwithapple/authenticating-users-with-sign-in-with-apple"""


async def at_apple(
    browser: httpx.AsyncClient,
    world: World,
    clock: Clock,
    user: object = None,
    error: str | None = None,
    **claims: object,
) -> httpx.Response:
    world.publish(
        "https://appleid.apple.com",
        authorization_endpoint="https://appleid.apple.com/auth/authorize",
        token_endpoint="https://appleid.apple.com/auth/token",
        revocation_endpoint="https://appleid.apple.com/auth/revoke",
        jwks_uri="https://appleid.apple.com/auth/keys",
        response_types_supported=["code"],
        response_modes_supported=["query", "fragment", "form_post"],
        subject_types_supported=["pairwise"],
        id_token_signing_alg_values_supported=["RS256"],
        scopes_supported=["openid", "email", "name"],
        token_endpoint_auth_methods_supported=["client_secret_post"],
    )
    page, asked = await begun(browser, "apple")
    assert (page, asked["response_mode"]) == ("https://appleid.apple.com/auth/authorize", "form_post")
    assert {*asked["scope"].split()} == {"openid", "email", "name"}
    world.claims = {name: value for name, value in (JOHN | claims).items() if value is not None}
    world.grant("https://appleid.apple.com/auth/token", clock, asked["nonce"], refresh_token="r.1")
    fields = {"state": asked["state"], **({"error": error} if error else {"code": "c.0.abc"})}
    if user is not None:
        fields["user"] = json.dumps(user)
    away = {"Origin": "https://appleid.apple.com", "Sec-Fetch-Site": "cross-site"}
    cookies, browser.cookies = browser.cookies, httpx.Cookies()  # none with a post across sites
    posted = await browser.post("/auth/social/apple/callback", data=fields, headers=away)
    browser.cookies = cookies
    assert posted.status_code == 303, posted.text
    return await browser.get(posted.headers["location"])


async def test_apple_gives_a_relay_address_and_a_name_with_the_first_answer_alone(
    browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    """https://developer.apple.com/documentation/signinwithapplerestapi/request-an-authorization-to-the-sign-in-with-apple-server."""
    named = {"name": {"firstName": "John", "lastName": "Appleseed"}, "email": "somebody@else.example"}
    assert signed_in(await at_apple(browser, world, clock, named))
    assert signed_in(await at_apple(browser, world, clock))
    user = await User.get()
    assert (user.email, user.is_verified, user.display_name) == (RELAY, True, "John Appleseed")


async def test_apple_gets_a_secret_that_its_key_has_signed(
    browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    """https://developer.apple.com/documentation/accountorganizationaldatasharing/creating-a-client-secret."""
    assert signed_in(await at_apple(browser, world, clock))
    sent, headers = world.sent_to("https://appleid.apple.com/auth/token")
    assert "authorization" not in headers
    public = jwk.ECKey.import_key(
        APPLE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    secret = jwt.decode(sent["client_secret"], public, algorithms=["ES256"])
    now = clock().timestamp()
    assert secret.header["kid"] == "ABC123DEFG"
    assert (secret.claims["iss"], secret.claims["sub"]) == ("DEF123GHIJ", CLIENT)
    assert secret.claims["aud"] == "https://appleid.apple.com"
    assert now - 60 < secret.claims["iat"] <= now < secret.claims["exp"] < now + 15_777_000


async def test_apple_vouches_for_nothing_else(browser: httpx.AsyncClient, world: World, clock: Clock) -> None:
    """Managed accounts may have no address."""
    for said in ("false", None):
        assert asks_for_an_address(await at_apple(browser, world, clock, email_verified=said))
    assert asks_for_an_address(await at_apple(browser, world, clock, email=None, email_verified=None))


async def test_who_cancels_at_apple_is_on_a_page_that_says_so(
    browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    answer = await at_apple(browser, world, clock, error="user_cancelled_authorize")
    assert (answer.status_code, "You have not signed in there." in answer.text) == (400, True)


# Microsoft

ABE = {
    "ver": "2.0",
    "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    "name": "Abe Lincoln",
    "preferred_username": "abeli@example.com",
    "oid": "00000000-0000-0000-66f3-3332eca7ea81",
    "aio": "Df2UVXL1ix!lMCWMSOJBcFatzcGfvFGhjKv8q5g0x732",
}
"""https://learn.microsoft.com/entra/identity-platform/id-tokens"""


async def at_microsoft(
    browser: httpx.AsyncClient,
    world: World,
    clock: Clock,
    tenant: str,
    tid: str,
    said_back: str | None = None,
    userinfo: object = None,
    **claims: object,
) -> httpx.Response:
    """https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc"""
    own = CONSUMERS if tenant == "consumers" else tenant
    shared = own in ("common", "organizations")
    world.publish(
        f"{ENTRA}/{own}/v2.0",
        f"{ENTRA}/{{tenantid}}/v2.0" if shared else "",
        authorization_endpoint=f"{ENTRA}/{own}/oauth2/v2.0/authorize",
        token_endpoint=f"{ENTRA}/{own}/oauth2/v2.0/token",
        token_endpoint_auth_methods_supported=[
            "client_secret_post",
            "private_key_jwt",
            "client_secret_basic",
        ],
        jwks_uri=f"{ENTRA}/{own}/discovery/v2.0/keys",
        userinfo_endpoint="https://graph.microsoft.com/oidc/userinfo",
        response_modes_supported=["query", "fragment", "form_post"],
        subject_types_supported=["pairwise"],
        id_token_signing_alg_values_supported=["RS256"],
    )
    page, asked = await begun(browser, "microsoft")
    assert page == f"{ENTRA}/{own}/oauth2/v2.0/authorize"
    world.claims = {"iss": f"{ENTRA}/{tid}/v2.0", "tid": tid, **ABE, **claims}
    world.grant(f"{ENTRA}/{own}/oauth2/v2.0/token", clock, asked["nonce"], ext_expires_in=3599)
    world.at["https://graph.microsoft.com/oidc/userinfo"] = 200, {"sub": ABE["sub"], **(userinfo or {})}
    back = {"code": "M.C5_BL2", "state": asked["state"], "session_state": "b"}
    return await come_back(browser, "microsoft", **back, **({"iss": said_back} if said_back else {}))


VOUCHED = {"email": "abeli@example.com", "xms_edov": True}
OTHER = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("tenant", "tid", "good"),
    [
        ("common", TENANT, True),
        ("common", CONSUMERS, True),
        ("organizations", TENANT, True),
        ("consumers", CONSUMERS, True),
        ("consumers", TENANT, False),
        (TENANT, TENANT, True),
        (TENANT, OTHER, False),
    ],
)
async def test_microsoft_lets_in_the_tenants_that_were_named(
    tenant: str, tid: str, good: bool, browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    """The document for several tenants has a template for their issuers."""
    assert signed_in(await at_microsoft(browser, world, clock, tenant, tid, **VOUCHED)) == good
    assert [each.issuer for each in await Identity.all()] == [f"{ENTRA}/{tid}/v2.0"] * good


async def test_a_token_of_microsoft_is_of_its_tenant(
    browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    """https://learn.microsoft.com/entra/identity-platform/claims-validation"""
    for tid, issuer in ((TENANT, OTHER), ("common", "common"), ("{tenantid}", "{tenantid}"), ("", "")):
        claims = VOUCHED | {"iss": f"{ENTRA}/{issuer}/v2.0"}
        assert not signed_in(await at_microsoft(browser, world, clock, "common", tid, **claims)), tid
    assert not signed_in(await at_microsoft(browser, world, clock, "common", TENANT, f"{ENTRA}/{OTHER}/v2.0"))
    own = f"{ENTRA}/{TENANT}/v2.0"
    assert signed_in(await at_microsoft(browser, world, clock, "common", TENANT, own, **VOUCHED))


async def test_two_tenants_of_microsoft_have_their_own_people(
    browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    for tid in (TENANT, OTHER):
        email = f"abe-{tid[0]}@example.com"
        assert signed_in(
            await at_microsoft(browser, world, clock, "common", tid, **VOUCHED | {"email": email})
        )
    assert await User.all().count() == 2


async def test_microsoft_vouches_for_an_address_by_xms_edov_alone(
    browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    """https://learn.microsoft.com/entra/identity-platform/optional-claims-reference, and nOAuth:
    https://www.descope.com/blog/post/noauth."""
    claims = {"email": "abeli@example.com", "email_verified": True}
    for said in (False, 0, "0", "false", ""):
        answer = await at_microsoft(browser, world, clock, "common", TENANT, **claims, xms_edov=said)
        assert asks_for_an_address(answer), said
    assert asks_for_an_address(await at_microsoft(browser, world, clock, "common", TENANT, **claims))
    for number, said in enumerate((True, 1, "1", "true")):
        claims = {"sub": f"sub{number}", "email": f"abe{number}@example.com", "xms_edov": said}
        assert signed_in(await at_microsoft(browser, world, clock, "common", TENANT, **claims)), said


async def test_an_address_is_asked_for_where_microsoft_says_none(
    browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    """A user name that looks like one is not: `preferred_username` may change, and is for show."""
    for userinfo in ({}, {"email": "abeli@example.com"}):
        answer = await at_microsoft(browser, world, clock, "common", TENANT, userinfo=userinfo)
        assert asks_for_an_address(answer)
        assert ("abeli@example.com" in answer.text) == bool(userinfo)


# GitLab

ROOT = {
    "sub": "42",
    "sub_legacy": "4c5a8e",
    "name": "Sidney Jones",
    "nickname": "sidney",
    "preferred_username": "sidney",
    "email": "sidney@example.com",
    "email_verified": True,
    "groups_direct": ["a", "a/b"],
}
"""https://docs.gitlab.com/integration/openid_connect_provider"""


@pytest.mark.parametrize(
    "url", ["https://gitlab.com", "https://git.example.com/", "https://git.example.com/lab"]
)
async def test_gitlab_gives_an_address_that_it_has_verified_also_where_it_is_your_own(
    url: str, browser: httpx.AsyncClient, world: World, clock: Clock
) -> None:
    issuer = url.rstrip("/")
    world.publish(
        issuer,
        authorization_endpoint=f"{issuer}/oauth/authorize",
        token_endpoint=f"{issuer}/oauth/token",
        userinfo_endpoint=f"{issuer}/oauth/userinfo",
        jwks_uri=f"{issuer}/oauth/discovery/keys",
        response_types_supported=["code"],
        response_modes_supported=["query", "fragment", "form_post"],
        token_endpoint_auth_methods_supported=["client_secret_basic", "client_secret_post"],
        subject_types_supported=["public"],
        id_token_signing_alg_values_supported=["RS256"],
        code_challenge_methods_supported=["plain", "S256"],
    )
    for said, good in ((False, asks_for_an_address), (True, signed_in)):
        page, asked = await begun(browser, "gitlab")
        assert (page, asked["scope"]) == (f"{issuer}/oauth/authorize", "openid email profile")
        world.claims = {"iss": issuer, "auth_time": int(clock().timestamp()), **ROOT, "email_verified": said}
        world.grant(
            f"{issuer}/oauth/token", clock, asked["nonce"], scope="openid email profile", created_at=1
        )
        assert good(await come_back(browser, "gitlab", code="a-code", state=asked["state"]))
    assert ((await User.get()).display_name, (await Identity.get()).issuer) == ("Sidney Jones", issuer)


# Of the docs


async def test_the_provider_that_the_docs_write_signs_in(browser: httpx.AsyncClient, world: World) -> None:
    for confirmed, good in ((False, asks_for_an_address), (True, signed_in)):
        page, asked = await begun(browser, "boats")
        assert (page, asked["scope"]) == ("https://boats.example/oauth/authorize", "me")
        world.at["https://boats.example/oauth/token"] = 200, {"access_token": "a", "token_type": "bearer"}
        user = {"id": 7, "mail": "kim@example.com", "confirmed": confirmed}
        world.at["https://api.boats.example/me"] = 200, user
        assert good(await come_back(browser, "boats", code="a-code", state=asked["state"]))
    assert ((await User.get()).email, (await Identity.get()).subject) == ("kim@example.com", "7")


def test_the_credentials_of_each_shipped_provider_are_in_the_example_of_settings() -> None:
    apple = Apple(team_id="t", key_id="k", private_key=P8)
    shipped = (Google(), Microsoft(), apple, GitHub(), GitLab(), Discord())
    fields = settings_for(shipped).model_fields
    wanted = {
        f"AUTH_{name.upper()}": field.description
        for name, field in fields.items()
        if name.endswith(("_client_id", "_client_secret")) and name != "apple_client_secret"
    }
    text = ENV_EXAMPLE.read_text("utf-8")
    found = re.findall(r"^# (.*)\n# (AUTH_\w+_CLIENT_(?:ID|SECRET))=$", text, re.MULTILINE)
    assert {name: about for about, name in found} == wanted
    page = DOCS.read_text("utf-8")
    assert [name for name in wanted if name not in page] == []
