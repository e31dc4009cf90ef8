"""An app that has users already: what cannot be is named at start, and accounts can stand beside them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from tortoise import Model
from tortoise.context import TortoiseContext
from tortoise.router import router

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.models import AbstractUser, User

PACKAGE = "fastapi_pluggable_auth.models"
HOST_USER = """
from tortoise import Model, fields

class User(Model):
    id = fields.IntField(primary_key=True)
    email = fields.CharField(max_length=100)
"""
HOST_TABLE = (
    HOST_USER.replace("class User", "class Customer") + '    class Meta:\n        table = "{table}"\n'
)
BESIDE = """
from tortoise import Model, fields
from fastapi_pluggable_auth.models import AbstractUser, tables_for

class {name}(AbstractUser):
    class Meta:
        table = "{table}"

class User(Model):
    id = fields.IntField(primary_key=True)
    account = fields.OneToOneField({name}, null=True)

__models__ = [*tables_for({name}), User]
"""


async def start(
    settings: AuthSettings, apps: dict[str, list[str]], user_model: type[AbstractUser] = User, *, make: bool
) -> None:
    """Starts an app whose lifespan opens Tortoise."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models: dict[str, Any] = {label: {"models": modules} for label, modules in apps.items()}
        await context.init({"connections": {"default": "sqlite://:memory:"}, "apps": models})
        if make:
            await context.generate_schemas()
        yield

    app = FastAPI(lifespan=lifespan)
    include_auth(app, settings=settings, user_model=user_model)
    async with TortoiseContext() as context, app.router.lifespan_context(app):
        pass


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """Writes a module, with a name that no other test uses."""
    monkeypatch.syspath_prepend(tmp_path)
    number = abs(hash(request.node.nodeid))

    def write(name: str, source: str) -> str:
        unique = f"{name}_{number}"
        (tmp_path / f"{unique}.py").write_text(source)
        return unique

    return write


@pytest.mark.parametrize("make", [True, False], ids=["generate_schemas", "migrated"])
@pytest.mark.parametrize(
    ("source", "named"),
    [
        (HOST_USER, "User"),
        (HOST_TABLE.format(table="auth_session"), "Customer"),
        (HOST_TABLE.format(table="User"), "Customer"),
    ],
    ids=["user", "session", "another case"],
)
async def test_a_table_of_the_host_with_a_name_of_ours_is_named_at_start(
    settings: AuthSettings, module: Any, source: str, named: str, make: bool
) -> None:
    """Tortoise speaks of cyclic references, or starts and asks the wrong table."""
    shop = module("shop", source)
    said = rf"{shop}\.{named} and {PACKAGE}\.\w+\.\w+ are both the table '\w+': .*Your app has users already"
    with pytest.raises(RuntimeError, match=said):
        await start(settings, {shop: [shop], "models": [PACKAGE]}, make=make)


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_two_models_of_one_name_under_one_label_are_named_at_start(
    settings: AuthSettings, module: Any, first: str
) -> None:
    """Tortoise keeps the one that comes last, and says nothing."""
    shop = module(
        "shop", HOST_USER.replace("    email", "    class Meta:\n        table = 'people'\n    email")
    )
    modules = [PACKAGE, shop] if first == "ours" else [shop, PACKAGE]
    with pytest.raises(
        RuntimeError, match=rf"{shop}\.User and .*\.User are both 'User' under the label 'models'"
    ):
        await start(settings, {"models": modules}, make=False)


async def test_accounts_of_another_table_stand_beside_the_users_of_a_host(
    settings: AuthSettings, module: Any
) -> None:
    shop = module("shop", BESIDE.format(name="Account", table="account"))
    __import__(shop)
    await start(settings, {shop: [shop]}, sys.modules[shop].Account, make=True)


class Split:
    """A router of the host."""

    read, write = "", ""

    def db_for_read(self, model: type[Model]) -> str | None:
        return self.read or None

    def db_for_write(self, model: type[Model]) -> str | None:
        return self.write or None


@pytest.mark.parametrize(
    ("read", "write", "refused"),
    [("replica", "", False), ("replica", "default", False), ("", "other", True), ("", "default", False)],
)
async def test_a_router_that_writes_accounts_elsewhere_is_named_at_start(
    settings: AuthSettings, read: str, write: str, refused: bool
) -> None:
    """Where it reads does not matter: it is not asked."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connections = dict.fromkeys(("default", "replica", "other"), "sqlite://:memory:")
        routed = {"routers": [type("Routed", (Split,), {"read": read, "write": write})]}
        await context.init({"connections": connections, "apps": {"models": {"models": [PACKAGE]}}, **routed})
        yield

    app = FastAPI(lifespan=lifespan)
    include_auth(app, settings=settings)
    named = pytest.raises(RuntimeError, match="A router of Tortoise writes User by 'other': accounts")
    try:
        async with TortoiseContext() as context:
            with named if refused else nullcontext():
                async with app.router.lifespan_context(app):
                    pass
    finally:
        router.init_routers([])  # it is the process's


async def test_the_models_of_the_package_beside_those_of_the_host_are_named_where_no_table_can_be_made(
    settings: AuthSettings, module: Any
) -> None:
    """In an app whose tables are there, they did no harm and still do none."""
    shop = module(
        "shop",
        BESIDE.format(name="Account", table="account")
        .replace("class User(Model)", "class Person(Model)")
        .replace(", User]", ", Person]"),
    )
    __import__(shop)
    apps, account = {shop: [shop], "models": [PACKAGE]}, sys.modules[shop].Account
    with pytest.raises(RuntimeError, match=f"leave {PACKAGE} out of Tortoise's modules"):
        await start(settings, apps, account, make=True)
    await start(settings, apps, account, make=False)
