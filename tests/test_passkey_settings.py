"""Where passkeys may be used: the domain and the origins of the settings."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from fastapi_pluggable_auth import AuthSettings, include_auth
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
