"""What clients and strangers try at the OAuth server beside the attacks of RFC 9700, each over HTTP."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import OAuthServer
from fastapi_pluggable_auth.features.oauth_server.clients import delete_client, disable_client
from fastapi_pluggable_auth.features.oauth_server.models import DOCUMENT, digest_of
from fastapi_pluggable_auth.features.oauth_server.names import BeforeConsent
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import OAuthClient, OAuthGrant, User

from .conftest import Account, Clock
from .form_browser import FormBrowser
from .oauth_program import (
    ISSUER,
    SCOPES,
    Program,
    add_notes,
    answer_in,
    location_in,
    registered,
    signed_in,
)

DIALECTS = ("sqlite",)


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    server = OAuthServer(resources=["/", "/api", "/mcp"], scopes=SCOPES)
    include_auth(app, settings=settings, clock=clock, features=[server], pages=True)
    add_notes(app)
    return app


@pytest.fixture
async def user(app: FastAPI, account: Account) -> FormBrowser:
    return await signed_in(app, account)


@pytest.fixture
async def program(auth: Auth, client: httpx.AsyncClient) -> Program:
    return await registered(auth, client)


async def test_a_token_of_an_outer_resource_is_not_good_at_the_one_inside(
    user: FormBrowser, program: Program
) -> None:
    """RFC 8707 section 2: a route belongs to one resource, the one that its refusals name."""
    for resource, good, bad in (
        (ISSUER, "/elsewhere", "/api/notes"),
        (f"{ISSUER}/api", "/api/notes", "/elsewhere"),
    ):
        await program.connect(user, resource=resource, prompt="consent")
        assert (await program.get(good)).status_code == 200, resource
        refused = await program.get(bad)
        assert refused.status_code == 401, resource


async def test_the_consent_page_names_the_scheme_of_an_app_and_no_host_that_it_makes_up(
    user: FormBrowser, auth: Auth, client: httpx.AsyncClient
) -> None:
    """RFC 8252 section 7.1: what follows a private scheme is no host."""
    fake = await registered(auth, client, "com.example.evil://claude.ai/callback")
    page = await fake.ask(user)
    assert "<code>com.example.evil</code>" in page.text
    assert "<code>claude.ai</code>" not in page.text


@pytest.mark.parametrize("local", ["https://localhost:8443/cb", "https://127.0.0.1/cb", "https://[::1]:9/cb"])
async def test_a_port_of_the_users_machine_is_one_with_tls_as_well(
    user: FormBrowser, auth: Auth, client: httpx.AsyncClient, local: str
) -> None:
    """RFC 8252 section 8.6."""
    program = await registered(auth, client, local)
    assert "runs on your device" in (await program.ask(user)).text
    await program.connect(user)
    assert (await program.ask(user)).form("authorize")


async def test_silence_does_not_put_off_the_day_on_which_the_user_is_asked_again(
    app: FastAPI, account: Account, user: FormBrowser, program: Program, clock: Clock
) -> None:
    """A consent is good for `oauth_grant_max_age`, however often the client comes back meanwhile."""
    await program.connect(user)
    for _ in range(3):
        clock.advance(days=25)
        silent = await program.ask(await signed_in(app, account), prompt="none")
        await program.exchange(answer_in(location_in(silent))["code"])
    clock.advance(days=16)
    assert (await program.refresh()).json()["error"] == "invalid_grant"
    assert (await program.ask(await signed_in(app, account))).form("authorize")


async def test_a_client_that_goes_while_the_user_decides_gets_nothing(
    user: FormBrowser, auth: Auth, client: httpx.AsyncClient
) -> None:
    ends: dict[str, Callable[[Auth, str], Awaitable[object]]] = {}

    @auth.on(BeforeConsent)
    async def gone(event: BeforeConsent[User]) -> None:
        await ends[event.client_id](auth, event.client_id)

    for end in (disable_client, delete_client):
        program = await registered(auth, client)

        await program.ask(user)
        ends[program.client_id] = end
        decided = await user.submit("authorize", decision="allow")
        assert decided.status == 400, (end, decided.text)
        assert not await OAuthGrant.all().count()


async def test_only_a_client_that_a_user_has_let_in_is_kept(
    auth: Auth, client: httpx.AsyncClient, clock: Clock
) -> None:
    """Anybody may name documents without end, and ask for tokens in their names."""
    client_id = "https://evil.example/client.json"
    await OAuthClient.create(
        client_id=client_id,
        digest=digest_of(client_id),
        name="x",
        redirect_uris=["https://evil.example/cb"],
        origin=DOCUMENT,
        fetched_at=clock(),
        fresh_until=clock() + timedelta(hours=24),
        created_at=clock(),
    )
    form = {"client_id": client_id, "grant_type": "refresh_token", "refresh_token": "ort_" + "x" * 43}
    assert (await client.post("/oauth/token", data=form)).json()["error"] == "invalid_grant"
    assert (
        await client.post("/oauth/revoke", data={"client_id": client_id, "token": "x"})
    ).status_code == 200
    clock.advance(days=8)
    await purge(auth)
    assert not await OAuthClient.all().count()


@pytest.mark.parametrize("charset", ["idna", "utf-7", "undefined", "raw_unicode_escape", "rot13"])
async def test_no_charset_makes_the_token_endpoint_fail(
    client: httpx.AsyncClient, program: Program, charset: str
) -> None:
    hostile = {"utf-7": b"+2AA-", "raw_unicode_escape": b"\\ud800"}.get(charset, b"x" * 70 + b"\xff\x00")
    headers = {"Content-Type": f"multipart/form-data; boundary=b; charset={charset}"}
    for field in ("client_id", "client_secret", "refresh_token", "scope", "resource", "token"):
        values = {"grant_type": "refresh_token", "client_id": program.client_id, "refresh_token": "x"}
        sent = {**{name: value.encode() for name, value in values.items()}, field: hostile}
        body = b"".join(
            b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
            for name, value in sent.items()
        )
        for path in ("/oauth/token", "/oauth/revoke"):
            refused = await client.post(path, content=body + b"--b--\r\n", headers=headers)
            assert 400 <= refused.status_code < 500, (path, field)


HOSTILE = ("\x00", "%00", "%ff%fe", b"\xed\xa0\x80", "a" * 100_000, "é" * 300, "[", "//[")
ASKED = (
    "client_id",
    "redirect_uri",
    "scope",
    "resource",
    "state",
    "code_challenge",
    "prompt",
    "response_type",
)
SENT = ("client_id", "client_secret", "grant_type", "refresh_token", "scope", "resource", "code")


@pytest.mark.parametrize("value", HOSTILE)
async def test_no_value_makes_a_route_fail(
    client: httpx.AsyncClient, user: FormBrowser, program: Program, value: str | bytes
) -> None:
    for name in ASKED if len(value) < 1000 else ():
        page = await program.ask(user, **{name: value})  # type: ignore[arg-type]
        assert page.status < 500, name
    good = (await program.connect(user, prompt="consent"))["refresh_token"]
    known = {"client_id": program.client_id, "token": "x"}
    for name in SENT:
        form = {**known, "grant_type": "refresh_token", "refresh_token": good, name: value}
        for path in ("/oauth/token", "/oauth/revoke"):
            assert (await client.post(path, data=form)).status_code < 500, (path, name)
    code = await program.code(user, prompt="consent")
    for name in ("redirect_uri", "resource", "code_verifier"):
        assert (await program.exchange(code, **{name: value})).status_code < 500, name
    raw = value if isinstance(value, bytes) else value.encode()
    said = (raw.replace(b"\0", b"0"), b64encode(raw), b64encode(raw + b":" + raw), b"", b64encode(b":"))
    for each in said:
        headers = [(b"Authorization", b"Basic " + each)]
        for path in ("/oauth/token", "/oauth/revoke"):
            refused = await client.post(path, data={"token": "x"}, headers=headers)
            assert 400 <= refused.status_code < 500, (path, each)
    for kind in (
        "application/json",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "",
    ):
        refused = await client.post("/oauth/token", content=raw, headers={"Content-Type": kind})
        assert 400 <= refused.status_code < 500, kind
