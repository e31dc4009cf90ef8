"""Passkeys in the hands of administrators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration, AuditLog, Passkeys
from fastapi_pluggable_auth.features.passkeys.models import Passkey
from fastapi_pluggable_auth.features.passkeys.names import PasskeyRemoved
from fastapi_pluggable_auth.features.passkeys.testing import SoftwareAuthenticator
from fastapi_pluggable_auth.models import AuditEvent, User

from .conftest import EMAIL, Account, Clock, Mailbox, on_each_database, on_one_database

EVE = "eve@example.com"


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, features=[Passkeys(), Administration(), AuditLog()])
    return app


@pytest.fixture
async def root(register: Callable[..., Any]) -> Account:
    """A superuser."""
    account: Account = await register(EMAIL)
    await User.filter(email=EMAIL).update(is_superuser=True)
    return account


@pytest.fixture
async def eve(register: Callable[..., Any]) -> Account:
    """Somebody to act on."""
    account: Account = await register(EVE)
    return account


async def add(account: Account, name: str, **asked: Any) -> str:
    """Adds a passkey, and gives its id."""
    options = await account.client.post("/account/passkeys/options", json=asked, headers=account.headers)
    credential = SoftwareAuthenticator("http://localhost:8000").create(options.json())
    body = {"name": name, "credential": credential}
    added = await account.client.post("/account/passkeys", json=body, headers=account.headers)
    assert added.status_code == 201, added.text
    return str(added.json()["id"])


async def passkeys(who: Account, user_id: object) -> httpx.Response:
    return await who.client.get(f"/admin/users/{user_id}/passkeys", headers=who.headers)


async def remove(who: Account, user_id: object, passkey_id: object) -> httpx.Response:
    return await who.client.delete(f"/admin/users/{user_id}/passkeys/{passkey_id}", headers=who.headers)


@on_each_database
async def test_an_administrator_removes_a_passkey_and_the_owner_and_the_log_learn_who_did(
    root: Account, eve: Account, auth: Auth, mailbox: Mailbox
) -> None:
    heard: list[tuple[str, str]] = []

    @auth.on(PasskeyRemoved)
    def told(event: PasskeyRemoved) -> None:
        heard.append((event.user.email, event.name))

    user, admin = await User.get(email=EVE), await User.get(email=EMAIL)
    phone, laptop = await add(eve, "Phone"), await add(eve, "Laptop")
    mailbox.clear()
    shown = (await passkeys(root, user.id)).json()
    assert [(each["id"], each["name"]) for each in shown] == [(phone, "Phone"), (laptop, "Laptop")]
    assert (await remove(root, user.id, phone)).status_code == 204
    assert [each["id"] for each in (await passkeys(root, user.id)).json()] == [laptop]
    (mail,) = mailbox.messages
    assert (mail["To"], "Phone" in mail.get_body(("plain",)).get_content()) == (EVE, True)
    (event,) = await AuditEvent.filter(kind="passkey_removed")
    assert (event.outcome, event.user_id, event.actor_id) == ("success", user.id, admin.id)
    assert heard == [(EVE, "Phone")]
    assert (await eve.me()).status_code == 200
    account = await root.client.get(f"/admin/users/{user.id}", headers=root.headers)
    assert account.json()["second_factors"] == ["passkey"]
    assert (await remove(root, user.id, laptop)).status_code == 204
    listed = await root.client.get("/admin/users", params={"search": EVE}, headers=root.headers)
    assert listed.json()["users"][0]["second_factors"] == []


@on_one_database
async def test_who_may_not_act_on_an_account_sees_and_removes_no_passkey(root: Account, eve: Account) -> None:
    user, admin = await User.get(email=EVE), await User.get(email=EMAIL)
    own, theirs = await add(root, "Mine"), await add(eve, "Hers")
    for answer in (await passkeys(eve, user.id), await remove(eve, admin.id, own)):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    await User.filter(id=user.id).update(permissions=["accounts:read"])
    assert (await passkeys(eve, admin.id)).status_code == 200
    for user_id, passkey_id in ((admin.id, own), (user.id, theirs)):
        assert (await remove(eve, user_id, passkey_id)).json()["code"] == "permission_denied"
    await User.filter(id=user.id).update(permissions=["accounts:read", "accounts:write"])
    refused = await remove(eve, admin.id, own)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied"), "of a superuser"
    refused = await remove(root, admin.id, own)
    assert (refused.status_code, refused.json()["code"]) == (409, "own_account")
    assert await Passkey.all().count() == 2
    assert (await remove(root, user.id, theirs)).status_code == 204


@on_one_database
async def test_removing_needs_a_recent_login_and_a_passkey_of_that_account(
    root: Account, eve: Account, clock: Clock
) -> None:
    user = await User.get(email=EVE)
    mine, theirs = await add(root, "Mine"), await add(eve, "Hers")
    for passkey_id in (mine, uuid4()):
        answer = await remove(root, user.id, passkey_id)
        assert (answer.status_code, answer.json()["code"]) == (404, "passkey_not_found")
    assert (await remove(root, uuid4(), theirs)).json()["code"] == "user_not_found"
    assert (await passkeys(root, uuid4())).json()["code"] == "user_not_found"
    assert (await remove(root, user.id, "x")).status_code == 422
    clock.advance(minutes=16)
    root.access_token = (await root.refresh()).json()["access_token"]
    answer = await remove(root, user.id, theirs)
    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    assert await Passkey.all().count() == 2


@on_one_database
async def test_the_last_key_that_a_login_asks_for_goes_with_all_sessions(root: Account, eve: Account) -> None:
    user = await User.get(email=EVE)
    key = await add(eve, "Key", second_factor=True)
    refused = await eve.login()
    assert refused.status_code == 401
    assert (await remove(root, user.id, key)).status_code == 204
    assert (await eve.me()).status_code == 401
    assert (await eve.login()).status_code == 200


async def test_who_is_invited_gets_no_passkey_of_an_administrator(root: Account, app: FastAPI) -> None:
    path, body = "/admin/invitations", {"email": "grace@example.com"}
    credential = SoftwareAuthenticator("http://localhost:8000").create(
        (await root.client.post("/auth/passkey/sign-up/options", json=body)).json()
    )
    with_one = await root.client.post(path, json={**body, "credential": credential}, headers=root.headers)
    assert (with_one.status_code, with_one.json()["detail"][0]["loc"]) == (422, ["body", "credential"])
    assert (await root.client.post(path, json=body, headers=root.headers)).status_code == 201
    fields = app.openapi()["components"]["schemas"]["Auth-InvitationRequest"]["properties"]
    assert fields.keys() == {"email", "roles", "display_name"}


async def test_the_routes_are_there_only_with_administration(settings: AuthSettings) -> None:
    app = FastAPI()
    include_auth(app, settings=settings, features=[Passkeys()])
    assert [path for path in app.openapi()["paths"] if "/admin" in path] == []
