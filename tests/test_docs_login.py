"""The form behind "Authorize" of `/docs`."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, CurrentUser, SecurityEvent, include_auth

from .conftest import Account, Clock
from .test_twofa import enrol, post

DIALECTS = ("sqlite",)


async def send(account: Account, password: str | None = None, **form: str) -> httpx.Response:
    """The form as Swagger sends it; with a code in the header, or in a field of the form."""
    data = {"grant_type": "password", "username": account.email, "password": password or account.password}
    header = httpx.BasicAuth("", form.pop("header", ""))
    return await account.client.post("/auth/docs-login", data=data | form, auth=header)


async def test_the_form_gives_an_access_token_of_a_session_of_its_own(account: Account, auth: Auth) -> None:
    heard: list[SecurityEvent] = []
    auth.on(SecurityEvent)(heard.append)
    answer = await send(account)
    assert answer.status_code == 200
    token = answer.json()
    assert token.keys() == {"access_token", "token_type", "expires_in"}
    assert (token["token_type"], token["expires_in"]) == ("bearer", 900)
    assert (await account.me(token["access_token"])).json()["email"] == account.email
    assert [(event.kind, event.outcome) for event in heard] == [("login", "success")]
    sessions = (await account.client.get("/account/sessions", headers=account.headers)).json()
    assert len(sessions) == 2
    assert "set-cookie" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


async def test_a_refusal_is_one_of_oauth_and_says_why(account: Account) -> None:
    """RFC 6749 section 5.2."""
    wrong = await send(account, "wrong")
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")
    assert wrong.json()["error_description"] == "The e-mail address, password or code is wrong."
    assert "www-authenticate" not in wrong.headers
    for bad in ({"username": "no address"}, {"client_secret": "12"}, {"header": "nothing"}):
        invalid = await send(account, **bad)
        assert (invalid.status_code, invalid.json()["error"]) == (400, "invalid_request")
        assert "no address" not in invalid.text


async def test_guesses_by_the_form_count_like_those_of_a_login(
    settings: AuthSettings, account: Account
) -> None:
    settings.throttle_free_attempts = 2
    for _ in range(2):
        assert (await send(account, "wrong")).status_code == 400
    throttled = await send(account)
    assert throttled.status_code == 429
    assert int(throttled.headers["retry-after"]) > 0
    assert (await account.login()).json()["code"] == "throttled"


@pytest.mark.parametrize("place", ["header", "client_secret"])
async def test_a_code_stands_in_the_place_of_the_clients_secret(
    account: Account, clock: Clock, place: str
) -> None:
    totp = await enrol(account)
    assert (await post(account, "/auth/2fa/verify", code=totp.at(clock()))).status_code == 200
    refused = await send(account)
    assert (refused.status_code, refused.json()["error_description"]) == (
        400,
        "A two-factor code is required.",
    )
    clock.advance(minutes=1)
    right = totp.at(clock())
    wrong = await send(account, **{place: str((int(right) + 1) % 10**6).zfill(6)})
    assert wrong.json()["error"] == "invalid_grant"
    assert (await send(account, **{place: right})).status_code == 200


@pytest.mark.parametrize(
    ("url", "prefix", "address"),
    [
        ("http://localhost:8000", "", "/auth/docs-login"),
        ("http://127.0.0.1:9000/v1/", "/api", "/v1/api/auth/docs-login"),
        ("https://app.example.com", "", None),
        ("http://internal", "", None),
    ],
)
async def test_the_form_is_there_on_a_loopback_address_alone(
    url: str, prefix: str, address: str | None, settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    app = FastAPI()
    chosen = settings.model_copy(update={"public_base_url": url, "route_prefix": prefix})
    include_auth(app, settings=chosen)

    @app.get("/hello")
    async def hello(user: CurrentUser) -> None: ...

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.post(f"{prefix}/auth/docs-login", data={})
        document = (await client.get("/openapi.json")).json()
    schemes = document["components"]["securitySchemes"]
    ways = document["paths"]["/hello"]["get"]["security"]
    assert schemes["Auth-AccessToken"]["scheme"] == "bearer"
    assert {"Auth-AccessToken": []} in ways
    if address is None:
        assert answer.status_code == 404
        assert schemes.keys() == {"Auth-AccessToken"}
        assert len(ways) == 1
    else:
        assert answer.status_code == 400
        assert schemes["Auth-Login"]["flows"]["password"] == {"tokenUrl": address, "scopes": {}}
        assert "client_secret" in schemes["Auth-Login"]["description"]
        assert {"Auth-Login": []} in ways
    assert not [path for path in document["paths"] if "docs-login" in path]


async def test_an_app_without_a_document_has_no_such_form(settings: AuthSettings) -> None:
    app = FastAPI(openapi_url=None)
    include_auth(app, settings=settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.post("/auth/docs-login", data={})).status_code == 404
