"""OAuth clients that register themselves (RFC 7591, RFC 7592): the whole way of one, and what anybody who
reaches the app could try by it."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.events import SecurityEvent
from fastapi_pluggable_auth.features import OAuthServer
from fastapi_pluggable_auth.features.oauth_server import clients
from fastapi_pluggable_auth.features.oauth_server.models import OAuthClient, OAuthGrant
from fastapi_pluggable_auth.features.oauth_server.registering import LIMIT
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.flows.purge import purge

from .conftest import Account, Clock, Mailbox, on_each_database
from .oauth_program import (
    ISSUER,
    REDIRECT,
    RESOURCES,
    SCOPES,
    Program,
    add_notes,
    answer_in,
    browser_of,
    registered,
    signed_in,
)

DIALECTS = ("sqlite",)

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
DESK: dict[str, Any] = {
    "client_name": "Desk",
    "redirect_uris": [REDIRECT],
    "token_endpoint_auth_method": "none",
}
ONLY_SAID_BY_THE_SERVER = {
    "registration_access_token": "x",
    "registration_client_uri": f"{ISSUER}/oauth/register/x",
    "client_id_issued_at": 1,
    "client_secret_expires_at": 0,
}


@pytest.fixture
def oauth() -> OAuthSettings:
    return OAuthSettings(_env_file=None, oauth_registration=True)  # type: ignore[call-arg]


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, oauth: OAuthSettings) -> FastAPI:
    app = FastAPI()
    features = [OAuthServer(resources=RESOURCES, scopes=SCOPES, settings=oauth)]
    include_auth(app, settings=settings, clock=clock, features=features, pages=True)
    add_notes(app)
    return app


async def register(http: httpx.AsyncClient, **changed: Any) -> httpx.Response:
    """Asks for a registration. What is None is left out."""
    said = {name: value for name, value in {**DESK, **changed}.items() if value is not None}
    return await http.post("/oauth/register", json=said)


async def made(http: httpx.AsyncClient, **changed: Any) -> dict[str, Any]:
    """What a client is told that has registered itself."""
    answer = await register(http, **changed)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def manage(
    http: httpx.AsyncClient, method: str, told: dict[str, Any], body: Any = None, token: str | None = None
) -> httpx.Response:
    """Looks after a registration, by its own token unless another is given."""
    path = told["registration_client_uri"].removeprefix(ISSUER)
    headers = {"Authorization": f"Bearer {token or told['registration_access_token']}"}
    return await http.request(method, path, headers=headers, json=body)


async def changed_to(http: httpx.AsyncClient, told: dict[str, Any], **said: Any) -> httpx.Response:
    """Says anew what a client is."""
    return await manage(http, "PUT", told, {"client_id": told["client_id"], **said})


def program_of(http: httpx.AsyncClient, told: dict[str, Any]) -> Program:
    return Program(http, told["client_id"], told.get("client_secret"), told["redirect_uris"][0])


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


@on_each_database
async def test_a_client_registers_itself_and_goes_the_whole_way(
    app: FastAPI, client: httpx.AsyncClient, account: Account
) -> None:
    """RFC 7591 section 3, from the metadata to the second pair of tokens, and on to its end (RFC 7592)."""
    metadata = (await client.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["registration_endpoint"] == f"{ISSUER}/oauth/register"
    answer = await register(client, grant_types=["authorization_code", "refresh_token"])
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert answer.headers["access-control-allow-origin"] == "*"
    told = answer.json()
    assert told.pop("client_id_issued_at") > 0
    token, client_id = told.pop("registration_access_token"), told.pop("client_id")
    assert told == {
        "registration_client_uri": f"{ISSUER}/oauth/register/{client_id}",
        "client_name": "Desk",
        "redirect_uris": [REDIRECT],
        "post_logout_redirect_uris": [],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "scope": "notes:read notes:write",
    }
    program, user = Program(client, client_id), await signed_in(app, account)
    await program.connect(user)
    assert (await program.get()).json() == {"email": account.email}
    assert (await program.refresh()).status_code == 200
    assert (await program.get()).status_code == 200
    stored = await OAuthClient.get(client_id=client_id)
    assert token not in str(vars(stored))
    assert (await changed_to(client, answer.json(), **DESK)).status_code == 200
    assert (await manage(client, "DELETE", answer.json())).status_code == 204
    assert (await program.get()).status_code == 401
    assert refusal(await program.refresh()) == (401, "invalid_client")
    assert await OAuthGrant.all().count() == 0


async def test_without_the_setting_there_is_no_such_route(
    settings: AuthSettings, clock: Clock, tortoise: object
) -> None:
    app = FastAPI()
    off = OAuthSettings(_env_file=None)  # type: ignore[call-arg]
    features = [OAuthServer(resources=RESOURCES, scopes=SCOPES, settings=off)]
    include_auth(app, settings=settings, clock=clock, features=features, pages=True)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
        assert (await register(http)).status_code == 404
        assert (await http.get("/oauth/register/c_x")).status_code == 404
        metadata = (await http.get("/.well-known/oauth-authorization-server")).json()
    assert "registration_endpoint" not in metadata
    await app.state.pluggable_auth.close()


async def test_a_public_client_gets_no_secret_and_a_confidential_one_gets_it_once(
    app: FastAPI, client: httpx.AsyncClient, account: Account
) -> None:
    """RFC 7591 sections 2 and 3.2.1; at rest it is a digest."""
    public = await made(client)
    assert not {"client_secret", "client_secret_expires_at"} & public.keys()
    user = await signed_in(app, account)
    for method in (None, "client_secret_basic", "client_secret_post"):
        told = await made(client, token_endpoint_auth_method=method)
        assert told["token_endpoint_auth_method"] == (method or "client_secret_basic")
        assert told["client_secret"].startswith("ocs_")
        assert told["client_secret_expires_at"] == 0
        assert told["client_secret"] not in str(vars(await OAuthClient.get(client_id=told["client_id"])))
        again = (await manage(client, "GET", told)).json()
        assert "client_secret" not in again
        await program_of(client, told).connect(user)
        without = Program(client, told["client_id"])
        assert refusal(await without.exchange(await without.code(user))) == (401, "invalid_client")


async def test_consent_to_it_is_asked_each_time_by_a_page_that_says_nobody_vouches_for_it(
    app: FastAPI, client: httpx.AsyncClient, account: Account, mailbox: Mailbox, oauth: OAuthSettings
) -> None:
    """RFC 7591 section 5: what it says of itself is not shown as if somebody had checked it; RFC 9700 section
    4.14: nothing is remembered for a client that anybody may claim to be."""
    oauth.oauth_client_hosts = ["claude.ai", ""]
    told = await made(client, client_name="Claude", client_uri="https://claude.ai/")
    program, user = program_of(client, told), await signed_in(app, account)
    mailbox.clear()
    await program.connect(user)
    page = await program.ask(user)
    assert page.form("authorize")
    assert "It has signed itself up here: nobody has checked its name" in page.text
    assert "app.example.com" in page.text
    assert "claude.ai" not in page.text
    assert "Known to the people" not in page.text
    answer = answer_in(await program.authorize(user, decision="deny"))
    assert answer["error"] == "access_denied"
    silent = await program.http.get(program.address(prompt="none"), follow_redirects=False)
    assert answer_in(silent.headers["location"])["error"] == "login_required"
    (mail,) = mailbox.messages
    text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert "app.example.com" in text
    assert "claude.ai" not in text


async def test_it_may_ask_for_more_than_it_named_when_it_registered(
    app: FastAPI, client: httpx.AsyncClient, account: Account
) -> None:
    """As clients of MCP do, which name the scope of a first challenge, and need another one later."""
    told = await made(client, scope="notes:read")
    user = await signed_in(app, account)
    tokens = await program_of(client, told).connect(user, scope="notes:read notes:write")
    assert tokens["scope"] == "notes:read notes:write"


@pytest.mark.parametrize(
    "changed",
    [
        {"redirect_uris": None},
        {"redirect_uris": []},
        {"redirect_uris": REDIRECT},
        {"redirect_uris": [1]},
        {"redirect_uris": [[REDIRECT]]},
        {"redirect_uris": [None]},
        {"redirect_uris": {"0": REDIRECT}},
        {"redirect_uris": ["http://app.example.com/callback"]},
        {"redirect_uris": ["https://app.example.com/callback#part"]},
        {"redirect_uris": ["https://*.example.com/callback"]},
        {"redirect_uris": ["https://user@app.example.com/callback"]},
        {"redirect_uris": ["https://app.example.com/../callback"]},
        {"redirect_uris": ["javascript:alert(1)"]},
        {"redirect_uris": ["data:text/html,x"]},
        {"redirect_uris": ["notes:/callback"]},
        {"redirect_uris": ["https://äpp.example.com/callback"]},
        {"redirect_uris": ["https://app.example.com/\u202ecallback"]},
        {"redirect_uris": ["https://app.example.com/\ud800"]},
        {"redirect_uris": ["https://app.example.com/\x00"]},
        {"redirect_uris": [REDIRECT, "https://"]},
        {"redirect_uris": [f"{REDIRECT}/{number}" for number in range(21)]},
        {"redirect_uris": [f"{REDIRECT}/{number}{'x' * 1900}" for number in range(3)]},
    ],
)
async def test_a_redirect_uri_that_no_client_may_have_is_refused(
    client: httpx.AsyncClient, changed: dict[str, Any]
) -> None:
    """RFC 7591 section 3.2.2, `invalid_redirect_uri`; RFC 9700 section 4.1."""
    answer = await register_raw(client, json.dumps({**DESK, **changed}))
    assert refusal(answer) == (400, "invalid_redirect_uri"), answer.text
    assert re.fullmatch(r"[ !#-\[\]-~]+", answer.json()["error_description"])
    assert await OAuthClient.all().count() == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"token_endpoint_auth_method": "private_key_jwt"},
        {"token_endpoint_auth_method": "None"},
        {"token_endpoint_auth_method": 1},
        {"grant_types": ["client_credentials"]},
        {"grant_types": ["refresh_token"]},
        {"grant_types": ["implicit", "password"]},
        {"grant_types": []},
        {"grant_types": "authorization_code"},
        {"grant_types": [["authorization_code"]]},
        {"response_types": ["token"]},
        {"response_types": []},
        {"client_name": 1},
        {"client_name": ["Desk"]},
        {"client_name": "De\x00sk"},
        {"client_name": "De\ud800sk"},
        {"post_logout_redirect_uris": ["http://app.example.com/"]},
        {"client_uri": {"a": 1}},
    ],
)
async def test_what_a_client_may_not_say_of_itself_is_refused(
    client: httpx.AsyncClient, changed: dict[str, Any]
) -> None:
    """RFC 7591 section 3.2.2, `invalid_client_metadata`; it acts for users alone, never for itself."""
    answer = await register_raw(client, json.dumps({**DESK, **changed}))
    assert refusal(answer) == (400, "invalid_client_metadata"), answer.text
    assert await OAuthClient.all().count() == 0


async def register_raw(
    http: httpx.AsyncClient, content: str | bytes, kind: str = "application/json"
) -> httpx.Response:
    return await http.post("/oauth/register", content=content, headers={"Content-Type": kind})


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("", "application/json"),
        ("null", "application/json"),
        ("[]", "application/json"),
        ("1e999", "application/json"),
        ('"text"', "application/json"),
        ("{", "application/json"),
        ("{}", "application/json"),
        ('{"redirect_uris": ' + "[" * 200_000, "application/json"),
        ('{"x": ' + "[" * 50_000 + "]" * 50_000 + "}", "application/json"),
        ('{"redirect_uris": ' + "9" * 10_000 + "}", "application/json"),
        ('{"redirect_uris": NaN}', "application/json"),
        (b"\xff\xfe{}", "application/json"),
        (b'{"client_name": "\xff"}', "application/json"),
        (json.dumps(DESK), "text/plain"),
        ("client_name=Desk", "application/x-www-form-urlencoded"),
        ("{}", "application/json; charset=x"),
        ('{"redirect_uris": ["https://a.example/"], "redirect_uris": 7}', "application/json"),
    ],
)
async def test_no_shape_of_a_body_is_an_error_of_the_server(
    client: httpx.AsyncClient, content: str | bytes, kind: str
) -> None:
    answer = await register_raw(client, content, kind)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"] in ("invalid_client_metadata", "invalid_redirect_uri")
    told = await made(client)
    path = told["registration_client_uri"].removeprefix(ISSUER)
    headers = {"Authorization": f"Bearer {told['registration_access_token']}", "Content-Type": kind}
    changed = await client.put(path, content=content, headers=headers)
    assert changed.status_code == 400, changed.text
    assert (await manage(client, "GET", told)).status_code == 200


async def test_a_body_that_is_too_long_is_refused_before_it_is_read(client: httpx.AsyncClient) -> None:
    answer = await register_raw(client, json.dumps({**DESK, "client_name": "x" * 3_000_000}))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Cl\u202eaude\u2066", "Cl aude"),
        ("  Notes \n\r\t of \x1b[31m Ada\x7f ", "Notes of [31m Ada"),
        ("N\u200bo\u2028t\ufeffes", "N o t es"),
        ("x" * 1000, "x" * 64),
        ("<b>Notes</b>", "<b>Notes</b>"),
        ("Заметки", "Заметки"),
    ],
)
async def test_a_name_is_one_line_of_what_can_be_seen(
    app: FastAPI, client: httpx.AsyncClient, account: Account, said: str, shown: str
) -> None:
    """RFC 7591 section 5: names are for people to read, and anybody may choose one."""
    told = await made(client, client_name=said)
    assert told["client_name"] == shown
    page = await program_of(client, told).ask(await signed_in(app, account))
    assert html.escape(shown) in page.text
    assert (await changed_to(client, told, **{**DESK, "client_name": said})).json()["client_name"] == shown


async def test_a_client_without_a_name_is_called_by_its_id(client: httpx.AsyncClient) -> None:
    for name in (None, "", "\u202e \u200b"):
        told = await made(client, client_name=name)
        assert told["client_name"] == told["client_id"]


async def test_what_else_it_says_is_neither_kept_nor_fetched_nor_returned(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 7591 section 5, ASVS 1.3.6: no address that it names is asked for anything."""
    elsewhere = "https://logo.example/x.png"
    more = {
        **dict.fromkeys(
            ("logo_uri", "tos_uri", "policy_uri", "jwks_uri", "sector_identifier_uri"), elsewhere
        ),
        "software_statement": "e30.e30.",
        "software_id": "4NRB1",
        "contacts": ["ada@example.com"],
        "jwks": {"keys": [{"kty": "oct"}]},
        "client_name#ja": "机",
        "client_id": "c_chosen",
        "client_secret": "chosen",
        "origin": "operator",
        "scopes": ["notes:write"],
        "disabled_at": None,
        "registration_access_token": "chosen",
    }
    told = await made(client, **more)
    assert told["client_id"] != "c_chosen"
    assert told["registration_access_token"] != "chosen"
    assert not {"client_secret", *more} - {"client_id", "registration_access_token"} & told.keys()
    row = vars(await OAuthClient.get(client_id=told["client_id"]))
    assert "logo.example" not in str(row)
    assert (row["origin"], row["scopes"], row["secret_digest"]) == ("registered", None, None)


async def test_grant_types_and_response_types_of_others_are_left_out(client: httpx.AsyncClient) -> None:
    """RFC 7591 section 2: the answer says what the client may do."""
    told = await made(
        client,
        grant_types=["authorization_code", "client_credentials", "implicit", DEVICE],
        response_types=["code", "token"],
    )
    assert told["grant_types"] == ["authorization_code", DEVICE, "refresh_token"]
    assert told["response_types"] == ["code"]
    device = await made(client, grant_types=[DEVICE], redirect_uris=None)
    assert (device["grant_types"], device["response_types"]) == ([DEVICE, "refresh_token"], [])
    assert device["redirect_uris"] == []


async def test_null_is_as_left_out(client: httpx.AsyncClient) -> None:
    said = {**DESK, "client_uri": None, "scope": None, "grant_types": None, "response_types": None}
    assert (await client.post("/oauth/register", json=said)).status_code == 201


async def test_a_network_registers_so_many_an_hour_whatever_it_writes_into_headers(
    app: FastAPI, client: httpx.AsyncClient, clock: Clock, auth: Auth
) -> None:
    """A flood, without any rate limit being on (ASVS 2.4.1): addresses of one IPv6 customer are one, headers
    are not believed, and others are not in the way."""
    events: list[SecurityEvent] = []

    @auth.on(SecurityEvent)
    async def hear(event: SecurityEvent) -> None:
        events.append(event)

    for number in range(LIMIT.limit):
        forged = {"X-Forwarded-For": f"203.0.113.{number}", "Forwarded": f"for=203.0.113.{number}"}
        answer = await client.post(
            "/oauth/register", json={**DESK, "client_name": str(number)}, headers=forged
        )
        assert answer.status_code == 201
    answer = await register(client)
    assert refusal(answer) == (429, "throttled")
    assert 0 < int(answer.headers["retry-after"]) <= 3600
    assert answer.headers["access-control-allow-origin"] == "*"
    assert await OAuthClient.all().count() == LIMIT.limit
    assert [each.kind for each in events] == ["oauth_client_registered"] * LIMIT.limit + ["rate_limit"]

    statuses = []
    for number in range(LIMIT.limit + 1):
        transport = httpx.ASGITransport(app, client=(f"2001:db8:1:2::{number:x}", 4321))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as another:
            statuses.append((await register(another)).status_code)
    assert statuses == [201] * LIMIT.limit + [429]
    clock.advance(hours=1)
    assert (await register(client)).status_code == 201


async def test_a_registration_that_is_refused_takes_nothing_of_the_limit(client: httpx.AsyncClient) -> None:
    for _ in range(LIMIT.limit + 1):
        assert (await register(client, redirect_uris=["x"])).status_code == 400
    assert (await register(client)).status_code == 201


@on_each_database
async def test_one_that_no_user_lets_in_is_gone_after_a_day_and_others_stay(
    app: FastAPI, client: httpx.AsyncClient, account: Account, auth: Auth, clock: Clock
) -> None:
    unused, used, refused = [await made(client, client_name=name) for name in ("unused", "used", "refused")]
    operators = await registered(auth, client)
    await program_of(client, used).connect(await signed_in(app, account))
    await clients.disable_client(auth, refused["client_id"])
    clock.advance(hours=23, minutes=59)
    await purge(auth)
    assert await OAuthClient.all().count() == 4
    clock.advance(minutes=2)
    await purge(auth)
    left = {*await OAuthClient.all().values_list("client_id", flat=True)}
    assert left == {used["client_id"], refused["client_id"], operators.client_id}
    assert refusal(await manage(client, "GET", unused)) == (401, "invalid_token")


async def test_a_registration_is_read_changed_and_deleted_by_its_token_alone(
    client: httpx.AsyncClient, auth: Auth
) -> None:
    """RFC 7592 section 2 and RFC 6750: neither that of another client, nor any other secret, nor none."""
    told, other = await made(client, token_endpoint_auth_method=None), await made(client)
    operators = await registered(auth, client, confidential=True)
    tokens = [
        other["registration_access_token"],
        told["client_secret"],
        operators.secret,
        "x",
        "\u00e4",
        "é" * 9,
    ]
    for method in ("GET", "PUT", "DELETE"):
        body = {"client_id": told["client_id"], **DESK} if method == "PUT" else None
        for token in tokens:
            answer = await client.request(
                method,
                f"/oauth/register/{told['client_id']}",
                headers={"Authorization": f"Bearer {token}".encode("latin-1")},
                json=body,
            )
            assert refusal(answer) == (401, "invalid_token"), (method, token)
            assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
            assert answer.headers["access-control-allow-origin"] == "*"
        for headers in ({}, {"Authorization": "Basic eDp4"}, {"Authorization": "Bearer"}):
            answer = await client.request(
                method, f"/oauth/register/{told['client_id']}", headers=headers, json=body
            )
            assert refusal(answer) == (401, "invalid_token")
        for name in ("c_unknown", operators.client_id, "c_%C3%A4", "c_%00", "%ED%A0%80", "x" * 5000):
            away = {**told, "registration_client_uri": f"{ISSUER}/oauth/register/{name}"}
            assert refusal(await manage(client, method, away, body)) == (401, "invalid_token"), name
    assert (await manage(client, "GET", told)).status_code == 200


async def test_a_change_replaces_all_that_was_said(client: httpx.AsyncClient) -> None:
    """RFC 7592 section 2.2: what is left out is gone."""
    told = await made(
        client,
        client_uri="https://app.example.com/",
        post_logout_redirect_uris=["https://app.example.com/bye"],
        grant_types=["authorization_code", DEVICE],
    )
    read = await manage(client, "GET", told)
    assert (read.status_code, read.json()) == (200, told)
    assert read.headers["cache-control"] == "no-store"
    moved = "https://app.example.com/elsewhere"
    said = {"client_name": "Table", "redirect_uris": [moved], "token_endpoint_auth_method": "none"}
    answer = await changed_to(client, told, **said)
    assert answer.status_code == 200
    new = answer.json()
    assert (new["client_name"], new["redirect_uris"]) == ("Table", [moved])
    assert (new["grant_types"], new["post_logout_redirect_uris"]) == (
        ["authorization_code", "refresh_token"],
        [],
    )
    assert "client_uri" not in new
    same = ("client_id", "client_id_issued_at", "registration_access_token", "registration_client_uri")
    assert all(new[each] == told[each] for each in same)
    assert (await manage(client, "GET", told)).json() == new
    program = Program(client, told["client_id"])
    assert (await client.get(program.address(), follow_redirects=False)).status_code == 400


async def test_a_change_names_its_client_and_nothing_that_the_server_alone_says(
    client: httpx.AsyncClient,
) -> None:
    """RFC 7592 section 2.2."""
    told, other = await made(client), await made(client)
    bad: list[dict[str, Any]] = [
        {"client_id": None},
        {"client_id": ""},
        {"client_id": other["client_id"]},
        {"client_id": [told["client_id"]]},
        {"client_secret": "chosen"},
        *({name: value} for name, value in ONLY_SAID_BY_THE_SERVER.items()),
        {"grant_types": ["client_credentials"]},
    ]
    for each in bad:
        body = {**DESK, "client_id": told["client_id"], "client_name": "Changed", **each}
        answer = await manage(client, "PUT", told, body)
        assert refusal(answer) == (400, "invalid_client_metadata"), each
    no_address = await changed_to(client, told, **{**DESK, "redirect_uris": []})
    assert refusal(no_address) == (400, "invalid_redirect_uri")
    assert (await manage(client, "GET", told)).json() == told


async def test_a_client_that_becomes_confidential_gets_a_secret_and_one_that_becomes_public_loses_it(
    app: FastAPI, client: httpx.AsyncClient, account: Account
) -> None:
    told, user = await made(client), await signed_in(app, account)
    secret_too = {**DESK, "token_endpoint_auth_method": "client_secret_post"}
    new = (await changed_to(client, told, **secret_too)).json()
    assert new["client_secret"].startswith("ocs_")
    assert new["client_secret_expires_at"] == 0
    public = Program(client, told["client_id"])
    assert refusal(await public.exchange(await public.code(user))) == (401, "invalid_client")
    again = await changed_to(client, told, **secret_too, client_secret=new["client_secret"])
    assert again.status_code == 200
    assert "client_secret" not in again.json()
    await program_of(client, new).connect(user)
    wrong = await changed_to(client, told, **secret_too, client_secret="chosen")
    assert refusal(wrong) == (400, "invalid_client_metadata")
    assert "client_secret_expires_at" not in (await changed_to(client, told, **DESK)).json()
    await public.connect(user)
    assert refusal(await program_of(client, new).refresh(public.tokens["refresh_token"])) == (
        401,
        "invalid_client",
    )


async def test_a_client_that_is_disabled_does_not_come_back_by_its_registration_token(
    app: FastAPI, client: httpx.AsyncClient, auth: Auth, account: Account
) -> None:
    told = await made(client)
    program = program_of(client, told)
    await program.connect(await signed_in(app, account))
    await clients.disable_client(auth, told["client_id"])
    for method in ("GET", "PUT", "DELETE"):
        body = {"client_id": told["client_id"], **DESK} if method == "PUT" else None
        assert refusal(await manage(client, method, told, body)) == (401, "invalid_token")
    assert (await program.get()).status_code == 401
    assert (await OAuthClient.get(client_id=told["client_id"])).disabled_at is not None
    await clients.enable_client(auth, told["client_id"])
    assert (await manage(client, "GET", told)).json() == told


async def test_a_client_that_is_deleted_is_gone_with_all_that_it_was_allowed(
    app: FastAPI, client: httpx.AsyncClient, account: Account
) -> None:
    """RFC 7592 section 2.3: also its token is."""
    told, other = await made(client), await made(client)
    program, user = program_of(client, told), await signed_in(app, account)
    await program.connect(user)
    deleted = await manage(client, "DELETE", told)
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await program.get()).status_code == 401
    assert (await program.ask(browser_of(app))).status == 400
    for method in ("GET", "DELETE"):
        assert refusal(await manage(client, method, told)) == (401, "invalid_token")
    assert (await manage(client, "GET", other)).status_code == 200


async def test_pages_of_any_origin_may_register(client: httpx.AsyncClient) -> None:
    """Fetch section 3.3: no cookie has a part in it."""
    for path in ("/oauth/register", "/oauth/register/c_x"):
        headers = {"Origin": "https://spa.example", "Access-Control-Request-Method": "PUT"}
        answer = await client.options(path, headers=headers)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "PUT" in answer.headers["access-control-allow-methods"]
        assert "access-control-allow-credentials" not in answer.headers


async def test_operators_see_who_has_registered_itself(client: httpx.AsyncClient, auth: Auth) -> None:
    told = await made(client)
    (seen,) = [clients.shown(each) for each in await clients.list_clients(auth)]
    assert (seen["client_id"], seen["origin"]) == (told["client_id"], "registered")
    await clients.delete_client(auth, told["client_id"])
    assert refusal(await manage(client, "GET", told)) == (401, "invalid_token")
