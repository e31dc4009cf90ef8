"""A feature of a host: what it brings works as what the package has, and no file of the package knows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext
from tortoise.migrations.api import migrate

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features.administration.users import end_sessions
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import PersonalToken, User
from fastapi_pluggable_auth.security.rate_limits import RateConfigurationError

from . import databases
from .conftest import EMAIL, PASSWORD, Account, Clock, on_one_spare
from .form_browser import BROWSER, FormBrowser
from .passes.feature import PASSES
from .passes.models import Pass
from .spare_database import MIGRATIONS, SpareDatabase
from .test_account_pages import BASE
from .test_ends import sign_in

pytestmark = on_one_spare


def config(spare: SpareDatabase) -> dict[str, Any]:
    """The label of the host beside that of the package."""
    chosen = databases.config(spare.url, spare.dialect, migrations=MIGRATIONS)
    chosen["apps"]["doors"] = {
        "models": ["tests.passes.models"],
        "migrations": "tests.passes.migrations",
        "default_connection": spare.dialect,
    }
    return chosen


@pytest.fixture
async def tortoise(spare: SpareDatabase) -> AsyncIterator[TortoiseContext]:
    """The tables of the package and of the host, each by its own migrations."""
    await spare.create()
    async with TortoiseContext():
        await migrate(config=config(spare))
    async with TortoiseContext() as context:
        await context.init(config(spare))
        yield context


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """A host that has written a feature."""
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, pages=True, features=[PASSES])
    return app


async def make_pass(account: Account) -> str:
    """The pass of an account."""
    made = await account.client.post("/account/passes", headers=account.headers)
    assert made.status_code == 201, made.text
    return str(made.json()["pass"])


async def show(client: httpx.AsyncClient, secret: str, path: str = "/account/passes/owner") -> int:
    """What a route answers to this token."""
    return (await client.get(path, headers={"Authorization": f"Bearer {secret}"})).status_code


@pytest.fixture
async def visitor(app: FastAPI) -> AsyncIterator[FormBrowser]:
    """Somebody with a browser."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=BROWSER) as client:
        yield FormBrowser(client)


async def test_its_tables_are_under_the_label_of_the_host_and_its_rows_expire(
    auth: Auth, clock: Clock, account: Account
) -> None:
    assert auth.tables.of(Pass) is Pass
    assert (User._meta.app, Pass._meta.app) == ("models", "doors")
    await make_pass(account)
    assert (await purge(auth))["door_pass"] == 0
    clock.advance(hours=25)
    await account.login()
    await make_pass(account)
    assert (await purge(auth))["door_pass"] == 1
    assert await Pass.filter(user__email=EMAIL).count() == 1


async def test_its_rows_die_with_the_ends_of_access_that_it_names(auth: Auth, account: Account) -> None:
    other = await sign_in(account)
    kept, lost = await make_pass(account), await make_pass(other)
    client = account.client
    sessions = (await client.get("/account/sessions", headers=account.headers)).json()
    (others,) = [session["id"] for session in sessions if not session["current"]]
    assert (await client.delete(f"/account/sessions/{others}", headers=account.headers)).status_code == 204
    assert [await show(client, each) for each in (kept, lost)] == [200, 401]
    await client.post("/auth/logout", headers=account.headers)
    assert await show(client, kept) == 200
    await account.login()
    body = {"old_password": PASSWORD, "new_password": "an entirely new one"}
    await client.post("/account/change-password", json=body, headers=account.headers)
    assert await show(client, kept) == 401


async def test_its_tokens_are_taken_where_scopes_are_asked_for_only(clock: Clock, account: Account) -> None:
    client, secret = account.client, await make_pass(account)
    assert await show(client, secret) == 200
    assert await show(client, account.access_token) == 200
    assert await show(client, secret, "/auth/me") == 401
    assert await show(client, f"{secret}x") == 401
    clock.advance(hours=25)
    assert await show(client, secret) == 401


async def test_it_has_limits_of_its_own(settings: AuthSettings, account: Account) -> None:
    async def statuses() -> list[int]:
        ask = account.client.post
        return [(await ask("/account/passes", headers=account.headers)).status_code for _ in range(4)]

    assert await statuses() == [201] * 4
    settings.rate_limits = {"login": "100/hour"}
    assert await statuses() == [201] * 4
    settings.rate_limits = "recommended"  # type: ignore[assignment]
    assert await statuses() == [201, 201, 201, 429]
    settings.rate_limits = {"make_pass": "2/day"}
    assert await statuses() == [201, 201, 429, 429]


async def test_it_puts_parts_into_the_pages_of_others(account: Account, visitor: FormBrowser) -> None:
    page = await visitor.open("/account/sign-in")
    assert "At a door, show your pass." in page.text
    await visitor.submit("password", email=EMAIL, password=PASSWORD)
    page = await visitor.open("/account/profile")
    assert "/account/security#passes" in page.links
    page = await visitor.open("/account/security")
    assert "Passes: 0" in page.text
    await visitor.submit("passes/form")
    assert visitor.page.path == "/account/security"
    assert "Passes: 1" in visitor.page.text


async def test_without_it_an_app_has_nothing_of_it(
    settings: AuthSettings, clock: Clock, auth: Auth, account: Account
) -> None:
    await make_pass(account)
    app = FastAPI()
    without = include_auth(app, settings=settings, clock=clock, pages=True)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await client.post("/account/passes", headers=account.headers)).status_code == 404
        page = await client.get("/account/sign-in", headers=BROWSER)
        assert (page.status_code, "passes-hint" in page.text) == (200, False)
    clock.advance(days=2)
    assert "door_pass" not in await purge(without)
    await without.close()
    settings.rate_limits = {"make_pass": "1/hour"}
    with pytest.raises(
        RateConfigurationError, match="AUTH_RATE_LIMITS: make_pass: no route has such a limit"
    ):
        Auth(settings)
    Auth(settings, features=[PASSES])


async def test_rows_of_the_features_of_the_package_end_and_expire_in_a_script_that_has_none(
    settings: AuthSettings, clock: Clock, account: Account
) -> None:
    script = Auth(settings, clock=clock)
    user, tokens = await User.get(), script.tables.of(PersonalToken)

    async def make(digest: str) -> None:
        ends = clock() + timedelta(days=1)
        await tokens.create(user_id=user.id, name="x", digest=digest * 64, expires_at=ends)

    await make("1")
    await end_sessions(script, user.id)
    assert await tokens.all().count() == 0
    await make("2")
    clock.advance(days=2)
    assert (await purge(script))["auth_personal_token"] == 1
    await script.close()
