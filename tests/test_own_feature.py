"""A feature of a host: what it brings works as what the package has, and no file of the package knows it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext
from tortoise.migrations.api import migrate

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.models import User

from . import databases
from .conftest import Account, Clock
from .passes.feature import PASSES
from .passes.models import Pass
from .spare import MIGRATIONS, Spare

pytestmark = pytest.mark.parametrize(
    "spare", ["sqlite", "postgres", pytest.param("mysql", marks=pytest.mark.full)], indirect=True
)


def config(spare: Spare) -> dict[str, Any]:
    """The label of the host beside that of the package."""
    chosen = databases.config(spare.url, spare.dialect, migrations=MIGRATIONS)
    chosen["apps"]["doors"] = {
        "models": ["tests.passes.models"],
        "migrations": "tests.passes.migrations",
        "default_connection": spare.dialect,
    }
    return chosen


@pytest.fixture
async def tortoise(spare: Spare) -> AsyncIterator[TortoiseContext]:
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


async def test_a_feature_has_its_tables_under_the_label_of_its_host(
    app: FastAPI, auth: Auth, account: Account
) -> None:
    assert auth.tables.of(Pass) is Pass
    assert (User._meta.app, Pass._meta.app) == ("models", "doors")
    user = await User.get()
    await auth.tables.of(Pass).create(user=user, digest="1" * 64, expires_at=auth.clock())
    assert await Pass.filter(user__email=account.email).count() == 1
