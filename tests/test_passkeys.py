"""Passkeys over HTTP, with an authenticator in software (WebAuthn Level 3)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration, Passkeys
from fastapi_pluggable_auth.features.passkeys.testing import SoftwareAuthenticator

from .conftest import EMAIL, Account, Clock, Mailbox, claims_of, on_each_database

DIALECTS = ("sqlite",)
ORIGIN = "http://localhost:8000"


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, features=[Passkeys(), Administration()])
    return app


@pytest.fixture
def phone() -> SoftwareAuthenticator:
    return SoftwareAuthenticator(ORIGIN)


class Keys:
    """What a client does with passkeys."""

    def __init__(self, account: Account, authenticator: SoftwareAuthenticator) -> None:
        self.account, self.authenticator = account, authenticator
        self.client: httpx.AsyncClient = account.client

    async def options(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.client.post(path, json=body or None, headers=self.account.headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def add(self, *, name: str | None = None, **asked: Any) -> httpx.Response:
        options = await self.options("/account/passkeys/options", **asked)
        body = {"credential": self.authenticator.create(options)} | ({"name": name} if name else {})
        return await self.client.post("/account/passkeys", json=body, headers=self.account.headers)

    async def sign_in(self) -> httpx.Response:
        options = (await self.client.post("/auth/passkey/options")).json()
        credential = self.authenticator.get(options)
        return await self.client.post("/auth/passkey/login", json={"credential": credential})


@pytest.fixture
def keys(account: Account, phone: SoftwareAuthenticator) -> Keys:
    return Keys(account, phone)


@on_each_database
async def test_a_passkey_that_was_added_signs_in(keys: Keys, mailbox: Mailbox) -> None:
    added = await keys.add(name="My phone")
    assert added.status_code == 201, added.text
    shown = added.json()
    assert (shown["name"], shown["signs_in"], shown["held"], shown["synced"]) == (
        "My phone",
        True,
        False,
        True,
    )
    assert "passkey" in mailbox.messages[-1]["Subject"]
    answer = await keys.sign_in()
    assert answer.status_code == 200, answer.text
    assert claims_of(answer.json()["access_token"])["amr"] == ["passkey"]
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await keys.client.get("/auth/me", headers=headers)).json()["email"] == EMAIL
    listed = (await keys.client.get("/account/passkeys", headers=headers)).json()
    assert [each["id"] for each in listed] == [shown["id"]]
    assert listed[0]["last_used_at"] is not None


@pytest.mark.parametrize("how", ["program", "passkey"])
async def test_an_account_verified_elsewhere_keeps_the_passkey_that_signed_up(
    how: str, client: httpx.AsyncClient, mailbox: Mailbox, phone: SoftwareAuthenticator
) -> None:
    options = (await client.post("/auth/passkey/sign-up/options", json={"email": EMAIL})).json()
    body = {"email": EMAIL, "credential": phone.create(options)}
    signup = await client.post("/auth/signup", json=body)
    assert signup.status_code == 201, signup.text
    if how == "program":
        assert (await client.get(mailbox.link(EMAIL))).status_code == 200
    else:
        token = {"token": mailbox.token(EMAIL)}
        shown = phone.get((await client.post("/auth/passkey/verify/options", json=token)).json())
        verified = await client.post("/auth/passkey/verify", json={**token, "credential": shown})
        assert verified.status_code == 200, verified.text
    keys = Keys(Account(client, mailbox, EMAIL, ""), phone)
    assert (await keys.sign_in()).status_code == 200
