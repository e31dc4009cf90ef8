"""A router of the host may read from a standby: access is decided where it is written (D17)."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from tortoise import Model
from tortoise.context import TortoiseContext
from tortoise.queryset import AwaitableQuery, QuerySet
from tortoise.router import router

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration, AuditLog, PersonalTokens
from fastapi_pluggable_auth.models import Tables

from .conftest import Account, Mailbox
from .test_sessions import keep

STANDBY = "standby"


class ReadsFromStandby:
    """As a host may have one for all of its models."""

    def db_for_read(self, model: type[Model]) -> str:
        return STANDBY

    def db_for_write(self, model: type[Model]) -> str:
        return "sqlite"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The database, and the standby, which has nothing until something is copied."""
    return tmp_path / "primary.sqlite3", tmp_path / "standby.sqlite3"


@pytest.fixture
async def account(
    files: tuple[Path, Path], settings: AuthSettings, mailbox: Mailbox
) -> AsyncIterator[Account]:
    """A signed-in user of an app with such a router."""
    app = FastAPI()
    auth = include_auth(
        app,
        settings=settings,
        features=[Administration(), AuditLog(), PersonalTokens(scopes={"notes:read": "Read notes"})],
    )
    primary, standby = files
    config = {
        "connections": {"sqlite": f"sqlite://{primary}?journal_mode=DELETE", STANDBY: f"sqlite://{standby}"},
        "apps": {
            "models": {"models": ["fastapi_pluggable_auth.models"], "default_connection": "sqlite"},
        },
        "routers": [ReadsFromStandby],
    }
    transport = httpx.ASGITransport(app)
    try:
        async with (
            TortoiseContext() as context,
            httpx.AsyncClient(transport=transport, base_url="http://testserver") as client,
        ):
            await context.init(config)
            await context.generate_schemas()
            user = {"email": "ada@example.com", "password": "correct horse battery"}
            assert (await client.post("/auth/signup", json=user)).status_code == 201
            assert (await client.get(mailbox.link(user["email"]))).status_code == 200
            account = Account(client, mailbox, user["email"], user["password"])
            assert (await account.login()).status_code == 200
            yield account
            await auth.close()
    finally:
        router.init_routers([])  # it is the process's


async def test_a_standby_that_lags_keeps_no_token_alive_and_refuses_no_fresh_one(
    account: Account, files: tuple[Path, Path]
) -> None:
    """As `fastapi-users` with a read replica would: what has ended lives on there."""
    old = account.access_token
    shutil.copy(*files)  # the standby has got as far as this
    keep(account, await account.refresh())
    assert (await account.me()).status_code == 200
    logout = await account.client.post("/auth/logout", headers=account.headers)
    assert logout.status_code == 200
    assert (await account.me()).status_code == (await account.me(old)).status_code == 401
    assert (await account.refresh()).status_code == 401
    assert (await account.login()).status_code == 200
    assert (await account.me()).status_code == 200
    keep(account, await account.refresh())
    token = {"name": "CI", "scopes": ["notes:read"]}
    made = await account.client.post("/account/tokens", json=token, headers=account.headers)
    assert made.status_code == 201, made.text
    listed = await account.client.get("/account/tokens", headers=account.headers)
    assert [each["name"] for each in listed.json()] == ["CI"]
    sessions = await account.client.get("/account/sessions", headers=account.headers)
    assert [each["current"] for each in sessions.json()] == [True]


async def test_no_query_of_any_table_asks_a_router(account: Account) -> None:
    """Each kind of query of Tortoise's, and each model that is saved, gets its connection by one of these."""
    assert router.db_for_read(_OfTheHost).connection_name == STANDBY  # type: ignore[union-attr]
    for table in Tables():
        for for_write in (False, True):
            assert QuerySet(table)._choose_db(for_write).connection_name == "sqlite"
            assert table._choose_db(for_write).connection_name == "sqlite"


def test_queries_of_tortoise_have_one_way_to_their_connection() -> None:
    """Another one would have to be closed, too."""

    def kinds(query: type) -> list[type]:
        return [query, *(each for sub in query.__subclasses__() for each in kinds(sub))]

    assert all(kind._choose_db is AwaitableQuery._choose_db for kind in kinds(AwaitableQuery))
    for chosen in (AwaitableQuery._choose_db, Model._choose_db):
        assert "router.db_for_read" in inspect.getsource(chosen)


class _OfTheHost(Model):
    """A table that is none of ours."""

    class Meta:
        abstract = True
