"""`--app`: a command uses the settings, roles and features of the app, also those that a host has written."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.models import User

from . import databases
from .conftest import EMAIL, SECRET
from .passes.models import Door, Pass
from .spare_database import SpareDatabase

APP = f"""
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from tests.passes.feature import PASSES

app, other = FastAPI(), FastAPI()
settings = AuthSettings(jwt_secret="{SECRET}", bcrypt_rounds=4)
include_auth(app, settings=settings, roles={{"porter": []}}, features=[PASSES])
"""
WARNED = "warning: this command does not know what door_pass hold."


def config(spare: SpareDatabase) -> dict[str, Any]:
    """The tables of the package and of the host."""
    chosen = databases.config(spare.url, spare.dialect)
    chosen["apps"]["models"]["models"].append("tests.passes.models")
    return chosen


@pytest.fixture
def stored(spare: SpareDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpareDatabase]:
    """A user with two passes, of which one has expired, and the app in the folder of the command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for model in (Door, Pass):  # Tortoise keeps the label, which is another in other tests
        monkeypatch.setattr(model._meta, "app", None)
    for name, value in {"DATABASE_URL": spare.url, "JWT_SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "app_of_test.py").write_text(APP)

    async def store() -> None:
        await spare.create()
        async with TortoiseContext() as context:
            await context.init(config(spare))
            await context.generate_schemas()
            user = await User.create(email=EMAIL, hashed_password="x")
            for number in (1, -1):
                ends = datetime.now(UTC) + timedelta(days=number)
                await Pass.create(user=user, digest=str(number), expires_at=ends)

    asyncio.run(store())
    yield spare
    sys.modules.pop("app_of_test", None)


def passes(spare: SpareDatabase) -> int:
    """How many there are."""
    (row,) = asyncio.run(spare.query("SELECT count(*) AS count FROM door_pass"))
    return int(row["count"])


def test_a_command_that_ends_access_warns_of_tables_that_it_does_not_know(
    stored: SpareDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["users", "show", EMAIL]) == 0
    assert WARNED not in capsys.readouterr().err
    assert main(["users", "disable", EMAIL]) == 0
    assert WARNED in capsys.readouterr().err
    assert passes(stored) == 2


def test_with_the_app_rows_of_its_features_end_and_expire(
    stored: SpareDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    of_app = ["--app", "app_of_test:app"]
    assert main(["purge", *of_app]) == 0
    assert "door_pass: 1 deleted" in capsys.readouterr().out
    assert passes(stored) == 1
    assert main(["users", "disable", EMAIL, *of_app]) == 0
    assert WARNED not in capsys.readouterr().err
    assert passes(stored) == 0


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
def test_with_the_app_its_roles_are_the_only_ones(
    stored: SpareDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    create = ["users", "create", "bob@example.com", "--no-password", "--app", "app_of_test:app", "--role"]
    assert main([*create, "king"]) == 2
    assert capsys.readouterr().err == "The app has no role king: its roles are porter.\n"


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
def test_with_the_app_a_translator_gets_the_words_of_its_features(
    stored: SpareDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["words", "fr"]) == 0
    assert "[passes]" not in capsys.readouterr().out
    assert main(["words", "fr", "--app", "app_of_test:app"]) == 0
    assert '[passes]\n# Passes\n#title = ""\n' in capsys.readouterr().out


@pytest.mark.parametrize("spare", ["sqlite"], indirect=True)
def test_an_app_that_is_not_there_is_told_in_one_line(
    stored: SpareDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, told in {
        "app_of_test": "'app_of_test' is not the name of an app, such as main:app.",
        "no_such_module:app": "There is no module no_such_module here",
        "app_of_test:other": "app_of_test:other is not an app that include_auth was called for.",
        "app_of_test:application": "app_of_test:application is not an app that include_auth was called for.",
        "app_of_test.app:app": "app_of_test is a module: the app must be a variable of it, such as app_of_",
    }.items():
        assert main(["users", "list", "--app", name]) == 1
        assert capsys.readouterr().err.startswith(told)
