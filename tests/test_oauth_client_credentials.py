"""Clients that act for themselves (RFC 6749 section 4.4), and the routes of a host that let them in."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.events import SecurityEvent
from fastapi_pluggable_auth.features import ClientAccess, OAuthServer, require_client
from fastapi_pluggable_auth.features.oauth_server.clients import (
    create_client,
    delete_client,
    disable_client,
    enable_client,
)
from fastapi_pluggable_auth.features.oauth_server.models import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    REGISTERED,
)
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import OAuthClient, OAuthClientToken

from .conftest import Account, Clock, Database, on_each_database
from .oauth_program import ISSUER, RESOURCES, SCOPES, Program, add_notes, registered, signed_in

DIALECTS = ("sqlite",)

Job = Annotated[ClientAccess, Depends(require_client(scope="notes:read"))]
Both = Annotated[ClientAccess, Depends(require_client(scope=["notes:read", "notes:write"]))]


@pytest.fixture
def oauth() -> OAuthSettings:
    return OAuthSettings(_env_file=None)  # type: ignore[call-arg]


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, oauth: OAuthSettings) -> FastAPI:
    app = FastAPI()
    server = OAuthServer(resources=RESOURCES, scopes=SCOPES, settings=oauth)
    include_auth(app, settings=settings, clock=clock, features=[server], pages=True)
    add_notes(app)

    @app.get("/api/job")
    async def job(client: Job) -> dict[str, Any]:
        said = {"client_id": client.client_id, "scopes": sorted(client.scopes), "resource": client.resource}
        return {**said, "expires_at": client.expires_at.isoformat()}

    @app.post("/api/job")
    async def begin(client: Both) -> str:
        return client.client_id

    return app


@pytest.fixture
async def machine(auth: Auth, client: httpx.AsyncClient) -> Program:
    """A client that has a secret, and acts for itself alone."""
    return await machine_of(auth, client)


async def machine_of(auth: Auth, client: httpx.AsyncClient, *scopes: str) -> Program:
    made = await create_client(
        auth, "Nightly", [], scopes or None, confidential=True, grant_types=[CLIENT_CREDENTIALS]
    )
    return Program(client, made.client.client_id, made.secret)


async def ask(machine: Program, **form: Any) -> httpx.Response:
    answer = await machine.post("/oauth/token", grant_type="client_credentials", **form)
    return machine._kept(answer)


async def test_a_client_acts_for_itself_within_scope_and_resource(machine: Program, clock: Clock) -> None:
    answer = await ask(machine, scope="notes:read", resource=f"{ISSUER}/api")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    tokens = answer.json()
    assert tokens.pop("access_token").startswith("oct_")
    # RFC 6749 section 4.4.3: no refresh token.
    assert tokens == {"token_type": "Bearer", "expires_in": 3600, "scope": "notes:read"}
    said = (await machine.get("/api/job")).json()
    row = await OAuthClientToken.get()
    assert said == {
        "client_id": machine.client_id,
        "scopes": ["notes:read"],
        "resource": f"{ISSUER}/api",
        "expires_at": row.expires_at.isoformat(),
    }
    assert machine.tokens["access_token"] not in str(vars(row))
    beyond = await machine.http.post("/api/job", headers=bearer(machine))
    assert (beyond.status_code, beyond.json()["code"]) == (403, "insufficient_scope")
    metadata = f"{ISSUER}/.well-known/oauth-protected-resource/api"
    assert beyond.headers["www-authenticate"] == (
        f'Bearer resource_metadata="{metadata}", scope="notes:read notes:write", error="insufficient_scope"'
    )
    await ask(machine)  # which names nothing, and gets all
    assert machine.tokens["scope"] == "notes:read notes:write"
    assert (await machine.http.post("/api/job", headers=bearer(machine))).json() == machine.client_id
    clock.advance(minutes=60)
    late = await machine.get("/api/job")
    assert (late.status_code, late.json()["code"]) == (401, "invalid_token")


def bearer(machine: Program) -> dict[str, str]:
    return {"Authorization": f"Bearer {machine.tokens['access_token']}"}


async def test_it_is_never_a_user(machine: Program, client: httpx.AsyncClient) -> None:
    """ASVS V10.3.2, RFC 9700 section 4.15."""
    await ask(machine)
    for path in ("/api/notes", "/auth/me", "/account", "/account/applications"):
        assert (await machine.get(path)).status_code == 401, path
    assert (await client.post("/auth/logout", headers=bearer(machine))).status_code == 401
    shown = await client.get(machine.address(), headers=bearer(machine), follow_redirects=False)
    assert shown.status_code in (400, 401)


async def test_a_user_and_a_stranger_are_no_client(
    app: FastAPI, auth: Auth, client: httpx.AsyncClient, account: Account, machine: Program
) -> None:
    browser = await signed_in(app, account)
    program = await registered(auth, client)
    tokens = await program.connect(browser)
    for token in (account.access_token, tokens["access_token"], tokens["refresh_token"], "oct_" + "a" * 43):
        assert (await machine.get("/api/job", token)).status_code == 401
    assert (await browser.client.get("/api/job")).status_code == 401  # with the cookies of a session
    refused = await client.get("/api/job")
    assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")
    await ask(machine)
    twice = [("Authorization", f"Bearer {machine.tokens['access_token']}")] * 2
    assert (await client.get("/api/job", headers=twice)).status_code == 401
    in_query = await client.get(f"/api/job?access_token={machine.tokens['access_token']}")
    assert in_query.status_code == 401


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"scope": "notes:delete"}, 400, "invalid_scope"),
        ({"scope": "notes:read notes:delete"}, 400, "invalid_scope"),
        ({"scope": "notes:write"}, 400, "invalid_scope"),
        ({"resource": "https://evil.example"}, 400, "invalid_target"),
        ({"resource": f"{ISSUER}/elsewhere"}, 400, "invalid_target"),
        ({"resource": f"{ISSUER}/api@evil"}, 400, "invalid_target"),
        ({"client_secret": "ocs_wrong"}, 401, "invalid_client"),
        ({"client_secret": None}, 401, "invalid_client"),
        ({"client_id": "c_unknown"}, 401, "invalid_client"),
    ],
)
async def test_a_wrong_request_says_why_and_gets_nothing(
    auth: Auth, client: httpx.AsyncClient, form: dict[str, Any], status: int, error: str
) -> None:
    """RFC 6749 section 5.2, RFC 8707 section 2."""
    machine = await machine_of(auth, client, "notes:read")
    asked = {"client_id": machine.client_id, "client_secret": machine.secret, **form}
    sent = {name: value for name, value in asked.items() if value is not None}
    answer = await client.post("/oauth/token", data={"grant_type": "client_credentials", **sent})
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.json().keys() == {"error", "error_description"}
    assert not await OAuthClientToken.all().count()
    assert (await ask(machine)).json()["scope"] == "notes:read"


async def test_only_a_client_that_the_operator_has_registered_for_it_acts_for_itself(
    auth: Auth, client: httpx.AsyncClient, machine: Program
) -> None:
    """RFC 6749 section 4.4: only confidential clients; ASVS V10.4.4."""
    public, confidential = (
        await registered(auth, client),
        await registered(auth, client, confidential=True),
    )
    for each in (public, confidential):
        assert (await ask(each)).json()["error"] == "unauthorized_client"
    await OAuthClient.filter(client_id=public.client_id).update(
        grant_types=frozenset({AUTHORIZATION_CODE, CLIENT_CREDENTIALS})
    )
    await OAuthClient.filter(client_id=machine.client_id).update(origin=REGISTERED)
    for each in (public, machine):  # which no route makes
        assert (await ask(each)).json()["error"] == "unauthorized_client"
    assert not await OAuthClientToken.all().count()


async def test_it_sends_no_user_to_the_app(machine: Program) -> None:
    """Without the grant type `authorization_code`, and so without a redirect URI."""
    answer = await machine.http.get(machine.address(), follow_redirects=False)
    assert (answer.status_code, answer.json()["code"]) == (400, "oauth_request_refused")


async def test_it_ends_at_once_with_its_client(auth: Auth, machine: Program) -> None:
    await ask(machine)
    await disable_client(auth, machine.client_id)
    assert (await machine.get("/api/job")).status_code == 401
    await enable_client(auth, machine.client_id)
    assert (await machine.get("/api/job")).status_code == 401
    await ask(machine)
    await OAuthClient.filter(client_id=machine.client_id).update(disabled_at=auth.clock())  # in a race
    assert (await machine.get("/api/job")).status_code == 401
    await enable_client(auth, machine.client_id)
    assert (await machine.get("/api/job")).status_code == 200
    assert (await machine.revoke(machine.tokens["access_token"])).status_code == 200
    assert (await machine.get("/api/job")).status_code == 401
    await ask(machine)
    await delete_client(auth, machine.client_id)
    assert (await machine.get("/api/job")).status_code == 401
    assert not await OAuthClientToken.all().count()


async def test_expired_tokens_of_clients_are_purged(
    auth: Auth, machine: Program, clock: Clock, oauth: OAuthSettings
) -> None:
    await ask(machine)
    oauth.oauth_access_token_expires = timedelta(hours=3)
    await ask(machine)
    clock.advance(hours=2)
    await purge(auth)
    assert await OAuthClientToken.all().count() == 1
    assert (await machine.get("/api/job")).status_code == 200


async def test_the_security_log_has_what_clients_get_and_are_refused(auth: Auth, machine: Program) -> None:
    heard: list[tuple[str, str, str | None]] = []

    @auth.on(SecurityEvent)
    async def hear(event: SecurityEvent) -> None:
        assert event.user_id is None
        heard.append((str(event.kind), str(event.outcome), event.reason))

    await ask(machine)
    await ask(machine, scope="notes:delete")
    await machine.http.post("/api/job", headers={"Authorization": "Bearer oct_" + "a" * 43})
    await machine.revoke(machine.tokens["access_token"])
    assert heard == [
        ("oauth_token", "success", None),
        ("oauth_token", "failure", "invalid_scope"),
        ("access", "failure", "invalid_token"),
        ("oauth_token_revoked", "success", None),
    ]


async def test_mistakes_of_the_host_are_named(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.get("/beside", dependencies=[Depends(require_client(scope="notes:read"))])
    async def beside() -> None: ...

    @app.get("/api/typo", dependencies=[Depends(require_client(scope="notes:raed"))])
    async def typo() -> None: ...

    with pytest.raises(LookupError, match="/beside belongs to no resource"):
        await client.get("/beside")
    with pytest.raises(ValueError, match="no scope notes:raed"):
        await client.get("/api/typo")
    for bad in ("", [], ['"']):
        with pytest.raises(ValueError, match=r"name|scope"):
            require_client(scope=bad)
    with pytest.raises(Exception, match="RequireIsToBeCalled"):
        app.get("/api/open")(_open)


async def _open(client: Annotated[Any, Depends(require_client)]) -> None: ...


async def test_the_document_says_what_a_route_for_clients_takes(app: FastAPI) -> None:
    document = app.openapi()
    operation = document["paths"]["/api/job"]["get"]
    assert operation["security"] == [{"Auth-ClientToken": []}]
    scheme = document["components"]["securitySchemes"]["Auth-ClientToken"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


@on_each_database
async def test_of_requests_at_once_each_gets_its_token_until_the_client_ends(
    auth: Auth, database: Database, machine: Program
) -> None:
    several = [Program(machine.http, machine.client_id, machine.secret) for _ in range(8)]
    answers = await asyncio.gather(*(ask(each) for each in several))
    assert Counter(answer.status_code for answer in answers) == {200: 8}
    assert len({each.tokens["access_token"] for each in several}) == 8
    assert {(await each.get("/api/job")).status_code for each in several} == {200}
    for end in (disable_client, delete_client):
        outcomes = await asyncio.gather(
            *(ask(each) for each in several), end(auth, machine.client_id), return_exceptions=True
        )
        refused = [each for each in outcomes if isinstance(each, httpx.Response) and each.status_code != 200]
        assert all(each.json()["error"] == "invalid_client" for each in refused)
        assert not [each for each in outcomes if isinstance(each, Exception)]
        assert {(await each.get("/api/job")).status_code for each in several} == {401}
        if end is disable_client:
            await enable_client(auth, machine.client_id)
