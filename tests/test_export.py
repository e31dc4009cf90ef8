"""A user's own data as a file: all that is kept of them, and no secret."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import Field
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth, open_session
from fastapi_pluggable_auth.features import (
    Administration,
    AuditLog,
    Authentication,
    Feature,
    OAuthServer,
    Oidc,
    Passkeys,
    PersonalTokens,
    SocialLogin,
)
from fastapi_pluggable_auth.flows.export import PIECE
from fastapi_pluggable_auth.flows.session_tokens import TokenSet
from fastapi_pluggable_auth.models import AuditEvent, User
from fastapi_pluggable_auth.schemas import ProfileUpdate, UserCreate, UserOut
from fastapi_pluggable_auth.security.identifiers import time_ordered_id

from . import databases
from .bystander import BOB, settle
from .conftest import EMAIL, PASSWORD, SQLITE_UNLESS_FULL, Account, Clock
from .form_browser import BROWSER, FormBrowser
from .own_columns import Colour, Member
from .spare_database import SpareDatabase

DIALECTS = SQLITE_UNLESS_FULL

SHOWN = {
    "user": "id email display_name created_at verified_at last_login_at password_changed_at pending_email"
    " language roles permissions recovery_codes_at",
    "auth_session": "id created_at expires_at user_agent address",
    "auth_device": "id user_agent created_at last_used_at expires_at",
    "auth_mail": "id kind recipient state created_at sent_at",
    "auth_personal_token": "id name scopes created_at last_used_at expires_at",
    "auth_passkey": "id name transports created_at last_used_at",
    "auth_identity": "id provider email created_at last_used_at",
    "auth_oauth_client": "id client_id name client_uri",
    "auth_oauth_grant": "scopes resources authorized_at last_used_at expires_at",
    "auth_oauth_token": "kind",  # one of four words, which are in the names of fields
    "auth_audit_event": "id time kind outcome reason factors address user_agent session_id",
}
"""By table, the columns whose values users get. All others may hold secrets."""

ADMINISTRATOR = {"is_verified": True, "is_superuser": True}


@pytest.fixture
def features() -> list[Feature]:
    tokens = PersonalTokens(scopes={"notes:read": "Read notes"})
    social = SocialLogin(Oidc("acme", issuer="https://acme.example", client_id="app"))
    oauth = OAuthServer(resources=["/notes"])
    return [Administration(), tokens, AuditLog(), Passkeys(), social, oauth]


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, features: list[Feature]) -> FastAPI:
    """With pages, on which users let applications in."""
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, features=features, pages=True)
    return app


async def export(account: Account, **headers: str) -> httpx.Response:
    return await account.client.get("/account/export", headers={**account.headers, **headers})


def texts_in(value: object) -> Iterator[str]:
    """The texts in a value of a column that are long enough to be told from others."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | set | frozenset):
        for part in value:
            yield from texts_in(part)
    elif isinstance(value, str | UUID) and len(str(value)) > 5:
        yield str(value)


async def test_it_has_all_that_is_kept_of_the_user_and_is_a_file_that_no_cache_keeps(
    account: Account,
) -> None:
    body = {"name": "backup script", "scopes": ["notes:read"]}
    await account.client.post("/account/tokens", json=body, headers=account.headers)
    answer = await export(account)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="account.json"'
    assert answer.headers["cache-control"] == "no-store"
    data = answer.json()
    me = (await account.me()).json()
    assert data["profile"] == me
    assert data["account"]["created_at"] <= data["account"]["verified_at"] <= data["exported_at"]
    assert [session["current"] for session in data["sessions"]] == [True]
    assert [mail["kind"] for mail in data["mails"]] == ["verify", "personal_token_created"]
    assert data["devices"] == []
    assert data["two_factor"] == {
        "active": False,
        "recovery_codes_remaining": 0,
        "recovery_codes_created_at": None,
    }
    assert [token["name"] for token in data["personal_tokens"]] == ["backup script"]
    assert [event["event"] for event in data["activity"]][:2] == ["personal_token_created", "login"]
    again = (await export(account)).json()
    assert again["activity"][0]["event"] == "account_export"


async def test_no_column_is_in_it_that_is_not_named_above(client: httpx.AsyncClient, auth: Auth) -> None:
    """Of a bystander who has a row in every table, and a value in every column (tests/test_bystander.py)."""
    await settle(auth, await auth.hasher.hash(PASSWORD))
    tokens = await open_session(auth, await User.get(email=BOB), strong=True)
    assert isinstance(tokens, TokenSet)
    answer = await client.get("/account/export", headers={"Authorization": f"Bearer {tokens.access_token}"})
    assert answer.status_code == 200, answer.text
    data, text = answer.json(), answer.text
    for part in ("sessions", "devices", "mails", "personal_tokens", "activity"):
        assert len(data[part]) > 1, part
    assert [each["name"] for each in data["applications"]] == ["Bob's tool"]
    assert data["two_factor"]["active"] is True
    shown: set[str] = set()
    hidden: dict[str, str] = {}
    for model in auth.tables:
        table = model._meta.db_table
        for row in await model.all():
            for name in model._meta.fields_db_projection:
                for value in texts_in(getattr(row, name)):
                    if name in SHOWN.get(table, "").split():
                        shown.add(value)
                    else:
                        hidden[value] = f"{table}.{name}"
    found = {value: where for value, where in hidden.items() if value not in shown and value in text}
    assert found == {}
    assert "JBSWY3DPEHPK3PXP" not in text
    for other in await User.exclude(email=BOB):
        assert other.email not in text
        assert str(other.id) not in text
    assert "192.0.2.9" in text


async def test_it_needs_a_recent_login_in_person(account: Account, clock: Clock, auth: Auth) -> None:
    made = await account.client.post(
        "/account/tokens", json={"name": "x", "scopes": ["notes:read"]}, headers=account.headers
    )
    program = await account.client.get(
        "/account/export", headers={"Authorization": f"Bearer {made.json()['token']}"}
    )
    assert (program.status_code, program.json()["code"]) == (401, "invalid_token")
    clock.advance(minutes=16)
    account.access_token = (await account.refresh()).json()["access_token"]
    stale = await export(account)
    assert (stale.status_code, stale.json()["code"]) == (403, "reauthentication_required")
    body = {"password": PASSWORD}
    await account.client.post("/auth/reauthenticate", json=body, headers=account.headers)
    assert (await export(account)).status_code == 200
    ada = await User.get()
    root = await open_session(auth, await User.create(email=BOB, hashed_password="x", **ADMINISTRATOR))
    assert isinstance(root, TokenSet)
    header = {"Authorization": f"Bearer {root.access_token}"}
    acting = await account.client.post(f"/admin/users/{ada.id}/impersonate", headers=header)
    account.access_token = acting.json()["access_token"]
    refused = await export(account)
    assert (refused.status_code, refused.json()["code"]) == (403, "impersonation_forbidden")


async def test_one_of_any_length_is_sent_in_pieces_and_has_each_event_once(
    account: Account, app: FastAPI, clock: Clock
) -> None:
    user = await User.get()
    await AuditEvent.bulk_create(
        AuditEvent(
            id=time_ordered_id(clock()), time=clock(), user_id=user.id, kind="login", outcome="success"
        )
        for _ in range(2 * PIECE + 1)
    )
    pieces: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()  # a client that stays
        return {}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            pieces.append(message.get("body", b""))

    header = (b"authorization", account.headers["Authorization"].encode())
    scope = {"type": "http", "method": "GET", "path": "/account/export", "query_string": b""}
    await app({**scope, "headers": [header], "root_path": "", "client": ("192.0.2.7", 1)}, receive, send)
    assert len([piece for piece in pieces if piece]) == 3
    ids = [event["id"] for event in json.loads(b"".join(pieces))["activity"]]
    assert (
        len(ids)
        == len({*ids})
        == await AuditEvent.filter(user_id=user.id, kind__not="account_export").count()
    )


async def test_a_feature_of_the_host_adds_its_part(
    settings: AuthSettings, tortoise: TortoiseContext, clock: Clock
) -> None:
    async def notes(auth: Auth, authentication: Authentication) -> AsyncIterator[dict[str, Any]]:
        yield {"text": "milk", "by": authentication.user.email}

    async def quota(auth: Auth, authentication: Authentication) -> int:
        return 7

    app = FastAPI()
    feature = Feature(name="notes", export={"notes": notes, "quota": quota})
    auth = include_auth(app, settings=settings, clock=clock, features=[feature])
    user = await User.create(email=EMAIL, hashed_password="x", is_verified=True)
    tokens = await open_session(auth, user)
    assert isinstance(tokens, TokenSet)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.get(
            "/account/export", headers={"Authorization": f"Bearer {tokens.access_token}"}
        )
    assert answer.json()["notes"] == [{"text": "milk", "by": EMAIL}]
    assert answer.json()["quota"] == 7
    assert answer.json()["mails"] == []
    with pytest.raises(ValueError, match="part of the export 'mails'"):
        Auth(settings, features=[Feature(name="notes", export={"mails": notes})])


class NewMember(UserCreate):
    text: str = ""
    price: Decimal = Decimal(0)


class MemberUpdate(ProfileUpdate):
    short: Annotated[str, Field(repr=False)] = ""
    colour: Colour = Colour.RED


class MemberOut(UserOut):
    plan: int


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
async def test_the_profile_is_what_the_app_shows_and_the_user_fills_in(
    spare: SpareDatabase, settings: AuthSettings
) -> None:
    """A column that no body names is the host's own affair, and one kept out of `repr` is a secret."""
    await spare.create()
    app = FastAPI()
    bodies: dict[str, Any] = {
        "user_create": NewMember,
        "profile_update": MemberUpdate,
        "user_out": MemberOut,
    }
    auth = include_auth(app, settings=settings, user_model=Member, **bodies)
    config = databases.config(spare.url, f"{spare.dialect} columns", "shop", "tests.own_columns")
    async with TortoiseContext() as context:
        await context.init(config)
        await context.generate_schemas()
        member = await Member.create(
            email=EMAIL,
            hashed_password="x",
            is_verified=True,
            text="a poem",
            price="9.50",
            short="1234",
            big=8_150_415_926_535,
            colour=Colour.BLUE,
        )
        tokens = await open_session(auth, member)
        assert isinstance(tokens, TokenSet)
        header = {"Authorization": f"Bearer {tokens.access_token}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.get("/account/export", headers=header)
    assert answer.json()["profile"] == {
        "id": str(member.id),
        "email": EMAIL,
        "is_verified": True,
        "display_name": None,
        "plan": 1,
        "text": "a poem",
        "price": "9.50",
        "colour": "blue",
    }
    assert "8150415926535" not in answer.text


async def test_the_page_gives_the_file_once_the_login_is_recent(
    settings: AuthSettings, tortoise: TortoiseContext, clock: Clock
) -> None:
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock, pages=True)
    hashed = await auth.hasher.hash(PASSWORD)
    await User.create(email=EMAIL, hashed_password=hashed, is_verified=True)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost:8000", headers=BROWSER
    ) as client:
        visitor = FormBrowser(client)
        await visitor.open("/account/sign-in")
        await visitor.submit("password", email=EMAIL, password=PASSWORD)
        clock.advance(minutes=16)
        await visitor.open("/account/profile")
        page = await visitor.submit("export")
        assert page.path == "/account/confirm-password"
        page = await visitor.submit("password", password=PASSWORD)
        assert page.path == "/account/profile"
        page = await visitor.submit("export")
    assert page.answer.headers["content-disposition"] == 'attachment; filename="account.json"'
    assert page.answer.headers["cache-control"] == "no-store"
    assert page.answer.json()["profile"]["email"] == EMAIL
