"""What holds for every command: help, wrong calls, lists as JSON, and `status`."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from fastapi_pluggable_auth import Auth, AuthError, AuthSettings
from fastapi_pluggable_auth.cli import command_line, main
from fastapi_pluggable_auth.commands.database import connected
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.features.administration.users import create_user
from fastapi_pluggable_auth.features.shipped import SHIPPED
from fastapi_pluggable_auth.flows.login import login
from fastapi_pluggable_auth.models import Mail, MailState, User

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET
from .snippets import blocks

SCRIPTS = (Path(__file__).parent.parent / "docs" / "scripts.md").read_text("utf-8")

# What is tested here is the same on every database.
DIALECTS = ("sqlite",)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A database of its own with the tables, named by DATABASE_URL, and the settings of a deployment."""
    url = f"sqlite://{tmp_path / 'app.sqlite3'}"
    monkeypatch.chdir(tmp_path)
    for name, value in {"DATABASE_URL": url, "JWT_SECRET": SECRET, "AUTH_BCRYPT_ROUNDS": "4"}.items():
        monkeypatch.setenv(name, value)
    asyncio.run(databases.create(url, "sqlite"))
    return url


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """It and all that are below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def test_help_names_things_as_they_are_written_and_says_what_each_does() -> None:
    found = [*parsers(command_line())]
    assert len(found) > 25
    for parser in found:
        text = parser.format_help()
        assert (parser.description or "")[:1].isupper(), parser.prog
        for action in parser._actions:
            if action.nargs == 0 or action.choices is not None:
                continue
            name = f"{parser.prog} {action.dest}"
            assert re.fullmatch(r"[A-Z][A-Z:=.]*", str(action.metavar)), name
            assert action.help, name
        if "DATABASE_URL" in text:
            assert "$DATABASE_URL" in text
        assert "auth_totp" not in text, "no name changes its case"


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"fastapi-pluggable-auth {version('fastapi-pluggable-auth')}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["users", "list", "--limit", "0"], "argument --limit: '0' is not a number from 1 on"),
        (["users", "list", "--limit", "\u0663"], "argument --limit: '\u0663' is not a number from 1 on"),
        (["users", "list", "--after", "x"], "argument --after: 'x' is not the cursor of a page"),
        (["users", "create", EMAIL, "--set", "x"], "argument --set: COLUMN=VALUE is needed"),
        (["mail", "list", "--limit", "all"], "argument --limit: 'all' is not a number from 1 on"),
        (["mail", "retry", "x"], "argument ID: invalid UUID value: 'x'"),
        (["keys", "rotate", "--keep", "-1"], "argument --keep: '-1' is not a number from 0 on"),
        (["users", "create", EMAIL, "--password", "hunter2"], "users create: there is no option --password."),
        (["users", "create", EMAIL, "--password=hunter2"], "users create: there is no option --password."),
        (["users", "create", EMAIL, "-phunter2"], "users create: there is no option -p."),
        (["users", "set-password", EMAIL, "hunter2"], "set-password: there are more values than it takes."),
        (["demo", "--port", "70000"], "argument --port: '70000' is not a port"),
    ],
)
def test_a_bad_value_is_answered_in_one_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert re.fullmatch(r"fastapi-pluggable-auth.*: .+ See fastapi-pluggable-auth.* --help\.\n", printed.err)
    assert says in printed.err
    assert "hunter2" not in printed.err


def test_mails_and_keys_are_listed_as_json(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_fill(url))
    assert main(["mail", "list", "--json"]) == 0
    waiting, dead = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (waiting["kind"], waiting["state"], waiting["recipient"]) == ("verify", "waiting", EMAIL)
    assert datetime.fromisoformat(waiting["created_at"]).utcoffset() == timedelta()
    assert (dead["state"], dead["next_attempt_at"]) == ("dead", None)
    monkeypatch.setenv("AUTH_JWT_PREVIOUS_KEYS", SECRET[::-1])
    monkeypatch.setenv("AUTH_TOTP_ENCRYPTION_KEY", SECRET.swapcase())
    assert main(["keys", "list", "--json"]) == 0
    printed = capsys.readouterr().out
    keys = [json.loads(line) for line in printed.splitlines()]
    assert [(key["purpose"], key["algorithm"], key["current"]) for key in keys] == [
        ("tokens", "HS256", True),
        ("tokens", "HS256", False),
        ("two-factor", "A256GCM", True),
    ]
    assert not [key for key in (SECRET, SECRET[::-1], SECRET.swapcase()) if key in printed]
    assert main(["keys", "list"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [
        "current",
        "earlier",
        "current",
    ]


def test_status_says_how_mails_limits_and_migrations_stand(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_fill(url))
    assert main(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    oldest = datetime.fromisoformat(status["outbox"].pop("oldest"))
    assert timedelta() <= datetime.now(UTC) - oldest < timedelta(minutes=5)
    assert status["outbox"] == {"waiting": 1, "under_way": 0, "failed": 1}
    assert status["hashing"]["queue_size_per_worker"] == 64
    assert status["limits"] == {"waiting": 0, "locked": 0}
    assert status["migrations"]["applied"] == []
    assert status["migrations"]["missing"][0] == "0001_initial"
    (shown,) = [json.loads(block) for block in blocks("json", SCRIPTS) if '"outbox"' in block]
    assert {part: {*values} for part, values in shown.items()} == {
        part: {*values} | ({"oldest"} if part == "outbox" else set()) for part, values in status.items()
    }
    assert main(["status"]) == 0
    assert re.search(r"^outbox +failed +1$", capsys.readouterr().out, re.MULTILINE)


def test_status_counts_accounts_that_have_to_wait_and_that_are_locked(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def limits() -> object:
        assert main(["status", "--json"]) == 0
        return json.loads(capsys.readouterr().out)["limits"]

    monkeypatch.setenv("AUTH_THROTTLE_FREE_ATTEMPTS", "3")
    monkeypatch.setenv("AUTH_THROTTLE_FIRST_PAUSE", "600")
    asyncio.run(_guess(url, 2))
    assert limits() == {"waiting": 0, "locked": 0}
    asyncio.run(_guess(url, 1))
    assert limits() == {"waiting": 1, "locked": 0}
    monkeypatch.setenv("AUTH_THROTTLE_DAILY_LIMIT", "3")
    assert limits() == {"waiting": 0, "locked": 1}
    assert main(["users", "unlock", EMAIL]) == 0
    capsys.readouterr()
    assert limits() == {"waiting": 0, "locked": 0}


def test_status_names_the_migrations_that_are_applied(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def record() -> None:
        async with connected(url):
            await User._meta.db.execute_script(
                'CREATE TABLE "tortoise_migrations" ("id" INTEGER PRIMARY KEY, "app" TEXT, "name" TEXT,'
                ' "applied_at" TEXT);'
                "INSERT INTO tortoise_migrations (app, name, applied_at) VALUES ('auth', '0001_initial', '')"
            )

    asyncio.run(record())
    assert main(["status", "--json"]) == 0
    migrations = json.loads(capsys.readouterr().out)["migrations"]
    assert migrations["applied"] == ["0001_initial"]
    assert migrations["missing"][0].startswith("0002_")


async def _fill(url: str) -> None:
    """A mail that waits and one that was given up."""
    async with connected(url):
        auth = Auth(AuthSettings(), features=SHIPPED)
        user = await create_user(auth, EMAIL)
        for kind in (MailKind.VERIFY, MailKind.RESET):
            await auth.outbox.add(kind, EMAIL, user_id=user.id)
        await Mail.filter(kind="reset").update(state=MailState.DEAD, next_attempt_at=None)
        await auth.close()


async def _guess(url: str, times: int) -> None:
    """Wrong passwords for an account."""
    async with connected(url):
        auth = Auth(AuthSettings(), features=SHIPPED)
        if not await User.exists(email=EMAIL):
            await create_user(auth, EMAIL, PASSWORD, verified=True)
        for _ in range(times):
            with pytest.raises(AuthError):
                await login(auth, EMAIL, "wrong password")
        await auth.close()
