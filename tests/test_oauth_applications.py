"""What users have allowed applications: seen and taken back, by themselves and by administrators."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration, AuditLog, OAuthServer
from fastapi_pluggable_auth.features.oauth_server.clients import create_client
from fastapi_pluggable_auth.features.oauth_server.models import (
    ACCESS,
    OAuthClient,
    OAuthGrant,
    OAuthToken,
    digest_of,
)
from fastapi_pluggable_auth.features.oauth_server.names import ApplicationRemoved
from fastapi_pluggable_auth.models import AuditEvent, User

from .conftest import EMAIL, PASSWORD, SQLITE_UNLESS_FULL, Account, Clock, on_each_database
from .form_browser import BROWSER, FormBrowser
from .oauth_program import registered, signed_in

DIALECTS = SQLITE_UNLESS_FULL

SCOPES = {"notes:read": "Read your notes", "notes:write": "Change your notes"}
EVE = "eve@example.com"
PAGE = "/account/security/applications"
CALLBACK = "https://app.example.com/callback"


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    features = [OAuthServer(resources=["/api"], scopes=SCOPES), Administration(), AuditLog()]
    include_auth(app, settings=settings, clock=clock, features=features, pages=True)
    return app


@pytest.fixture
async def root(register: Callable[..., Any]) -> Account:
    """A superuser."""
    account: Account = await register(EMAIL)
    await User.filter(email=EMAIL).update(is_superuser=True)
    return account


async def client_called(auth: Auth, name: str) -> OAuthClient:
    made = await create_client(auth, name, [CALLBACK])
    client: Any = made.client
    assert isinstance(client, OAuthClient)
    return client


async def allow(auth: Auth, email: str, client: OAuthClient, *scopes: str, days: int = 30) -> OAuthGrant:
    """What a user allows a client, with an access token of it."""
    user, now = await User.get(email=email), auth.clock()
    grant = await OAuthGrant.create(
        user=user,
        client=client,
        scopes=frozenset(scopes),
        resources=frozenset({"http://localhost:8000/api"}),
        authorized_at=now,
        last_used_at=now,
        expires_at=now + timedelta(days=days),
    )
    await OAuthToken.create(
        user=user,
        grant=grant,
        kind=ACCESS,
        digest=digest_of(str(uuid4())),
        scopes=grant.scopes,
        expires_at=grant.expires_at,
    )
    return grant


async def listed(who: Account, path: str = "/account/applications") -> list[dict[str, Any]]:
    answer = await who.client.get(path, headers=who.headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def test_a_user_sees_each_application_once_with_all_that_its_installations_may(
    account: Account, auth: Auth, clock: Clock
) -> None:
    notes, other = await client_called(auth, "Notes"), await client_called(auth, "Other")
    assert await listed(account) == []
    await allow(auth, EMAIL, notes, "notes:read")
    clock.advance(minutes=1)
    await allow(auth, EMAIL, other, "notes:read", days=1)
    clock.advance(minutes=1)
    last = await allow(auth, EMAIL, notes, "notes:write", days=60)
    undone = await allow(auth, EMAIL, other, "notes:write")  # whose client never came for its tokens
    await OAuthGrant.filter(id=undone.id).update(last_used_at=None)
    first, second = await listed(account)
    assert second["scopes"] == ["notes:read"]
    assert (first["name"], first["installations"], second["name"]) == ("Notes", 2, "Other")
    assert (first["id"], first["client_id"]) == (str(notes.id), notes.client_id)
    assert first["scopes"] == ["notes:read", "notes:write"]
    assert first["resources"] == ["http://localhost:8000/api"]
    assert first["authorized_at"] == last.authorized_at.isoformat().replace("+00:00", "Z")
    assert first["last_used_at"] == first["authorized_at"]
    exported = (await account.client.get("/account/export", headers=account.headers)).json()
    assert [each["name"] for each in exported["applications"]] == ["Notes", "Other"]
    assert "digest" not in str(exported["applications"])
    clock.advance(days=2)
    await account.login()
    assert [each["name"] for each in await listed(account)] == ["Notes"]


@on_each_database
async def test_removing_an_application_ends_all_of_its_access_and_that_of_no_other_and_no_other_user(
    account: Account, register: Callable[..., Any], auth: Auth
) -> None:
    heard: list[tuple[str, str]] = []

    @auth.on(ApplicationRemoved)
    def removed(event: ApplicationRemoved) -> None:
        heard.append((event.user.email, event.client_id))

    await register(EVE)
    notes, other = await client_called(auth, "Notes"), await client_called(auth, "Other")
    for email in (EMAIL, EMAIL, EVE):
        await allow(auth, email, notes, "notes:read")
    await allow(auth, EMAIL, other, "notes:read")

    async def remove(application: object) -> httpx.Response:
        return await account.client.delete(f"/account/applications/{application}", headers=account.headers)

    assert (await remove(notes.id)).status_code == 204
    assert heard == [(EMAIL, notes.client_id)]
    assert {(each.client_id, (await each.user).email) for each in await OAuthGrant.all()} == {
        (notes.id, EVE),
        (other.id, EMAIL),
    }
    assert await OAuthToken.all().count() == 2
    for unknown in (notes.id, uuid4(), "no-id"):
        answer = await remove(unknown)
        assert (answer.status_code, answer.json()["code"]) == (404, "application_not_found")
    await auth.afterwards.flush()
    kinds = [(each.kind, each.reason) for each in await AuditEvent.filter(kind="application_removed")]
    assert sorted(kinds, key=str).count(("application_removed", None)) == 1


async def test_the_page_says_what_each_may_do_and_removes_it(
    account: Account, auth: Auth, app: FastAPI
) -> None:
    notes = await client_called(auth, "<b>Notes</b>")
    await allow(auth, EMAIL, notes, "notes:read")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost:8000", headers=BROWSER
    ) as client:
        ada = FormBrowser(client)
        await ada.open("/account/sign-in")
        await ada.submit("password", email=EMAIL, password=PASSWORD)
        page = await ada.open(PAGE)
        assert (page.status, PAGE in page.links) == (200, True)
        assert "Read your notes" in page.text
        assert "<b>Notes</b>" not in page.text
        (button,) = page.form("remove").buttons
        assert button["value"] == str(notes.id)
        page = await ada.submit("remove", application=button["value"])
        assert (page.path, page.status) == (PAGE, 200)
        assert "The app is removed" in page.text
        assert "No app is connected." in page.text
        assert not await OAuthToken.exists()
        page = await ada.submit("remove", application="no-id")
        assert (page.status, "There is no such app." in page.text) == (404, True)
        forged = await client.post(f"{PAGE}/remove", data={"application": str(notes.id)})
        assert forged.status_code == 403


async def test_an_administrator_takes_an_application_from_a_user_and_the_log_says_who_did(
    root: Account, register: Callable[..., Any], auth: Auth
) -> None:
    eve: Account = await register(EVE)
    user, admin = await User.get(email=EVE), await User.get(email=EMAIL)
    notes = await client_called(auth, "Notes")
    await allow(auth, EVE, notes, "notes:read")
    path = f"/admin/users/{user.id}/applications"
    assert await listed(root, path) == await listed(eve)
    refused = await eve.client.get(path, headers=eve.headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_denied")
    one = f"{path}/{notes.id}"
    assert (await eve.client.delete(one, headers=eve.headers)).status_code == 403
    began = await root.client.post(f"/admin/users/{user.id}/impersonate", headers=root.headers)
    acting = {"Authorization": f"Bearer {began.json()['access_token']}"}
    acted = await root.client.delete(f"/account/applications/{notes.id}", headers=acting)
    assert (acted.status_code, acted.json()["code"]) == (403, "impersonation_forbidden")
    assert (await root.client.delete(one, headers=root.headers)).status_code == 204
    assert not await OAuthToken.exists()
    again = await root.client.delete(one, headers=root.headers)
    assert (again.status_code, again.json()["code"]) == (404, "application_not_found")
    await auth.afterwards.flush()
    (event,) = await AuditEvent.filter(kind="application_removed", outcome="success")
    assert (event.user_id, event.actor_id) == (user.id, admin.id)


async def test_superusers_look_after_clients_and_other_administrators_only_see_them(
    root: Account, register: Callable[..., Any], auth: Auth
) -> None:
    helper: Account = await register(EVE)
    await User.filter(email=EVE).update(permissions=frozenset({"accounts:read", "accounts:write"}))

    async def post(who: Account, path: str, **body: object) -> httpx.Response:
        return await who.client.post(f"/admin/oauth/clients{path}", json=body, headers=who.headers)

    body = {"name": "Notes", "redirect_uris": [CALLBACK], "scopes": ["notes:read"], "confidential": True}
    assert (await post(helper, "", **body)).json()["code"] == "permission_denied"
    made = await post(root, "", **body)
    assert made.status_code == 201, made.text
    client = made.json()
    secret = client.pop("client_secret")
    assert (client["origin"], client["confidential"], client["disabled"]) == ("operator", True, False)
    assert await listed(helper, "/admin/oauth/clients") == [client]
    assert secret not in str(await listed(root, "/admin/oauth/clients"))
    wrong = await post(root, "", **body | {"redirect_uris": ["http://app.example.com/"]})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "oauth_client_refused")
    assert "use https" in wrong.json()["detail"]

    one = f"/{client['id']}"
    rotated = (await post(root, f"{one}/rotate-secret")).json()
    assert rotated["client_secret"] not in (secret, None)
    stored = await OAuthClient.get()
    assert stored.secret_digest == digest_of(rotated["client_secret"])

    await allow(auth, EVE, stored, "notes:read")
    assert (await post(root, f"{one}/disable")).json()["disabled"] is True
    assert not await OAuthToken.exists()
    assert (await post(root, f"{one}/enable")).json()["disabled"] is False
    for path in (f"{one}/rotate-secret", f"{one}/disable", f"{one}/enable"):
        assert (await post(helper, path)).status_code == 403
        unknown = await post(root, path.replace(client["id"], str(UUID(int=1))))
        assert (unknown.status_code, unknown.json()["code"]) == (404, "oauth_client_not_found")

    async def delete(who: Account) -> int:
        return (await who.client.delete(f"/admin/oauth/clients{one}", headers=who.headers)).status_code

    await allow(auth, EVE, stored, "notes:read")
    assert [await delete(helper), await delete(root), await delete(root)] == [403, 204, 404]
    assert not await OAuthGrant.exists()


async def test_the_log_of_the_user_says_that_an_application_got_in_and_not_each_time_it_comes_again(
    account: Account, auth: Auth, app: FastAPI, client: httpx.AsyncClient
) -> None:
    program = await registered(auth, client)
    await program.connect(await signed_in(app, account))
    for _ in range(3):
        assert (await program.refresh()).status_code == 200
    await auth.afterwards.flush()
    kinds = [event.kind for event in await AuditEvent.all().order_by("time")]
    assert kinds[-3:] == ["login", "application_authorised", "oauth_token"]
