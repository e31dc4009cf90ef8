"""The OAuth server: applications that act for a user, from the first request to the end of their access."""

from __future__ import annotations

import logging
from base64 import b64encode
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.events import SecurityEvent
from fastapi_pluggable_auth.features import Feature, OAuthServer, PersonalTokens
from fastapi_pluggable_auth.features.oauth_server.names import ApplicationAuthorised, BeforeConsent
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.hooks import Refused
from fastapi_pluggable_auth.models import OAuthClient, OAuthGrant, OAuthToken, Pending, User

from .conftest import Account, Clock, Mailbox, on_each_database
from .form_browser import FormBrowser
from .oauth_program import (
    ISSUER,
    REDIRECT,
    RESOURCES,
    SCOPES,
    VERIFIER,
    Program,
    Reader,
    add_notes,
    answer_in,
    browser_of,
    code_for,
    location_in,
    registered,
    signed_in,
)
from .test_queries import STATEMENT

DIALECTS = ("sqlite",)


@pytest.fixture
def oauth() -> OAuthSettings:
    """Its settings; a test may change them at any time."""
    return OAuthSettings(_env_file=None)  # type: ignore[call-arg]


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, oauth: OAuthSettings) -> FastAPI:
    app = FastAPI()
    features = [OAuthServer(resources=RESOURCES, scopes=SCOPES, settings=oauth)]
    include_auth(app, settings=settings, clock=clock, features=features, pages=True)
    add_notes(app)
    return app


@pytest.fixture
async def user(app: FastAPI, account: Account) -> FormBrowser:
    """The browser of the user."""
    return await signed_in(app, account)


@pytest.fixture
async def program(auth: Auth, client: httpx.AsyncClient) -> Program:
    """A public client that the operator has registered."""
    return await registered(auth, client)


async def test_a_program_finds_the_server_and_acts_for_its_user_within_scope_and_resource(
    app: FastAPI, client: httpx.AsyncClient, auth: Auth, account: Account, program: Program
) -> None:
    """From a refused request on, as MCP's clients do (RFC 9728 section 5, RFC 8414, RFC 9207)."""
    refused = await client.get("/api/notes")
    said = refused.headers["www-authenticate"]
    metadata = f"{ISSUER}/.well-known/oauth-protected-resource/api"
    assert said == f'Bearer resource_metadata="{metadata}", scope="notes:read"'
    resource = (await client.get(metadata.removeprefix(ISSUER))).json()
    assert resource["resource"] == f"{ISSUER}/api"
    assert resource["authorization_servers"] == [ISSUER]
    server = (await client.get("/.well-known/oauth-authorization-server")).json()
    assert server["issuer"] == ISSUER
    assert server["authorization_endpoint"] == f"{ISSUER}/oauth/authorize"
    assert server["code_challenge_methods_supported"] == ["S256"]
    assert server["authorization_response_iss_parameter_supported"] is True

    stranger = browser_of(app)  # which the sign-in page leads back
    await stranger.open(program.address())
    page = await stranger.submit("sign-in", email=account.email, password=account.password)
    assert page.path == "/oauth/authorize"
    assert "Read your notes" in page.text
    assert "Change your notes" not in page.text
    assert "app.example.com" in page.text
    location = location_in(await stranger.submit("authorize", decision="allow"))
    assert location.startswith(f"{REDIRECT}?")
    answer = answer_in(location)
    assert answer.keys() == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == ("s123", ISSUER)

    exchanged = await program.exchange(answer["code"])
    assert exchanged.headers["cache-control"] == "no-store"
    tokens = exchanged.json()
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == ("Bearer", 3600, "notes:read")
    assert tokens["access_token"].startswith("oat_")
    assert tokens["refresh_token"].startswith("ort_")
    assert (await program.get()).json() == {"email": account.email}
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    beyond = await client.post("/api/notes", headers=headers)
    assert (beyond.status_code, beyond.json()["code"]) == (403, "insufficient_scope")
    assert beyond.headers["www-authenticate"] == (
        f'Bearer resource_metadata="{metadata}", scope="notes:write", error="insufficient_scope"'
    )
    for path in ("/mcp/notes", "/elsewhere", "/auth/me"):
        assert (await program.get(path)).status_code == 401, path
    at_rest = [dict(vars(row)) for row in await OAuthToken.all()]
    for secret in (answer["code"], tokens["access_token"], tokens["refresh_token"]):
        assert secret not in str(at_rest)


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "c_unknown"},
        {"client_id": None},
        {"redirect_uri": "https://app.example.com/other"},
        {"redirect_uri": "https://evil.example/callback"},
        {"code_challenge": None},
        {"code_challenge": "short"},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"state": "x" * 3000},
    ],
)
async def test_a_bad_client_address_or_challenge_is_refused_before_any_sign_in_and_never_redirected(
    app: FastAPI, program: Program, changed: dict[str, str | None]
) -> None:
    """RFC 6749 section 4.1.2.1, RFC 9700 section 4.8.2: without PKCE nothing begins."""
    page = await program.ask(browser_of(app), **changed)
    assert (page.status, page.path) == (400, "/oauth/authorize")
    assert not any(tag == "meta" and "http-equiv" in attributes for tag, attributes in page.tags)
    refused = await program.http.get(program.address(**changed), follow_redirects=False)
    assert (refused.status_code, refused.json()["code"]) == (400, "oauth_request_refused")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"request_uri": "https://app.example.com/r"}, "invalid_request"),
        ({"scope": "notes:delete"}, "invalid_scope"),
        ({"resource": "https://other.example/api"}, "invalid_target"),
        ({"resource": f"{ISSUER}/api@evil"}, "invalid_target"),
        ({"prompt": "none login"}, "invalid_request"),
    ],
)
async def test_what_else_is_wrong_the_client_learns_by_a_redirect_after_the_sign_in(
    app: FastAPI, user: FormBrowser, program: Program, changed: dict[str, str | None], error: str
) -> None:
    """RFC 6749 section 4.1.2.1; RFC 9700 section 4.11.2: nobody is led elsewhere by a link to the app."""
    if "prompt" not in changed:
        stranger = await program.ask(browser_of(app), **changed)
        assert stranger.path == "/account/sign-in"
    answer = answer_in(location_in(await program.ask(user, **changed)))
    assert answer["error"] == error
    assert (answer["state"], answer["iss"]) == ("s123", ISSUER)
    assert "code" not in answer


async def test_a_parameter_that_is_there_twice_is_refused(
    app: FastAPI, user: FormBrowser, program: Program, client: httpx.AsyncClient
) -> None:
    """RFC 6749 sections 3.1 and 3.2; only resources may be several (RFC 8707)."""
    for twice in ("&client_id=x", f"&redirect_uri={REDIRECT}", "&code_challenge=" + "a" * 43):
        assert (await user.open(program.address() + twice)).status == 400, twice
    answer = answer_in(location_in(await user.open(program.address() + "&scope=notes:write")))
    assert answer["error"] == "invalid_request"
    both = await user.open(f"{program.address()}&resource={ISSUER}/mcp/")
    assert both.form("authorize")
    form = "grant_type=authorization_code&code=a&code=b&code_verifier=c&client_id=" + program.client_id
    sent = await client.post(
        "/oauth/token", content=form, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (sent.status_code, sent.json()["error"]) == (400, "invalid_request")


async def test_silent_requests_are_answered_without_a_page(
    app: FastAPI, user: FormBrowser, program: Program
) -> None:
    for browser, error in ((browser_of(app), "login_required"), (user, "consent_required")):
        page = await program.ask(browser, prompt="none")
        assert answer_in(location_in(page))["error"] == error


async def test_consent_to_a_trusted_client_is_remembered_for_no_more_than_was_allowed(
    user: FormBrowser, program: Program, clock: Clock, auth: Auth, client: httpx.AsyncClient
) -> None:
    await program.code(user)  # which it does not use
    assert (await program.ask(user)).form("authorize")
    await program.connect(user)
    assert (await program.ask(user, scope="notes:read notes:write")).form("authorize")
    await program.connect(user, scope="notes:read notes:write")
    again = answer_in(location_in(await program.ask(user)))
    assert again.keys() == {"code", "state", "iss"}
    assert (await program.exchange(again["code"])).json()["scope"] == "notes:read"
    silent = await program.ask(user, prompt="none")
    assert "code" in answer_in(location_in(silent))
    for changed in ({"prompt": "consent"}, {"resource": f"{ISSUER}/mcp"}):
        assert (await program.ask(user, **changed)).form("authorize"), changed
    local = await registered(auth, client, "http://127.0.0.1/callback")
    local.redirect_uri = "http://127.0.0.1:51234/callback"
    await local.connect(user)
    page = await local.ask(user)
    assert page.form("authorize")  # which any program there could be: asked again, with a warning
    assert "runs on your device" in page.text
    clock.advance(days=91)
    assert (await program.ask(user)).path == "/account/sign-in"


async def test_a_client_may_ask_for_a_fresh_login(user: FormBrowser, program: Program, clock: Clock) -> None:
    clock.advance(minutes=2)
    page = await program.ask(user, prompt="login")
    assert page.path == "/account/confirm-password"
    page = await user.submit("confirm-password", password="correct horse battery")
    assert page.path == "/oauth/authorize"
    assert page.form("authorize")


async def test_a_refusal_of_the_user_reaches_the_client_and_a_decision_counts_once(
    app: FastAPI, user: FormBrowser, program: Program, account: Account, clock: Clock
) -> None:
    answer = answer_in(await program.authorize(user, "deny"))
    assert answer["error"] == "access_denied"
    assert (answer["state"], answer["iss"]) == ("s123", ISSUER)
    assert not await OAuthGrant.all().count()

    page = await program.ask(user)
    form = page.form("authorize")
    await user.submit("authorize", decision="allow")
    user.page = page
    assert (await user.submit("authorize", decision="allow")).status == 400
    page = await program.ask(user, prompt="consent")
    clock.advance(minutes=11)
    assert (await user.submit("authorize", decision="allow")).status == 400
    page = await program.ask(user, prompt="consent")
    other = await signed_in(app, account)  # another session of the same user
    other.page = await program.ask(other, prompt="consent")
    other.page.form("authorize").hidden["request"] = page.form("authorize").hidden["request"]
    assert (await other.submit("authorize", decision="allow")).status == 400
    assert form.hidden.keys() == {"csrf_token", "request"}  # what was asked for is kept by the app


async def test_hooks_narrow_or_refuse_and_hear_and_the_owner_is_told(
    user: FormBrowser, program: Program, auth: Auth, account: Account, mailbox: Mailbox
) -> None:
    heard: list[Any] = []

    @auth.on(BeforeConsent)
    async def narrow(event: BeforeConsent[User]) -> None:
        if "notes:write" not in event.scopes:
            raise Refused("Not today.", code="not_today")
        event.scopes.discard("notes:write")

    auth.on(ApplicationAuthorised)(heard.append)
    auth.on(SecurityEvent)(heard.append)
    mailbox.clear()
    tokens = await program.connect(user, scope="notes:read notes:write")
    assert tokens["scope"] == "notes:read"
    assert [each.scopes for each in heard if isinstance(each, ApplicationAuthorised)] == [
        frozenset({"notes:read"})
    ]
    kinds = [(str(each.kind), str(each.outcome)) for each in heard if isinstance(each, SecurityEvent)]
    assert kinds[-2:] == [("application_authorised", "success"), ("oauth_token", "success")]
    (mail,) = mailbox.messages
    assert mail["To"] == account.email
    assert "Desk" in mail.get_body().get_content()  # type: ignore[union-attr]
    assert answer_in(await program.authorize(user, prompt="consent"))["error"] == "access_denied"


async def test_tokens_are_asked_for_by_each_way_that_a_client_authenticates(
    user: FormBrowser, auth: Auth, client: httpx.AsyncClient, program: Program
) -> None:
    """RFC 6749 sections 2.3 and 5.2."""
    secret = await registered(auth, client, confidential=True)
    code = await secret.code(user)
    assert secret.secret is not None
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
    }
    named = {**form, "client_id": secret.client_id}
    for wrong in (named, {**named, "client_secret": "ocs_wrong"}, {**named, "client_id": "c_unknown"}):
        refused = await client.post("/oauth/token", data=wrong)
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
        assert refused.headers["www-authenticate"].startswith("Basic ")
    assert (await program.exchange(code)).json()["error"] == "invalid_grant"  # of another client
    basic = b64encode(f"{secret.client_id}:{secret.secret}".encode()).decode()
    header = {"Authorization": f"Basic {basic}"}
    both = await client.post("/oauth/token", data={**named, "client_secret": secret.secret}, headers=header)
    assert both.json()["error"] == "invalid_request"
    assert (await client.post("/oauth/token", data=form, headers=header)).status_code == 200
    assert (await secret.exchange(await secret.code(user))).status_code == 200  # in the form
    secret.secret = None
    assert (await secret.refresh()).json()["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": None}, "invalid_request"),
        ({"code": None}, "invalid_request"),
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"redirect_uri": "https://app.example.com/other"}, "invalid_grant"),
        ({"resource": f"{ISSUER}/mcp"}, "invalid_target"),
    ],
)
async def test_a_wrong_token_request_says_why_and_spends_no_code(
    user: FormBrowser, program: Program, changed: dict[str, Any], error: str
) -> None:
    """RFC 6749 section 5.2."""
    code = await program.code(user)
    refused = await program.exchange(**{"code": code, **changed})
    assert (refused.status_code, refused.json()["error"]) == (400, error)
    assert refused.headers["cache-control"] == "no-store"
    assert refused.headers["access-control-allow-origin"] == "*"
    assert (await program.exchange(code, redirect_uri=None)).status_code == 200  # as in OAuth 2.1


async def test_a_code_lives_a_minute(user: FormBrowser, program: Program, clock: Clock) -> None:
    code = await program.code(user)
    clock.advance(seconds=61)
    assert (await program.exchange(code)).json()["error"] == "invalid_grant"


async def test_a_refresh_token_is_renewed_may_ask_for_less_and_never_for_more(
    user: FormBrowser, program: Program, clock: Clock
) -> None:
    """RFC 6749 section 6: the new refresh token has the scope of the old one."""
    await program.connect(user, scope="notes:read notes:write", resource=f"{ISSUER}/api")
    for changed, error in (
        ({"scope": "notes:read notes:delete"}, "invalid_scope"),
        ({"resource": f"{ISSUER}/mcp"}, "invalid_target"),
    ):
        assert (await program.refresh(**changed)).json()["error"] == error
    first = program.tokens
    assert (await program.refresh(scope="notes:read")).json()["scope"] == "notes:read"
    assert program.tokens["refresh_token"] != first["refresh_token"]
    assert (await program.refresh()).json()["scope"] == "notes:read notes:write"
    assert (await program.get()).status_code == 200
    assert (await program.get(token=first["access_token"])).status_code == 200  # until it expires
    clock.advance(hours=1)
    assert (await program.get()).status_code == 401
    assert (await program.refresh()).status_code == 200


async def test_access_ends_thirty_days_after_its_last_use_and_ninety_after_the_consent(
    user: FormBrowser, program: Program, clock: Clock, auth: Auth
) -> None:
    await program.connect(user)
    for _ in range(3):
        clock.advance(days=29)
        assert (await program.refresh()).status_code == 200
    clock.advance(days=2, hours=23, minutes=30)
    assert 1790 < (await program.refresh()).json()["expires_in"] <= 1800
    clock.advance(minutes=31)
    assert (await program.get()).status_code == 401
    assert (await program.refresh()).json()["error"] == "invalid_grant"

    clock.advance(days=1)
    await purge(auth)
    assert not await OAuthGrant.all().count() + await OAuthToken.all().count()
    assert not await Pending.filter(kind="oauth_request").count()
    assert await OAuthClient.all().count() == 1


async def test_revocation_ends_one_access_token_or_the_whole_grant_of_this_client_alone(
    user: FormBrowser, auth: Auth, program: Program, client: httpx.AsyncClient
) -> None:
    """RFC 7009 section 2."""
    other = await registered(auth, client)
    await program.connect(user)
    await other.connect(user)
    assert (await other.revoke(program.tokens["refresh_token"])).json()["error"] == "invalid_grant"
    assert (await program.get()).status_code == 200
    assert (await program.revoke(program.tokens["access_token"])).status_code == 200
    assert (await program.get()).status_code == 401
    assert (await program.refresh()).status_code == 200
    assert (await program.revoke(program.tokens["refresh_token"])).status_code == 200
    assert (await program.get()).status_code == 401
    assert (await program.refresh()).json()["error"] == "invalid_grant"
    assert (await program.revoke("ort_" + "a" * 43)).status_code == 200  # what there is not has ended
    assert (await other.get()).status_code == 200


async def test_the_metadata_and_the_token_endpoint_are_open_to_pages_of_any_origin_and_no_other_is(
    client: httpx.AsyncClient, program: Program
) -> None:
    origin = {"Origin": "https://inspector.example"}
    asked = {**origin, "Access-Control-Request-Method": "GET"}
    for path in (
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource/mcp",
        "/oauth/token",
    ):
        preflight = await client.options(path, headers=asked)
        assert preflight.status_code == 204, path
        assert preflight.headers["access-control-allow-origin"] == "*", path
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/mcp"):
        answer = await client.get(path, headers=origin)
        assert answer.headers["access-control-allow-origin"] == "*", path
    others = (
        await client.get(program.address(), headers=origin),
        await client.post("/oauth/revoke", headers=origin),
        await client.get("/account/applications", headers=origin),
    )
    assert not [each.url for each in others if "access-control-allow-origin" in each.headers]
    assert (await client.get("/.well-known/oauth-protected-resource")).status_code == 404


@on_each_database
async def test_what_ends_all_access_ends_applications_and_a_logout_does_not(
    user: FormBrowser, program: Program, account: Account, auth: Auth
) -> None:
    await program.connect(user)
    assert (await account.client.post("/auth/logout", headers=account.headers)).status_code == 200
    assert (await program.get()).status_code == 200
    await User.filter(email=account.email).update(is_active=False)
    assert (await program.get()).status_code == 401
    assert (await program.refresh()).json()["error"] == "invalid_grant"
    await User.filter(email=account.email).update(is_active=True)
    assert (await program.refresh()).status_code == 200
    assert (await account.client.post("/auth/forgot-password", json={"email": account.email})).is_success
    reset = {"new_password": "another good one"}
    link = account.mailbox.token(account.email)
    assert (await account.client.post(f"/auth/reset-password/{link}", json=reset)).status_code == 200
    assert (await program.get()).status_code == 401
    assert (await program.refresh()).json()["error"] == "invalid_grant"
    assert not await OAuthToken.all().count()


async def test_a_token_costs_one_query_and_one_more_when_it_is_first_shown(
    user: FormBrowser, program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    await program.connect(user)
    seen = []
    for _ in range(3):
        with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
            caplog.clear()
            assert (await program.get()).status_code == 200
        seen.append([line.split()[0] for line in caplog.messages if STATEMENT.match(line)])
    assert seen == [["SELECT", "UPDATE", "SELECT"], ["SELECT"], ["SELECT"]]


async def test_clients_and_browsers_are_limited(
    program: Program, settings: AuthSettings, app: FastAPI, clock: Clock
) -> None:
    other = FastAPI()
    settings.rate_limits = {"oauth_token": "2/hour", "oauth_authorize": "2/hour"}
    server = OAuthServer(resources=RESOURCES, scopes=SCOPES)
    include_auth(other, settings=settings, clock=clock, features=[server], pages=True)
    transport = httpx.ASGITransport(other, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
        limited = Program(http, program.client_id)
        answers = [await limited.exchange("oac_x") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [400, 400, 429]
        assert answers[-1].json()["error"] == "rate_limited"
        assert int(answers[-1].headers["retry-after"]) > 0
        assert (await limited.revoke("x")).status_code == 429
        asked = [(await http.get(limited.address())).status_code for _ in range(3)]
        assert asked == [401, 401, 429]


async def test_an_app_that_is_mounted_knows_its_resources(
    settings: AuthSettings, clock: Clock, tortoise: object, account: Account
) -> None:
    """Also where a route of a resource is in an app below the one with accounts."""
    settings.public_base_url = f"{ISSUER}/inner"
    outer, inner, below = FastAPI(), FastAPI(), FastAPI()
    server = OAuthServer(resources=["/api"], scopes=SCOPES)
    auth = include_auth(inner, settings=settings, clock=clock, features=[server], pages=True)
    add_notes(inner)

    @below.get("/notes")
    async def notes(user: Reader) -> str:
        return str(user.email)

    inner.mount("/api/below", below)
    inner.mount("/other", below)
    outer.mount("/inner", inner)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url=f"{ISSUER}/inner/") as http:
        program = await registered(auth, http)
        program.redirect_uri = REDIRECT
        code = await code_for(auth, program)
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER}
        tokens = (await program.post("oauth/token", **form)).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        found = [
            (await http.get(path, headers=headers)).status_code
            for path in ("api/notes", "api/below/notes", "other/notes", "mcp/notes")
        ]
        assert found == [200, 200, 401, 401]
        said = (await http.get("api/below/notes")).headers["www-authenticate"]
        assert f'"{ISSUER}/.well-known/oauth-protected-resource/inner/api"' in said
    await auth.close()


async def test_an_app_below_a_path_has_its_metadata_at_the_root_of_the_host(
    settings: AuthSettings, clock: Clock, tortoise: object
) -> None:
    """RFC 8414 section 3.1 and RFC 9728 section 3.1, and where a proxy takes the path off."""
    settings.public_base_url = "https://example.com/shop"
    app = FastAPI()
    server = OAuthServer(resources=["/api"], scopes=SCOPES)
    auth = include_auth(app, settings=settings, clock=clock, features=[server], pages=True)
    add_notes(app)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://example.com") as client:
        for path in ("/shop/api", "/api"):
            found = await client.get(f"/.well-known/oauth-protected-resource{path}")
            assert found.json()["resource"] == "https://example.com/shop/api"
        for path in ("/shop", ""):
            found = await client.get(f"/.well-known/oauth-authorization-server{path}")
            assert found.json()["issuer"] == "https://example.com/shop"
        said = (await client.get("/api/notes")).headers["www-authenticate"]
        assert '"https://example.com/.well-known/oauth-protected-resource/shop/api"' in said
    await auth.close()


@pytest.mark.parametrize(
    ("features", "pages", "why"),
    [
        ([OAuthServer(resources=["/api"], scopes=SCOPES)], False, "pages=True"),
        ([OAuthServer(resources=["/api"])], True, "needs scopes"),
        ([OAuthServer(resources=[], scopes=SCOPES)], True, "needs resources"),
    ],
)
def test_an_app_that_lacks_something_for_it_does_not_start(
    settings: AuthSettings, features: list[Feature], pages: bool, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        include_auth(FastAPI(), settings=settings, features=features, pages=pages)


def test_resources_are_paths_and_scopes_may_be_those_of_personal_tokens(settings: AuthSettings) -> None:
    for wrong in ("api", "/api/", "/api?x", "https:example.com", "/a/../b c"):
        with pytest.raises(ValueError, match="not the path"):
            OAuthServer(resources=[wrong], scopes=SCOPES)
    with pytest.raises(ValueError, match="write resources="):
        OAuthServer(resources="/api", scopes=SCOPES)
    features = [PersonalTokens(scopes=SCOPES), OAuthServer(resources=["/"])]
    assert include_auth(FastAPI(), settings=settings, features=features, pages=True)
