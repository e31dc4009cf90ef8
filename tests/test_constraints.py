"""What a database refuses is answered as a refusal, on every way in, and no outage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext
from tortoise.exceptions import IntegrityError
from tortoise.transactions import in_transaction

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth, models
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.errors import AuthError, ErrorCode
from fastapi_pluggable_auth.failures import Failure, failure_of
from fastapi_pluggable_auth.features import Administration
from fastapi_pluggable_auth.features.administration.importing import import_users
from fastapi_pluggable_auth.features.administration.users import create_user, delete_user
from fastapi_pluggable_auth.flows import purge as purge_flow
from fastapi_pluggable_auth.flows import unverified as unverified_flow
from fastapi_pluggable_auth.models import AbstractUser
from fastapi_pluggable_auth.schemas import ProfileUpdate, UserCreate
from fastapi_pluggable_auth.security.clock import utc_now

from . import databases, strict_tables
from .conftest import PASSWORD, Mailbox
from .form_browser import BROWSER, FormBrowser
from .spare_database import SpareDatabase
from .strict_tables import Invoice, User

REFUSED: list[dict[str, Any]] = [
    {"nick": "taken"},
    {"nick": "trigger"},
    {"badge": 99},
    {"word": "much too long"},
    {"word": None},
    {"score": 10**9},
    {"score": 10**30},
    {"company_id": 4711},
]
CODES = {400: {"value_refused"}, 409: {"change_refused"}, 422: {"validation_error"}}


class NewUser(UserCreate):
    nick: str | None = None
    badge: int | None = None
    word: str | None = "none"
    score: int | None = None
    company_id: int | None = None


class Profile(ProfileUpdate):
    nick: str | None = None
    badge: int | None = None
    word: str | None = None
    score: int | None = None
    company_id: int | None = None


@dataclass
class Shop:
    """A host app with its rules, and one user."""

    client: httpx.AsyncClient
    auth: Auth
    user: AbstractUser
    app: FastAPI
    dialect: str

    async def sign_in(self) -> dict[str, str]:
        login = {"email": "ada@example.com", "password": PASSWORD}
        token = (await self.client.post("/auth/login", json=login)).json()["access_token"]
        return {"Authorization": f"Bearer {token}"}

    async def rows(self) -> list[Any]:
        columns = ("email", "nick", "badge", "word", "score", "company_id")
        return sorted(await User.all().values_list(*columns), key=str)


@pytest.fixture
async def shop(spare: SpareDatabase, settings: AuthSettings, mailbox: Mailbox) -> AsyncIterator[Shop]:
    app = FastAPI()
    auth = include_auth(
        app,
        settings=settings,
        user_model=User,
        user_create=NewUser,
        profile_update=Profile,
        pages=True,
        features=[Administration()],
    )
    await databases.create(spare.url, spare.dialect, strict_tables.__name__, "strict")
    transport = httpx.ASGITransport(app)
    async with TortoiseContext() as context:
        name = f"{spare.dialect} strict"
        await context.init(databases.config(spare.url, name, "strict", strict_tables.__name__))
        await strict_tables.add_rules(context.connections.get(name), spare.dialect)
        await create_user(
            auth, "eve@example.com", PASSWORD, verified=True, columns={"nick": "taken", "badge": 1}
        )
        ada = await create_user(auth, "ada@example.com", PASSWORD, verified=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield Shop(client, auth, ada, app, spare.dialect)
        await auth.close()


def is_refusal(answer: httpx.Response) -> bool:
    return answer.json()["code"] in CODES.get(answer.status_code, set())


async def test_what_the_database_refuses_of_a_body_is_no_outage_and_stores_nothing(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    headers, before = await shop.sign_in(), await shop.rows()
    caplog.clear()
    for number, values in enumerate(REFUSED):
        new = {"email": f"new{number}@example.com", "password": PASSWORD}
        signup = await shop.client.post("/auth/signup", json=new | values)
        assert is_refusal(signup), (values, signup.text)
        with pytest.raises(AuthError) as refusal:
            await create_user(shop.auth, new["email"], PASSWORD, columns=values)
        assert refusal.value.code.status in CODES, values
        profile = await shop.client.patch("/account", json=values, headers=headers)
        assert is_refusal(profile), (values, profile.text)
        assert await shop.rows() == before
    assert "Traceback" not in caplog.text
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
    assert "much too long" not in caplog.text
    assert "taken" not in caplog.text, "no value is logged"


RULES = {
    "postgres": [
        *(
            f"RAISE EXCEPTION 'no' USING ERRCODE = '{state}'"
            for state in ("AB123", "42501", "57014", "53100")
        ),
        "RAISE no_data_found USING MESSAGE = 'no'",
        "ASSERT false",
    ],
    "mysql": [
        "SIGNAL SQLSTATE '99001' SET MESSAGE_TEXT = 'no'",
        "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 4711",
        "SIGNAL SQLSTATE '45001' SET MYSQL_ERRNO = 31000",
    ],
}


@pytest.mark.parametrize("spare", ["postgres", "mysql"], indirect=True)
async def test_a_trigger_refuses_by_any_state_that_it_likes(shop: Shop) -> None:
    headers, client = await shop.sign_in(), User._meta.db
    for rule in RULES[shop.dialect]:
        if shop.dialect == "postgres":
            function = "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            await client.execute_script(f"{function} $$ BEGIN {rule}; END $$")
        else:
            await client.execute_script("DROP TRIGGER no_u")
            await client.execute_script(f"CREATE TRIGGER no_u BEFORE UPDATE ON member FOR EACH ROW {rule}")
        answer = await shop.client.patch("/account", json={"nick": "new"}, headers=headers)
        assert is_refusal(answer), (rule, answer.text)


@pytest.mark.parametrize("spare", ["postgres"], indirect=True)
async def test_a_policy_for_rows_refuses_and_a_missing_privilege_is_a_fault(shop: Shop) -> None:
    """PostgreSQL has one state for both."""
    await User._meta.db.execute_script(
        "ALTER TABLE member ENABLE ROW LEVEL SECURITY; GRANT SELECT, UPDATE (nick) ON member TO pg_monitor;"
        "CREATE POLICY tenant ON member USING (true) WITH CHECK (nick IS DISTINCT FROM 'of another')"
    )
    for column, value, meant in (
        ("nick", "of another", Failure.REFUSED),
        ("nick", "of this", None),
        ("badge", 2, Failure.UNAVAILABLE),
    ):
        found = None
        with suppress(LookupError):
            async with in_transaction() as connection:
                await connection.execute_script("SET LOCAL ROLE pg_monitor")
                try:
                    await User.filter(id=shop.user.id).update(**{column: value})
                except Exception as error:
                    found = failure_of(error)
                raise LookupError
        assert found is meant, column


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
async def test_an_address_that_the_host_refuses_at_its_confirmation_is_not_said_to_be_taken(
    shop: Shop, mailbox: Mailbox
) -> None:
    headers = await shop.sign_in()
    await User._meta.db.execute_script(
        "CREATE TRIGGER no_address BEFORE UPDATE ON member WHEN NEW.email = 'new@example.com'"
        " BEGIN SELECT RAISE(ABORT, 'no such address'); END"
    )
    asked = await shop.client.patch("/account", json={"email": "new@example.com"}, headers=headers)
    assert asked.status_code == 200
    refused = await shop.client.post(mailbox.link("new@example.com"))
    assert is_refusal(refused), refused.text
    assert await User.exists(email="ada@example.com")


async def test_an_import_refuses_such_a_row_alone(shop: Shop) -> None:
    refused = [
        "a@example.com,taken,,none,,",
        "b@example.com,trigger,,none,,",
        "c@example.com,,99,none,,",
        "d@example.com,,,much too long,,",
        "e@example.com,,,none,1000000000,",
        "f@example.com,,,none,,4711",
    ]
    lines = ["email,nick,badge,word,score,company_id", *refused, "good@example.com,,,none,,"]
    batches = [batch async for batch in import_users(shop.auth, lines)]
    assert sum(batch.imported for batch in batches) == 1
    assert [row.line for batch in batches for row in batch.refused] == list(range(2, len(refused) + 2))
    assert await User.exists(email="good@example.com")


async def test_a_constraint_that_is_checked_at_the_commit_is_a_refusal_too(shop: Shop) -> None:
    if shop.dialect != "postgres":
        pytest.skip("only PostgreSQL has them")
    new = {"email": "new@example.com", "password": PASSWORD, "badge": 1}
    assert is_refusal(await shop.client.post("/auth/signup", json=new))
    assert not await User.exists(email=new["email"])


async def test_an_account_to_which_rows_refer_is_not_deleted_and_the_log_alone_says_why(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    await Invoice.create(user_id=shop.user.id)
    headers = await shop.sign_in()
    await User.filter(email="eve@example.com").update(is_superuser=True)
    boss = await shop.client.post("/auth/login", json={"email": "eve@example.com", "password": PASSWORD})
    by_boss = {"Authorization": f"Bearer {boss.json()['access_token']}"}
    for path, asking in (("/account", headers), (f"/admin/users/{shop.user.id}", by_boss)):
        answer = await shop.client.delete(path, headers=asking)
        assert (answer.status_code, answer.json()["code"]) == (409, "account_in_use")
        assert "retry-after" not in answer.headers
        assert "invoice" not in answer.text
        assert "rows of invoice refer to it" in caplog.text
        caplog.clear()
    assert (await shop.client.get("/auth/me", headers=headers)).status_code == 200, (
        "nothing of it has happened"
    )
    browser = httpx.ASGITransport(shop.app)
    async with httpx.AsyncClient(transport=browser, base_url="http://testserver", headers=BROWSER) as client:
        visitor = FormBrowser(client)
        await visitor.open("/account/sign-in")
        await visitor.submit("password", email="ada@example.com", password=PASSWORD)
        await visitor.open("/account/delete")
        page = await visitor.submit("sure", sure="yes")
        assert page.status == 409
        assert "while other data of this service refers to it" in page.text
        assert "invoice" not in page.text
    await Invoice.all().delete()
    assert (await shop.client.delete("/account", headers=headers)).status_code == 204


async def test_an_unverified_account_to_which_rows_refer_stays_and_keeps_no_other(
    shop: Shop, settings: AuthSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unverified_flow, "BATCH", 2)
    for number in range(5):
        body = {"email": f"new{number}@example.com", "password": PASSWORD}
        assert (await shop.client.post("/auth/signup", json=body)).status_code == 201
    kept = await User.get(email="new1@example.com")
    await Invoice.create(user_id=kept.id)
    await User.all().update(created_at=shop.auth.clock() - timedelta(days=8))
    settings.unverified_account_ttl = timedelta(days=7)
    with pytest.raises(AuthError) as refusal:
        await purge_flow.purge(shop.auth)
    assert refusal.value.code is ErrorCode.ACCOUNT_IN_USE
    assert sorted(await User.all().values_list("email", flat=True)) == [
        *("ada@example.com", "eve@example.com", "new1@example.com")
    ]


@pytest.mark.parametrize("spare", ["sqlite", "postgres"], indirect=True)
async def test_a_reference_that_is_checked_at_the_commit_keeps_the_account_and_breaks_nothing(
    spare: SpareDatabase, settings: AuthSettings
) -> None:
    """SQLite keeps a transaction open whose COMMIT it refuses: the next one must not meet it."""
    app = FastAPI()
    auth = include_auth(app, settings=settings)
    await spare.create("fastapi_pluggable_auth.models")
    async with spare.opened() as context:
        client = context.connections.get(spare.dialect)
        kind = {"sqlite": "CHAR(36)", "postgres": "UUID"}[spare.dialect]
        reference = 'REFERENCES "user" (id) DEFERRABLE INITIALLY DEFERRED'
        await client.execute_script(f"CREATE TABLE ledger (owner {kind} NOT NULL {reference})")
        await create_user(auth, "ada@example.com", PASSWORD, verified=True)
        eve = await create_user(auth, "eve@example.com", PASSWORD, verified=True)
        await client.execute_script("INSERT INTO ledger SELECT id FROM \"user\" WHERE email LIKE 'ada%'")
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
            login = {"email": "ada@example.com", "password": PASSWORD}
            token = (await http.post("/auth/login", json=login)).json()["access_token"]
            refused = await http.delete("/account", headers={"Authorization": f"Bearer {token}"})
            assert (refused.status_code, refused.json()["code"]) == (409, "account_in_use")
            assert (await http.post("/auth/login", json=login)).status_code == 200
            await delete_user(auth, eve.id)
        assert await models.User.all().values_list("email", flat=True) == ["ada@example.com"]
        assert await models.Mail.filter(kind="account_deleted").count() == 1, "of Eve"
    await auth.close()


async def test_a_row_to_which_rows_of_the_host_refer_keeps_no_other_from_being_purged(
    spare: SpareDatabase, settings: AuthSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_flow, "BATCH", 2)
    await spare.create("fastapi_pluggable_auth.models")
    async with spare.opened() as context:
        user = await models.User.create(email="ada@example.com", hashed_password="x")
        past = utc_now() - timedelta(days=1)
        made = [
            await models.Session.create(user_id=user.id, authenticated_at=past, expires_at=past)
            for _ in range(7)
        ]
        client = context.connections.get(spare.dialect)
        kind = {"sqlite": "CHAR(36)", "postgres": "UUID", "mysql": "CHAR(36)"}[spare.dialect]
        reference = "FOREIGN KEY (session) REFERENCES auth_session (id) ON DELETE RESTRICT"
        await client.execute_script(f"CREATE TABLE ledger (session {kind} NOT NULL, {reference})")
        for kept in made[:3]:
            await client.execute_script(f"INSERT INTO ledger VALUES ('{kept.id}')")
        with pytest.raises(IntegrityError):
            await purge_flow.purge(Auth(settings))
        left = await models.Session.all().values_list("id", flat=True)
    assert {*left} == {each.id for each in made[:3]}


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
async def test_a_purge_ends_where_rows_live_and_one_is_kept_for_the_host(
    spare: SpareDatabase, settings: AuthSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_flow, "BATCH", 2)
    await spare.create("fastapi_pluggable_auth.models")
    async with spare.opened() as context:
        user = await models.User.create(email="ada@example.com", hashed_password="x")
        now, day = utc_now(), timedelta(days=1)
        ends = [now - day] * 2 + [now + day] * 4
        for end in ends:
            await models.Session.create(user_id=user.id, authenticated_at=now, expires_at=end)
        client = context.connections.get(spare.dialect)
        reference = "REFERENCES auth_session (id) ON DELETE RESTRICT"
        await client.execute_script(f"CREATE TABLE ledger (session CHAR(36) NOT NULL {reference})")
        await client.execute_script(
            "INSERT INTO ledger SELECT id FROM auth_session ORDER BY expires_at LIMIT 1"
        )
        with pytest.raises(IntegrityError):
            async with asyncio.timeout(10):
                await purge_flow.purge(Auth(settings))
        assert await models.Session.all().count() == 5


async def test_the_command_names_the_table_whose_rows_refer_to_the_account(
    spare: SpareDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one of which Tortoise knows nothing."""
    await spare.create("fastapi_pluggable_auth.models")
    async with spare.opened() as context:
        await models.User.create(email="ada@example.com", hashed_password="x")
        client = context.connections.get(spare.dialect)
        kind = {"sqlite": "CHAR(36)", "postgres": "UUID", "mysql": "CHAR(36)"}[spare.dialect]
        account = spare.quoted("user")
        reference = f"FOREIGN KEY (owner) REFERENCES {account} (id) ON DELETE RESTRICT"
        await client.execute_script(f"CREATE TABLE ledger (owner {kind} NOT NULL, {reference})")
        await client.execute_script(f"INSERT INTO ledger SELECT id FROM {account}")
    command = ["users", "delete", "ada@example.com", "--yes", "--database-url", spare.url]
    assert await asyncio.to_thread(main, command) == 1
    assert "Not deleted: rows of ledger refer to the account." in capsys.readouterr().err
    assert await spare.query(f"SELECT 1 FROM {account}") != []
