"""OAuth clients that are known by the address of a document: those of ChatGPT, Claude and VS Code as they
were published, and what a document gets the app to do that it should not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.errors import AuthError
from fastapi_pluggable_auth.features import Feature
from fastapi_pluggable_auth.features.oauth_server import documents
from fastapi_pluggable_auth.features.oauth_server.clients import find_client, is_trusted
from fastapi_pluggable_auth.features.oauth_server.documents import Documents, describe, is_address, lifetime
from fastapi_pluggable_auth.features.oauth_server.feature import OAuthServer
from fastapi_pluggable_auth.features.oauth_server.models import OAuthClient
from fastapi_pluggable_auth.features.oauth_server.names import OAuthError
from fastapi_pluggable_auth.features.oauth_server.redirects import matches
from fastapi_pluggable_auth.features.oauth_server.registration import RefusedClientError
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.security.public_addresses import is_public

from .conftest import Account, Clock, on_each_database, on_one_database
from .document_host import DocumentHost, answer
from .oauth_program import ISSUER, Program, signed_in

DIALECTS = ("sqlite",)

APP = "https://app.example.com/oauth/client.json"
HERE: dict[str, Any] = {
    "client_id": APP,
    "client_name": "Notes",
    "redirect_uris": ["https://app.example.com/callback"],
}

CHATGPT = {
    "client_id": "https://chatgpt.com/oauth/client.json",
    "client_uri": "https://chatgpt.com/",
    "redirect_uris": ["https://chatgpt.com/connector_platform_oauth_redirect"],
    "token_endpoint_auth_method": "private_key_jwt",
    "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "client_name": "ChatGPT",
    "logo_uri": "https://persistent.oaistatic.com/sonic/misc/openai-logo.png",
    "token_endpoint_auth_signing_alg": "RS256",
    "jwks_uri": "https://chatgpt.com/oauth/jwks.json",
}
CLAUDE = {
    "client_id": "https://claude.ai/oauth/mcp-oauth-client-metadata",
    "client_name": "Claude",
    "client_uri": "https://claude.ai",
    "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"],
    "grant_types": [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
}
CLAUDE_CODE = {
    "client_id": "https://claude.ai/oauth/claude-code-client-metadata",
    "client_name": "Claude Code",
    "client_uri": "https://claude.ai",
    "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"],
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
}
VS_CODE = {
    "client_id": "https://vscode.dev/oauth/client-metadata.json",
    "client_name": "Visual Studio Code",
    "client_uri": "https://vscode.dev/product",
    "redirect_uris": ["http://127.0.0.1:33418/", "https://vscode.dev/redirect"],
    "grant_types": [
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:device_code",
    ],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
    "application_type": "native",
}
"""Not fetched by us: as others have fetched them between July and October 2026 and put them into their tests
and issues (Claude Code: github.com/anthropics/claude-code/issues/37747, 41011). Of Claude Code and VS Code
the order and some members may differ."""


@pytest.fixture
def oauth_settings() -> OAuthSettings:
    return OAuthSettings(_env_file=None)  # type: ignore[call-arg]


@pytest.fixture
def features(oauth_settings: OAuthSettings) -> list[Feature]:
    return [
        OAuthServer(resources=["/mcp"], scopes={"notes:read": "Read your notes"}, settings=oauth_settings)
    ]


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, features: list[Feature]) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, features=features, pages=True)
    return app


@pytest.fixture
async def host(auth: Auth, tortoise: object) -> AsyncIterator[DocumentHost]:
    names = ("app.example.com", "chatgpt.com", "claude.ai", "vscode.dev")
    async with DocumentHost(*names).serving() as host:
        host.documents = {
            str(each["client_id"]): each for each in (HERE, CHATGPT, CLAUDE, CLAUDE_CODE, VS_CODE)
        }
        auth.service(Documents).fetcher = host.fetcher()
        yield host


async def refusal(auth: Auth, client_id: str = APP) -> object:
    with pytest.raises(AuthError) as raised:
        await find_client(auth, client_id)
    return raised.value.code


@pytest.mark.parametrize(
    ("document", "asks"),
    [
        (CHATGPT, "https://chatgpt.com/connector_platform_oauth_redirect"),
        (CLAUDE, "https://claude.ai/api/mcp/auth_callback"),
        (CLAUDE_CODE, "http://localhost:58135/callback"),
        (VS_CODE, "http://127.0.0.1:60005/"),
    ],
    ids=lambda value: value["client_name"] if isinstance(value, dict) else "",
)
@on_one_database
async def test_the_clients_that_people_use_are_found_by_what_they_publish(
    document: dict[str, Any], asks: str, auth: Auth, host: DocumentHost
) -> None:
    """Though they list grant types and ways to authenticate that this server lacks
    (github.com/django-oauth/django-oauth-toolkit/issues/1857)."""
    client = await find_client(auth, document["client_id"])
    assert client is not None
    assert (client.name, client.client_uri) == (document["client_name"], document["client_uri"])
    assert (client.scopes, client.secret_digest, client.origin) == (None, None, "document")
    assert matches(client.redirect_uris, asks, localhost=True)
    assert not is_trusted(auth, client)
    assert await find_client(auth, document["client_id"]) == client
    assert len(host.asked) == 1, "the row is the cache"


@pytest.mark.parametrize(
    "client_id",
    [
        "http://app.example.com/client.json",
        "https://app.example.com",
        "https://app.example.com/",
        "https://app.example.com?/client.json",
        "https://app.example.com/a/../client.json",
        "https://app.example.com/%2e/client.json",
        "https://app.example.com/client.json#x",
        "https://kim@app.example.com/client.json",
        "https://kim:secret@app.example.com/client.json",
        "https://app.example.com\\@evil.example/client.json",
        "https://app.example.com/cl ient.json",
        "https://app.example.com/client.json\n",
        "https://bücher.example/client.json",
        "https://[::1/client.json",
        "https://app.example.com:99999/client.json",
        "https:///client.json",
        "https://app.example.com/" + "x" * 255,
        "",
    ],
)
def test_what_is_not_https_with_a_path_is_not_the_address_of_a_document(client_id: str) -> None:
    assert not is_address(client_id)


async def test_what_is_not_the_address_of_a_document_is_not_fetched(auth: Auth, host: DocumentHost) -> None:
    for client_id in ("http://app.example.com/client.json", "https://app.example.com/", "c_x", "\ud800", ""):
        assert await find_client(auth, client_id) is None
    assert (host.connections, await auth.tables.of(OAuthClient).all().count()) == (0, 0)


def test_an_address_may_have_a_port_and_a_query() -> None:
    assert is_address("https://app.example.com:8443/client.json")
    assert is_address("https://app.example.com/client.json?v=1")


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": APP + "/"},
        {"client_id": None},
        {"client_id": [APP]},
        {"client_secret": "x"},
        {"client_secret_expires_at": 0},
        {"token_endpoint_auth_method": "client_secret_basic"},
        {"grant_types": ["client_credentials"]},
        {"grant_types": "authorization_code"},
        {"response_types": ["token"]},
        {"redirect_uris": []},
        {"redirect_uris": None},
        {"redirect_uris": "https://app.example.com/callback"},
        {"redirect_uris": ["javascript:alert(1)", "http://evil.example/callback", 7]},
        {"redirect_uris": [f"https://app.example.com/{n:0100}" for n in range(36)]},
    ],
    ids=lambda changed: str(changed)[:40],
)
def test_what_makes_a_document_invalid(changed: dict[str, Any]) -> None:
    with pytest.raises(RefusedClientError):
        describe(APP, HERE | changed)


async def test_a_document_that_is_not_valid_makes_no_client_and_takes_none_away(
    auth: Auth, host: DocumentHost, clock: Clock
) -> None:
    """A host that was taken over cannot be told from one that has changed its mind: nothing old is used."""
    host.documents[APP] = HERE | {"client_id": APP + "/"}
    assert await find_client(auth, APP) is None
    assert await auth.tables.of(OAuthClient).all().count() == 0
    host.documents[APP] = HERE
    assert await find_client(auth, APP) is not None, "an invalid document is not kept"
    clock.advance(hours=2)
    for wrong in (HERE | {"client_id": APP + "/"}, None, answer(b"<html>")):
        host.documents[APP] = wrong
        assert await find_client(auth, APP) is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("  Notes\n\tfor\x00 all ", "Notes for all"),
        ("\u202egnihton\u2066", "gnihton"),
        ("N" * 500, "N" * 64),
        ("\u200b \n", "app.example.com"),
        (None, "app.example.com"),
        (["Notes"], "app.example.com"),
        ("\ud800", "app.example.com"),
    ],
)
def test_a_name_is_one_line_of_what_can_be_seen_else_it_is_the_host(name: object, shown: str) -> None:
    assert describe(APP, HERE | {"client_name": name}).name == shown


def test_an_address_that_is_not_allowed_is_left_out() -> None:
    addresses = [*HERE["redirect_uris"], "cursor://anysphere/callback"]
    described = describe(APP, HERE | {"redirect_uris": addresses, "client_uri": "javascript:alert(1)"})
    assert (described.redirect_uris, described.client_uri) == ({"https://app.example.com/callback"}, None)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("", timedelta(hours=1)),
        ("public, max-age=7200", timedelta(hours=2)),
        ("max-age=1", timedelta(minutes=5)),
        ("max-age=31536000, immutable", timedelta(hours=24)),
        ("no-store", timedelta(minutes=5)),
        ("max-age=7200, no-cache", timedelta(minutes=5)),
        ("max-age=many", timedelta(hours=1)),
    ],
)
def test_a_document_is_good_for_what_its_host_says_within_bounds(said: str, kept: timedelta) -> None:
    assert lifetime(said) == kept


async def test_a_document_is_read_again_when_its_host_says_so(
    auth: Auth, host: DocumentHost, clock: Clock
) -> None:
    host.cache_control = "max-age=7200"
    await find_client(auth, APP)
    host.documents[APP] = HERE | {"client_name": "Changed"}
    clock.advance(seconds=7190)
    client = await find_client(auth, APP)
    assert client is not None
    assert (client.name, len(host.asked)) == ("Notes", 1)
    clock.advance(seconds=11)
    again = await find_client(auth, APP)
    assert again is not None
    assert (again.name, again.id, len(host.asked)) == ("Changed", client.id, 2)


@on_one_database
async def test_a_document_serves_seven_days_while_its_host_is_down(
    auth: Auth, host: DocumentHost, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody waits for the host more than once in five minutes, in whatever process."""
    monkeypatch.setattr(documents, "WINDOW", 0.0)
    first = await find_client(auth, APP)
    host.documents[APP] = answer({}, status=503)
    clock.advance(days=6, hours=23)
    for _ in range(3):
        assert await find_client(auth, APP) == first
    assert len(host.asked) == 2
    clock.advance(minutes=5)
    assert await find_client(auth, APP) == first
    assert len(host.asked) == 3
    clock.advance(hours=1)
    assert await refusal(auth) is OAuthError.OAUTH_CLIENT_UNAVAILABLE
    host.documents[APP] = HERE
    assert await find_client(auth, APP) == first


async def test_a_host_that_is_down_is_not_asked_again_at_once_and_one_that_is_up_is(
    auth: Auth, host: DocumentHost
) -> None:
    host.documents[APP] = answer({}, status=503)
    for _ in range(3):
        assert await refusal(auth) is OAuthError.OAUTH_CLIENT_UNAVAILABLE
    assert len(host.asked) == 1
    assert await find_client(auth, str(CLAUDE["client_id"])) is not None


@on_each_database
async def test_many_who_ask_at_once_cause_one_fetch_a_process_and_one_row(
    auth: Auth, host: DocumentHost, settings: AuthSettings, clock: Clock, features: list[Feature]
) -> None:
    other = Auth(settings, clock=clock, features=features)
    other.service(Documents).fetcher = host.fetcher()
    found = await asyncio.gather(*(find_client(each, APP) for each in [auth, other] * 10))
    assert [each.id for each in found if each is not None] == [found[0].id] * 20  # type: ignore[union-attr]
    assert len(host.asked) == 2
    await other.close()


async def test_a_stranger_cannot_have_the_app_knock_at_a_host_without_end(
    auth: Auth, host: DocumentHost
) -> None:
    """Each path is another client id. Clients that are known are served from what is kept."""
    kept = await find_client(auth, APP)
    for number in range(documents.OF_ONE_HOST - 1):
        assert await find_client(auth, f"{APP}?{number}") is None
    assert await refusal(auth, f"{APP}?last") is OAuthError.OAUTH_CLIENT_UNAVAILABLE
    assert len(host.asked) == documents.OF_ONE_HOST
    assert await find_client(auth, APP) == kept
    assert await find_client(auth, str(CLAUDE["client_id"])) is not None, "another host is"
    for number in range(documents.OF_ALL):
        with pytest.raises(AuthError):
            assert await find_client(auth, f"https://h{number}.example.com/x")
    assert len(host.looked_up) <= documents.OF_ALL


async def test_only_clients_of_the_hosts_that_the_operator_names_are_taken_and_their_consent_is_remembered(
    auth: Auth, host: DocumentHost, oauth_settings: OAuthSettings
) -> None:
    kept = await find_client(auth, APP)
    assert kept is not None
    oauth_settings.oauth_client_hosts = ["Claude.ai"]
    client = await find_client(auth, str(CLAUDE["client_id"]))
    assert client is not None
    assert is_trusted(auth, client)
    assert not is_trusted(auth, kept)
    for other in (
        APP,
        str(CHATGPT["client_id"]),
        "https://evil.claude.ai/x",
        "https://claude.ai.evil.example/x",
    ):
        assert await find_client(auth, other) is None
    assert len(host.asked) == 2


async def test_a_client_that_is_disabled_is_not_read_again(
    auth: Auth, host: DocumentHost, clock: Clock
) -> None:
    await find_client(auth, APP)
    await auth.tables.of(OAuthClient).all().update(disabled_at=clock())
    clock.advance(days=30)
    await purge(auth)
    assert await find_client(auth, APP) is None
    assert len(host.asked) == 1


async def test_a_document_whose_client_no_user_has_let_in_is_forgotten(
    auth: Auth, host: DocumentHost, clock: Clock
) -> None:
    """Else anybody fills the table."""
    await find_client(auth, APP)
    await find_client(auth, str(CLAUDE["client_id"]))
    used = auth.tables.of(OAuthClient).filter(name="Claude")
    await used.update(last_used_at=clock())
    clock.advance(minutes=59)
    await purge(auth)
    assert await auth.tables.of(OAuthClient).all().count() == 2
    clock.advance(minutes=2)
    await purge(auth)
    assert await auth.tables.of(OAuthClient).all().values_list("name", flat=True) == ["Claude"]


@pytest.mark.parametrize(
    ("document", "redirect_uri"),
    [
        (CHATGPT, "https://chatgpt.com/connector_platform_oauth_redirect"),
        (CLAUDE_CODE, "http://localhost:58135/callback"),
        (VS_CODE, "http://127.0.0.1:60005/"),
    ],
    ids=lambda value: value["client_name"] if isinstance(value, dict) else "",
)
async def test_they_get_and_renew_tokens_without_having_been_registered(
    document: dict[str, Any],
    redirect_uri: str,
    app: FastAPI,
    client: httpx.AsyncClient,
    account: Account,
    host: DocumentHost,
) -> None:
    program = Program(client, document["client_id"], redirect_uri=redirect_uri)
    user = await signed_in(app, account)
    page = await program.ask(user, resource=f"{ISSUER}/mcp")
    assert document["client_name"] in page.text
    assert f"<code>{urlsplit(document['client_id']).hostname}</code>" in page.text
    await program.connect(user, resource=f"{ISSUER}/mcp", scope="notes:read offline_access")
    assert (await program.refresh()).status_code == 200
    assert (await program.refresh(scope="notes:read offline_access")).json()["scope"] == "notes:read"
    assert len(host.asked) == 1


async def test_a_client_id_that_leads_inside_is_refused_without_a_connection_and_without_a_redirect(
    app: FastAPI, auth: Auth, client: httpx.AsyncClient, account: Account, host: DocumentHost
) -> None:
    """Server-side request forgery by a name that anybody may choose (draft of the documents, section 6)."""
    auth.service(Documents).fetcher = host.fetcher(may_reach=is_public)
    user = await signed_in(app, account)
    page = await Program(client, APP).ask(user)
    assert (page.status, page.path) == (400, "/oauth/authorize")
    assert not [attributes for tag, attributes in page.tags if tag == "meta" and "http-equiv" in attributes]
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": APP}
    refused = await client.post("/oauth/token", data=form)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert (host.connections, "app.example.com" in host.looked_up) == (0, True)


async def test_where_a_document_cannot_be_had_the_user_and_the_client_learn_that_it_may_pass(
    app: FastAPI, client: httpx.AsyncClient, account: Account, host: DocumentHost
) -> None:
    host.documents[APP] = answer({}, status=503)
    page = await Program(client, APP).ask(await signed_in(app, account))
    assert (page.status, "cannot be looked up at the moment" in page.text) == (503, True)
    assert page.answer.headers["retry-after"] == "60"
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": APP}
    refused = await client.post("/oauth/token", data=form)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
    assert refused.json()["error"] not in ("invalid_client", "invalid_grant"), "clients would forget tokens"
