"""Where passkeys may be used: the domain and the origins of the settings."""

from __future__ import annotations

import httpx
import pytest
from fastapi import Depends, FastAPI
from pydantic import ValidationError

from fastapi_pluggable_auth import AuthSettings, include_auth, require
from fastapi_pluggable_auth.features import Passkeys
from fastapi_pluggable_auth.features.passkeys import PasskeySettings
from fastapi_pluggable_auth.features.passkeys.testing import SoftwareAuthenticator

from .conftest import Account, Clock

DIALECTS = ("sqlite",)
WEB = "http://localhost:8000"
ANDROID = "android:apk-key-hash:pNiP5iKyQ8JwgGOaKA1zGPUPJIS-0H1xKCQcfIoGLck"
OTHER_APP = "android:apk-key-hash:pNiP5iKyQ8JwgGOaKA1zGPUPJIS-0H1xKCQcfIoGLcl"


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    own = PasskeySettings(_env_file=None, passkey_origins=[WEB, ANDROID])  # type: ignore[call-arg]
    include_auth(app, settings=settings, clock=clock, features=[Passkeys(own)])

    @app.get("/vault", dependencies=[Depends(require(phishing_resistant=True))])
    async def vault() -> str:
        return "gold"

    return app


async def sign_in(client: httpx.AsyncClient, phone: SoftwareAuthenticator) -> httpx.Response:
    options = (await client.post("/auth/passkey/options")).json()
    return await client.post("/auth/passkey/login", json={"credential": phone.get(options)})


async def test_an_android_app_that_is_named_uses_the_passkeys_of_the_site_and_no_other_app(
    account: Account,
) -> None:
    phone = SoftwareAuthenticator(ANDROID)
    begun = await account.client.post("/account/passkeys/options", headers=account.headers)
    body = {"credential": phone.create(begun.json())}
    added = await account.client.post("/account/passkeys", json=body, headers=account.headers)
    assert added.status_code == 201, added.text
    for origin, status in ((ANDROID, 200), (WEB, 200), (OTHER_APP, 400), ("android:", 400)):
        phone.origin = origin
        assert (await sign_in(account.client, phone)).status_code == status, origin


async def test_a_route_for_passkeys_opens_where_one_was_shown_in_the_session(account: Account) -> None:
    """ASVS V6.3.3, V7.5.3: neither a password nor a passkey shown in another session is enough."""
    client, phone = account.client, SoftwareAuthenticator(WEB)
    begun = await client.post("/account/passkeys/options", headers=account.headers)
    body = {"credential": phone.create(begun.json())}
    assert (await client.post("/account/passkeys", json=body, headers=account.headers)).status_code == 201
    assert (await client.get("/vault", headers=account.headers)).status_code == 200, "shown when it was made"
    await account.login()

    async def enters() -> int:
        answer = await client.get("/vault", headers=account.headers)
        assert answer.status_code == 200 or answer.json()["code"] == "step_up_required"
        return answer.status_code

    assert await enters() == 403
    assert (await sign_in(client, phone)).status_code == 200
    assert await enters() == 403, "that was another session"
    options = await client.post("/auth/passkey/reauthenticate/options", headers=account.headers)
    body = {"credential": phone.get(options.json())}
    shown = await client.post("/auth/passkey/reauthenticate", json=body, headers=account.headers)
    assert (shown.status_code, await enters()) == (200, 200)
    account.access_token = (await account.refresh()).json()["access_token"]
    assert await enters() == 200


@pytest.mark.parametrize(
    "origin", ["android:apk-key-hash:short", f"{ANDROID}=", f"{ANDROID}/", "android:x", "null", "*", ""]
)
def test_what_is_not_an_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ValidationError, match="not an origin"):
        PasskeySettings(_env_file=None, passkey_origins=[origin])  # type: ignore[call-arg]


def test_origins_are_read_from_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_PASSKEY_ORIGINS", f"https://app.example.com,{ANDROID}")
    assert PasskeySettings(_env_file=None).passkey_origins == [  # type: ignore[call-arg]
        "https://app.example.com",
        ANDROID,
    ]
