"""The attacks of RFC 9700 on the OAuth server, each over HTTP. Fetching documents has a file for itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration, OAuthServer, PersonalTokens
from fastapi_pluggable_auth.features.oauth_server.models import DOCUMENT, digest_of
from fastapi_pluggable_auth.models import OAuthClient, OAuthGrant, User

from .conftest import Account, Clock
from .form_browser import FormBrowser
from .oauth_program import (
    ISSUER,
    RESOURCES,
    SCOPES,
    VERIFIER,
    Program,
    add_notes,
    answer_in,
    browser_of,
    location_in,
    registered,
    signed_in,
)

DIALECTS = ("sqlite",)


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    features = [
        OAuthServer(resources=RESOURCES, scopes=SCOPES),
        PersonalTokens(scopes=SCOPES),
        Administration(),
    ]
    include_auth(app, settings=settings, clock=clock, features=features, pages=True)
    add_notes(app)
    return app


@pytest.fixture
async def user(app: FastAPI, account: Account) -> FormBrowser:
    """The browser of the victim."""
    return await signed_in(app, account)


@pytest.fixture
async def program(auth: Auth, client: httpx.AsyncClient) -> Program:
    return await registered(auth, client)


HOSTILE = (
    "pl4nted\0",
    "pl4nted\r\nX: y",
    "pl4nted\u00e9\U0001f511",
    "{{7*7}}pl4nted",
    "pl4nted" * 9000,
    "pl4nted'--",
)


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
async def test_no_parameter_is_a_server_error_or_echoed_but_the_state(
    user: FormBrowser, program: Program, value: str
) -> None:
    names = ("client_id", "redirect_uri", "response_type", "scope", "resource", "code_challenge")
    for name in (*names, "response_mode", "code_challenge_method"):
        page = await program.ask(user, **{name: value})
        assert page.status in (200, 400), name
        assert "pl4nted" not in page.text, name
    names = ("grant_type", "code", "code_verifier", "redirect_uri", "refresh_token", "scope", "resource")
    for name in (*names, "client_id", "client_secret"):
        for grant in ("authorization_code", "refresh_token"):
            sent = {"grant_type": grant, "code": "x", "code_verifier": "x", "refresh_token": "x", name: value}
            answer = await program.post("/oauth/token", **sent)
            assert answer.status_code in (400, 401), (name, answer.text)
            assert answer.json().keys() == {"error", "error_description"}
            assert "pl4nted" not in answer.text + str(answer.headers), name
    for body in ({"token": value}, {"token": "x", "client_id": value}):
        assert (await program.post("/oauth/revoke", **body)).status_code in (200, 400, 401)
    for content in ("[]", "{}", "%", "=&=", "a=%ff"):
        for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data"):
            answer = await program.http.post("/oauth/token", content=content, headers={"Content-Type": kind})
            assert answer.status_code in (400, 401), (kind, content)
            assert answer.json()["error"] in ("invalid_request", "invalid_client")
    headers = {"Authorization": f"Basic {value[:9].encode().hex()}"}
    answer = await program.http.post("/oauth/token", data={"grant_type": "x"}, headers=headers)
    assert answer.status_code in (400, 401)


@pytest.mark.parametrize(
    "address",
    [
        "https://app.example.com/callback/",
        "https://app.example.com/callback/../evil",
        "https://app.example.com/%63allback",
        "https://app.example.com/Callback",
        "https://APP.example.com/callback",
        "HTTPS://app.example.com/callback",
        "http://app.example.com/callback",
        "https://app.example.com:443/callback",
        "https://app.example.com:8443/callback",
        "https://app.example.com./callback",
        "https://app.example.com@evil.example/callback",
        "https://user@app.example.com/callback",
        "https://app.example.com.evil.example/callback",
        "https://evil.example/https://app.example.com/callback",
        "https://app.example.com/callback#fragment",
        "https://app.example.com/callback?x=1",
        "https://app.example.com/callback\r\nLocation: https://evil.example",
        "https://app.example.com\\@evil.example/callback",
        "//app.example.com/callback",
        "javascript:alert(1)",
        "https://аpp.example.com/callback",
        "",
    ],
)
async def test_no_spelling_of_a_redirect_uri_but_the_registered_one_gets_an_answer(
    user: FormBrowser, program: Program, address: str
) -> None:
    """RFC 9700 section 4.1."""
    page = await program.ask(user, redirect_uri=address)
    assert (page.status, page.path) == (400, "/oauth/authorize")
    assert not page.answer.history
    assert "evil.example" not in page.text
    assert not await OAuthGrant.all().count()


async def test_only_the_port_of_the_users_own_machine_is_free(
    user: FormBrowser, auth: Auth, client: httpx.AsyncClient
) -> None:
    """RFC 8252 section 7.3."""
    local = await registered(auth, client, "http://127.0.0.1/cb")
    assert (await local.ask(user, redirect_uri="http://127.0.0.1:49152/cb")).form("authorize")
    for address in (
        "http://127.0.0.1:49152/cb/x",
        "http://127.0.0.2:49152/cb",
        "http://localhost:49152/cb",
        "https://127.0.0.1:49152/cb",
        "http://127.0.0.1:49152@evil.example/cb",
        "http://127.0.0.1.evil.example/cb",
    ):
        assert (await local.ask(user, redirect_uri=address)).status == 400, address


async def test_what_has_a_code_or_a_token_is_not_kept_and_sent_nowhere_else(
    user: FormBrowser, program: Program
) -> None:
    """RFC 9700 sections 4.2 and 4.3: by `Referer`, from a cache or the history of the browser."""
    await program.ask(user)
    decided = (await user.submit("authorize", decision="allow")).answer
    assert "code=" in decided.text
    assert "code=" not in str(decided.url)
    assert (decided.headers["referrer-policy"], decided.headers["cache-control"]) == (
        "no-referrer",
        "no-store",
    )
    code = answer_in(location_in(user.page))["code"]
    for answer in (await program.exchange(code), await program.refresh(), await program.exchange(code)):
        assert answer.headers["cache-control"] == "no-store"


async def test_a_code_that_is_injected_into_another_session_of_the_client_is_useless(
    user: FormBrowser, program: Program
) -> None:
    """RFC 9700 section 4.5: the attacker's session has another verifier, and no verifier is none."""
    code = await program.code(user)
    for verifier, error in (("w" * 43, "invalid_grant"), ("", "invalid_request"), (None, "invalid_request")):
        assert (await program.exchange(code, code_verifier=verifier)).json()["error"] == error
    plain = (await program.ask(user, code_challenge=VERIFIER, code_challenge_method="plain")).status
    missing = (await program.ask(user, code_challenge=None, code_challenge_method=None)).status
    assert (plain, missing) == (400, 400)  # RFC 9700 section 4.8: no downgrade


async def test_a_code_is_good_for_its_own_client_alone(
    user: FormBrowser, program: Program, auth: Auth, client: httpx.AsyncClient
) -> None:
    evil = await registered(auth, client)
    code = await program.code(user)
    assert (await evil.exchange(code)).json()["error"] == "invalid_grant"
    await program.exchange(code)
    token = program.tokens["refresh_token"]
    assert (await evil.refresh(token)).json()["error"] == "invalid_grant"
    assert (await program.refresh()).status_code == 200


async def test_every_answer_says_which_server_gives_it(
    app: FastAPI, user: FormBrowser, program: Program
) -> None:
    """Mix-up: RFC 9700 section 4.4, RFC 9207."""
    answers = [
        answer_in(await program.authorize(user)),
        answer_in(await program.authorize(user, "deny", prompt="consent")),
        answer_in(await program.authorize(user, scope="nothing")),
        answer_in(await program.authorize(browser_of(app), prompt="none")),
    ]
    assert {answer["iss"] for answer in answers} == {ISSUER}
    assert ["error" in answer for answer in answers] == [False, True, True, True]


async def test_no_client_and_no_token_gets_more_than_was_allowed(
    user: FormBrowser, auth: Auth, client: httpx.AsyncClient
) -> None:
    limited = await registered(auth, client, scopes=["notes:read"])
    for scope in ("notes:read notes:write", "notes:write"):
        assert answer_in(await limited.authorize(user, scope=scope))["error"] == "invalid_scope"
    assert (await limited.connect(user, scope=None, resource=None))["scope"] == "notes:read"
    headers = {"Authorization": f"Bearer {limited.tokens['access_token']}"}
    assert (await client.post("/api/notes", headers=headers)).status_code == 403
    assert (await limited.get("/mcp/notes")).status_code == 200
    narrow = await limited.refresh(resource=f"{ISSUER}/api")
    assert narrow.status_code == 200
    assert (await limited.get("/api/notes")).status_code == 200
    for path in ("/mcp/notes", "/api/../mcp/notes", "/apiary", "/elsewhere"):
        assert (await limited.get(path)).status_code == 401, path
    assert (await limited.refresh(scope="notes:write")).json()["error"] == "invalid_scope"


async def test_no_page_of_others_and_no_other_session_gives_consent(
    app: FastAPI, user: FormBrowser, program: Program, register: Callable[..., object]
) -> None:
    """RFC 6749 section 10.12, RFC 9700 sections 4.7 and 4.16."""
    page = await program.ask(user)
    for header, value in (
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ):
        assert page.answer.headers[header] == value
    assert "frame-ancestors 'none'" in page.answer.headers["content-security-policy"]
    form = page.form("authorize").hidden | {"decision": "allow"}
    cross = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    own = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    without = {name: value for name, value in form.items() if name != "csrf_token"}
    for data, headers in ((form, cross), (without, own), ({**form, "csrf_token": "x"}, own)):
        refused = await user.client.post("/oauth/authorize", data=data, headers=headers)
        assert refused.status_code == 403
    assert (await user.client.get(f"/oauth/authorize?{urlencode(form)}")).status_code == 400

    eve: Account = await register("eve@example.com")  # type: ignore[misc]
    attacker = await signed_in(app, eve)
    theirs = (await program.ask(attacker)).form("authorize").hidden["request"]
    swapped = await user.client.post("/oauth/authorize", data={**form, "request": theirs}, headers=own)
    assert swapped.status_code == 400
    assert not await OAuthGrant.all().count()


async def test_nobody_is_led_elsewhere_by_a_link_to_the_app(
    app: FastAPI, user: FormBrowser, program: Program, clock: Clock
) -> None:
    """RFC 9700 section 4.11.2: no answer before the sign-in, and none by itself to a client that nobody
    vouches for; section 4.12: no redirect keeps the method of a form."""
    page = await program.ask(browser_of(app), scope="nothing")
    assert page.path == "/account/sign-in"
    assert {answer.status_code for answer in page.answer.history} == {303}

    program.client_id = "https://evil.example/client.json"
    known = {"client_id": program.client_id, "digest": digest_of(program.client_id), "origin": DOCUMENT}
    await OAuthClient.all().update(
        **known,
        fetched_at=clock(),
        fresh_until=clock() + timedelta(hours=1),
        redirect_uris=["https://evil.example/cb"],
    )
    program.redirect_uri = "https://evil.example/cb"
    for changed in ({"scope": "nothing"}, {"prompt": "none"}):
        page = await program.ask(user, **changed)
        assert page.status == 200
        assert not [each for tag, each in page.tags if tag == "meta" and "http-equiv" in each], changed
        assert any(link.startswith("https://evil.example/cb?error=") for link in page.links)
        assert "<code>evil.example</code>" in page.text
    await program.connect(user)
    assert (await program.ask(user)).form("authorize")  # no consent to it is remembered


async def test_each_token_is_good_for_its_own_purpose_alone(
    user: FormBrowser, program: Program, account: Account, client: httpx.AsyncClient
) -> None:
    """RFC 9700 section 4.10, RFC 8725 section 3.11: OAuth tokens, those of sessions and personal ones."""
    code = await program.code(user)
    await program.exchange(code)
    access, renewal = program.tokens["access_token"], program.tokens["refresh_token"]
    made = await client.post(
        "/account/tokens", json={"name": "x", "scopes": ["notes:read"]}, headers=account.headers
    )
    personal = made.json()["token"]
    for token in (renewal, code, account.refresh_token, "oat_" + "a" * 43):
        assert (await program.get(token=token)).status_code == 401, token[:4]
    for token in (access, code, account.refresh_token, account.access_token, personal):
        assert (await program.refresh(token)).json()["error"] == "invalid_grant"
    for token in (access, renewal, account.refresh_token):
        assert (await program.exchange(token)).json()["error"] == "invalid_grant"
    for token in (access, renewal, code):
        assert (await account.refresh(token)).status_code == 401
    bearer = {"Authorization": f"Bearer {access}"}
    for path in ("/auth/me", "/account", "/account/applications", "/account/tokens", "/admin/users"):
        assert (await client.get(path, headers=bearer)).status_code == 401, path
    assert (await client.post("/auth/logout", headers=bearer)).status_code == 401
    by_bearer = await client.get(program.address(), headers=bearer)
    assert by_bearer.status_code == 401  # no program gives consent
    assert (await client.get(f"/api/notes?access_token={access}")).status_code == 401  # section 4.3.2
    assert (await program.get(token=account.access_token)).status_code == 200  # the user in person
    assert (await program.get(token=access)).status_code == 200
    assert (await program.revoke(account.refresh_token)).status_code == 200
    assert (await account.refresh()).status_code == 200


async def test_an_administrator_who_acts_as_a_user_connects_nothing(
    app: FastAPI, program: Program, account: Account, register: Callable[..., object]
) -> None:
    eve: Account = await register("eve@example.com")  # type: ignore[misc]
    await User.filter(email=account.email).update(is_superuser=True)
    target = await User.get(email=eve.email)
    acting = await account.client.post(f"/admin/users/{target.id}/impersonate", headers=account.headers)
    assert acting.status_code == 200, acting.text
    headers = {"Authorization": f"Bearer {acting.json()['access_token']}"}
    asked = await account.client.get(program.address(), headers=headers)
    assert (asked.status_code, asked.json()["code"]) == (403, "impersonation_forbidden")


async def test_the_answer_to_the_client_has_what_it_sent_and_nothing_that_others_put_there(
    user: FormBrowser, auth: Auth, client: httpx.AsyncClient
) -> None:
    """A state cannot add parameters, nor leave the address; an address with a query keeps it."""
    program = await registered(auth, client, "https://app.example.com/cb?tenant=7")
    state = 'x&code=stolen#"><script>\u00e9'
    page = await program.ask(user, state=state)
    decided = await user.submit("authorize", decision="allow")
    assert state not in page.text
    assert state not in decided.text
    location = location_in(decided)
    assert location.startswith("https://app.example.com/cb?tenant=7&")
    answer = parse_qsl(location.partition("?")[2])
    assert [name for name, _ in answer] == ["tenant", "code", "state", "iss"]
    assert dict(answer)["state"] == state
