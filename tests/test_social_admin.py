"""Identities in the hands of administrators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration, AuditLog, Oidc, SocialLogin
from fastapi_pluggable_auth.features.social_login.names import IdentityRemoved
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.models import AuditEvent, Identity, User

from .conftest import EMAIL, Account, Clock, Mailbox, on_each_database, on_one_database

EVE = "eve@example.com"


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider().serving() as provider:
        yield provider


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, provider: IdentityProvider) -> FastAPI:
    app = FastAPI()
    provider.clock = lambda: clock().timestamp()
    acme = Oidc(
        "acme", issuer=provider.issuer, label="Acme Inc.", client_id=CLIENT_ID, client_secret=CLIENT_SECRET
    )
    features = [SocialLogin(acme), Administration(), AuditLog()]
    include_auth(app, settings=settings, clock=clock, features=features)
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


async def sign_in(
    client: httpx.AsyncClient, provider: IdentityProvider, email: str, subject: str
) -> httpx.Response:
    """At the provider, as a native app does."""
    nonce = (await client.post("/auth/social/acme/nonce")).json()["nonce"]
    provider.user(email, sub=subject)
    body = {"id_token": provider.id_token(nonce), "nonce": nonce}
    return await client.post("/auth/social/acme/token", json=body)


async def identities(who: Account, user_id: object) -> httpx.Response:
    return await who.client.get(f"/admin/users/{user_id}/identities", headers=who.headers)


async def disconnect(who: Account, user_id: object, identity_id: object) -> httpx.Response:
    return await who.client.delete(f"/admin/users/{user_id}/identities/{identity_id}", headers=who.headers)


@on_each_database
async def test_an_administrator_disconnects_an_identity_and_the_owner_and_the_log_learn_who_did(
    root: Account, eve: Account, auth: Auth, mailbox: Mailbox, provider: IdentityProvider
) -> None:
    heard: list[tuple[str, object, str]] = []

    @auth.on(IdentityRemoved)
    def told(event: IdentityRemoved) -> None:
        heard.append((event.user.email, event.identity_id, event.provider))

    user, admin = await User.get(email=EVE), await User.get(email=EMAIL)
    for subject in ("first", "second"):
        assert (await sign_in(eve.client, provider, EVE, subject)).status_code == 200
    mailbox.clear()
    shown = (await identities(root, user.id)).json()
    assert [(each["provider"], each["email"], each["held"]) for each in shown] == [("acme", EVE, False)] * 2
    first, second = (each["id"] for each in shown)
    assert "subject" not in shown[0]
    assert "digest" not in shown[0]
    assert (await disconnect(root, user.id, first)).status_code == 204
    assert [each["id"] for each in (await identities(root, user.id)).json()] == [second]
    (mail,) = mailbox.messages
    assert (mail["To"], "Acme Inc." in mail.get_body(("plain",)).get_content()) == (EVE, True)
    (event,) = await AuditEvent.filter(kind="identity_removed")
    assert (event.outcome, event.user_id, event.actor_id) == ("success", user.id, admin.id)
    assert [(email, str(identity_id), name) for email, identity_id, name in heard] == [(EVE, first, "acme")]
    assert (await eve.me()).status_code == 200


@on_one_database
async def test_the_last_way_in_goes_too_and_a_mailed_link_still_lets_its_owner_in(
    root: Account, client: httpx.AsyncClient, mailbox: Mailbox, provider: IdentityProvider
) -> None:
    """An identity that a stranger has put there is not to stay because it is the only one."""
    kim = "kim@example.com"
    assert (await sign_in(client, provider, kim, "kim")).status_code == 200
    user = await User.get(email=kim)
    (identity,) = (await identities(root, user.id)).json()
    assert (await disconnect(root, user.id, identity["id"])).status_code == 204
    assert await Identity.all().count() == 0
    mailbox.clear()
    await client.post("/auth/forgot-password", json={"email": kim})
    assert [mail["To"] for mail in mailbox.messages] == [kim]


@on_one_database
async def test_who_may_not_act_on_an_account_sees_and_disconnects_no_identity(
    root: Account, eve: Account, provider: IdentityProvider
) -> None:
    user, admin = await User.get(email=EVE), await User.get(email=EMAIL)
    for email in (EVE, EMAIL):
        await sign_in(eve.client, provider, email, email)
    own, theirs = (await Identity.get(user_id=admin.id)).id, (await Identity.get(user_id=user.id)).id
    for answer in (await identities(eve, user.id), await disconnect(eve, admin.id, own)):
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    await User.filter(id=user.id).update(permissions=["accounts:read"])
    assert (await identities(eve, admin.id)).status_code == 200
    for user_id, identity_id in ((admin.id, own), (user.id, theirs)):
        assert (await disconnect(eve, user_id, identity_id)).json()["code"] == "permission_denied"
    await User.filter(id=user.id).update(permissions=["accounts:read", "accounts:write"])
    refused = await disconnect(eve, admin.id, own)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied"), "of a superuser"
    refused = await disconnect(root, admin.id, own)
    assert (refused.status_code, refused.json()["code"]) == (409, "own_account")
    assert await Identity.all().count() == 2
    assert (await disconnect(root, user.id, theirs)).status_code == 204


@on_one_database
async def test_disconnecting_needs_a_recent_login_and_an_identity_of_that_account(
    root: Account, eve: Account, clock: Clock, provider: IdentityProvider
) -> None:
    user, admin = await User.get(email=EVE), await User.get(email=EMAIL)
    for email in (EVE, EMAIL):
        await sign_in(eve.client, provider, email, email)
    mine, theirs = (await Identity.get(user_id=admin.id)).id, (await Identity.get(user_id=user.id)).id
    for identity_id in (mine, uuid4()):
        answer = await disconnect(root, user.id, identity_id)
        assert (answer.status_code, answer.json()["code"]) == (404, "identity_not_found")
    assert (await disconnect(root, uuid4(), theirs)).json()["code"] == "user_not_found"
    assert (await identities(root, uuid4())).json()["code"] == "user_not_found"
    assert (await disconnect(root, user.id, "x")).status_code == 422
    clock.advance(minutes=16)
    root.access_token = (await root.refresh()).json()["access_token"]
    answer = await disconnect(root, user.id, theirs)
    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    assert await Identity.all().count() == 2


async def test_the_routes_are_there_only_with_administration(
    settings: AuthSettings, provider: IdentityProvider
) -> None:
    app = FastAPI()
    acme = Oidc("acme", issuer=provider.issuer, client_id=CLIENT_ID)
    include_auth(app, settings=settings, features=[SocialLogin(acme)])
    assert [path for path in app.openapi()["paths"] if "/admin" in path] == []
