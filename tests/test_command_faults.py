"""What the command line says where the database, its URL or the configuration is wrong."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tortoise.backends.base.executor import EXECUTOR_CACHE

from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.commands import database as commands_database

from . import databases, pgbouncer
from .conftest import SECRET
from .pgbouncer import PgBouncer

COMMANDS = (
    ["check"],
    ["purge"],
    ["keys", "seal"],
    ["mail", "list"],
    ["mail", "retry", "--all"],
    ["mail", "run"],
    ["users", "list"],
    ["users", "create", "ada@example.com", "--no-password"],
    ["users", "show", "ada@example.com"],
    ["users", "delete", "ada@example.com", "--yes"],
    ["users", "disable", "ada@example.com"],
)
POSTGRES, MYSQL = databases.SERVERS["postgres"], databases.SERVERS["mysql"]
on_postgres = pytest.mark.skipif(not databases.answers("postgres"), reason="no postgres server answers")
on_mysql = pytest.mark.skipif(not databases.answers("mysql"), reason="no mysql server answers")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty folder, and settings in which nothing else is wrong."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    safe = {"JWT_SECRET": SECRET, "AUTH_TOTP_ENCRYPTION_KEY": SECRET[::-1], "EMAIL_PROVIDER": "console"}
    for name, value in safe.items():
        monkeypatch.setenv(name, value)
    yield
    for name in ("settings_of_test", "broken_of_test", "half_of_test"):
        sys.modules.pop(name, None)


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The only line about what went wrong; anything that is raised fails the test."""
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    lines = [line for line in (out + err).splitlines() if line and not line.startswith(("ok", "note"))]
    assert len(lines) == 1, lines
    assert "Traceback" not in lines[0]
    return lines[0].removeprefix("FAIL  database: ")


WRONG = {
    "postgres://nobody@127.0.0.1:1/none": "No database answers at 127.0.0.1:1: check host and port",
    "mysql://nobody@127.0.0.1:1/none": "No database answers at 127.0.0.1:1: check host and port",
    "postgres://nobody@nowhere.invalid/none": "The host of the database is not known: nowhere.invalid",
    "mysql://nobody@nowhere.invalid/none": "The host of the database is not known: nowhere.invalid",
    "postgres://user:secret@host:port/none": "The URL of the database is not valid: Port is not an integer",
    "postgre://user@host/none": "postgre:// is not a database that Tortoise knows: use postgres://",
    "gibberish": "'gibberish' is neither a database URL",
    "sqlite://misspelt.sqlite3": "There is no file",
    "sqlite:///no/such/folder/app.sqlite3": "There is no file /no/such/folder/app.sqlite3",
    "sqlite://.": "There is no file",
    "sqlite://:memory:": "The table of User is missing or old: run `tortoise migrate`",
    "sqlite:app.sqlite3": "'sqlite:app.sqlite3' is neither a database URL",
    "psycopg://user@127.0.0.1/none": "The driver of the database is missing: install psycopg",
}


UNREACHABLE = ("No database answers", "The host of the database")


@pytest.mark.parametrize(
    ("command", "url"),
    [
        *((command, "sqlite://misspelt.sqlite3") for command in COMMANDS),
        *((command, url) for command in (["check"], ["purge"], ["mail", "run"]) for url in WRONG),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_each_command_names_what_is_wrong_with_the_url(
    command: list[str], url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if command == ["mail", "run"] and WRONG[url].startswith(UNREACHABLE):
        pytest.skip("it waits for its database")
    line = said([*command, "--database-url", url], capsys)
    assert line.startswith(WRONG[url])
    assert "secret" not in line
    assert list(tmp_path.iterdir()) == []  # above all, no empty database


@on_postgres
def test_postgres_names_and_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    server = POSTGRES.rpartition("/")[0]
    assert said(["users", "list", "--database-url", f"{server}/no_such"], capsys) == (
        "There is no database no_such at 127.0.0.1:5432: check its name, or create it."
    )
    nobody = server.replace("postgres@", "no_such_role@")
    assert "refuses the user or the password" in said(
        ["purge", "--database-url", f"{nobody}/postgres"], capsys
    )
    assert "is missing or old: run `tortoise migrate`" in said(
        ["mail", "run", "--database-url", f"{server}/postgres"], capsys
    )


@on_mysql
def test_mysql_names_and_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    server = MYSQL.rpartition("/")[0]
    assert "There is no database no_such at 127.0.0.1:3306" in said(
        ["users", "list", "--database-url", f"{server}/no_such"], capsys
    )
    line = said(["purge", "--database-url", "mysql://root:not_this_one@127.0.0.1:3306/mysql"], capsys)
    assert "refuses the user or the password" in line
    assert "not_this_one" not in line
    assert "is missing or old: run `tortoise migrate`" in said(
        ["mail", "run", "--database-url", f"{server}/mysql"], capsys
    )


def test_what_answers_and_is_no_database_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_database, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("postgres", "mysql"):
            line = said(["purge", "--database-url", f"{scheme}://user@127.0.0.1:{port}/none"], capsys)
            assert line.startswith(f"The server at 127.0.0.1:{port} does not answer as a database")


def test_a_file_that_is_no_database_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("No database. " * 100)
    line = said(["users", "list", "--database-url", "sqlite://text.txt"], capsys)
    assert line == "text.txt is not a SQLite database: check the path."


def test_a_table_that_is_old_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asyncio.run(databases.create("sqlite://old.sqlite3", "sqlite"))
    EXECUTOR_CACHE.clear()
    with sqlite3.connect(tmp_path / "old.sqlite3") as connection:
        connection.execute("ALTER TABLE auth_session DROP COLUMN superseded")
    connection.close()
    line = said(["purge", "--database-url", "sqlite://old.sqlite3"], capsys)
    assert line == "The table of Session is missing or old: run `tortoise migrate`."


@pytest.mark.skipif(pgbouncer.missing() is not None, reason=str(pgbouncer.missing()))
@on_postgres
@pytest.mark.parametrize("command", [["check"], ["users", "list"]], ids=" ".join)
def test_no_command_runs_behind_a_pooler_that_mixes_up_statements(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(databases.create(POSTGRES, "postgres"))
    EXECUTOR_CACHE.clear()
    with PgBouncer(POSTGRES) as pooler:
        assert "statement_cache_size=0" in said([*command, "--database-url", pooler.url], capsys)
        EXECUTOR_CACHE.clear()
        assert main(["users", "list", "--database-url", f"{pooler.url}?statement_cache_size=0"]) == 0


MODULES = {
    "settings_of_test": """
URL = "sqlite://app.sqlite3"
MODELS = ["fastapi_pluggable_auth.models"]
def config(models, label="models", connection="default", url=URL):
    app = {"models": models, "default_connection": connection}
    return {"connections": {"default": url}, "apps": {label: app}}
GOOD = config(MODELS)
OTHER_LABEL = config(MODELS, "accounts")
WITHOUT_MODELS = config(["fastapi_pluggable_auth.errors"])
UNKNOWN_MODELS = config(["no_such.models"])
UNKNOWN_CONNECTION = config(MODELS, connection="main")
BAD_URL = config(MODELS, url="postgres://user:secret@host:port/none")
WITHOUT_FILE = config(MODELS, url={"engine": "tortoise.backends.sqlite"})
MISSPELT = config(MODELS, url="sqlite://misspelt.sqlite3")
NOTHING = None
TEXT = "sqlite://app.sqlite3"
EMPTY = {}
""",
    "broken_of_test": "1 / 0",
    "half_of_test": "import no_such_library",
}
CONFIGURATIONS = {
    "no_such.TORTOISE_ORM": "There is no module no_such here: run the command in the folder of the app",
    "settings_of_test": "'settings_of_test' is neither a database URL",
    "settings_of_test.": "'settings_of_test.' is neither a database URL",
    "settings_of_test.TORTOISE": "The module settings_of_test has no TORTOISE.",
    "settings_of_test.NOTHING": "The module settings_of_test has no NOTHING.",
    "settings_of_test.TEXT": "Config variable 'settings_of_test.TEXT' must be a dict",
    "settings_of_test.EMPTY": "Invalid Tortoise ORM configuration in 'settings_of_test.EMPTY'",
    "settings_of_test.WITHOUT_MODELS": "There is no user model in settings_of_test.WITHOUT_MODELS: list",
    "settings_of_test.UNKNOWN_MODELS": "Tortoise refuses settings_of_test.UNKNOWN_MODELS: ",
    "settings_of_test.UNKNOWN_CONNECTION": "",
    "settings_of_test.BAD_URL": "",
    "settings_of_test.WITHOUT_FILE": "The driver of the database refuses an option of the connection (Sqlite",
    "settings_of_test.settings.TORTOISE_ORM": "settings_of_test is a module: the configuration must be a",
    "settings_of_test:GOOD": "'settings_of_test:GOOD' is neither a database URL",
    "./settings_of_test.GOOD": "'./settings_of_test.GOOD' is neither a database URL",
    "settings_of_test.MISSPELT": "There is no file",
    "broken_of_test.TORTOISE_ORM": "broken_of_test cannot be imported (ZeroDivisionError: division by zero)",
    "half_of_test.TORTOISE_ORM": "half_of_test cannot be imported: No module named 'no_such_library'.",
}


@pytest.fixture
def modules(tmp_path: Path) -> None:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("command", [["check"], ["users", "list"], ["mail", "run"]], ids=" ".join)
def test_a_wrong_configuration_is_named(
    command: list[str], name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = said([*command, "--config", name], capsys)
    assert line.startswith(CONFIGURATIONS[name]), line
    assert "secret" not in line
    assert not list(tmp_path.glob("*.sqlite3"))


@pytest.mark.usefixtures("modules")
def test_a_right_configuration_works_under_any_label(tmp_path: Path) -> None:
    """As an operator starts it: a label stays with its process."""
    asyncio.run(databases.create("sqlite://app.sqlite3", "sqlite"))
    for name in ("GOOD", "OTHER_LABEL"):
        command = [sys.executable, "-m", "fastapi_pluggable_auth", "users", "list"]
        done = subprocess.run(
            [*command, "--config", f"settings_of_test.{name}"], cwd=tmp_path, capture_output=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, b""), done.stderr


@pytest.mark.parametrize(
    "command",
    [*COMMANDS, ["mail", "test", "ada@example.com"], ["mail", "preview"], ["keys", "rotate"], ["demo"]],
    ids=" ".join,
)
def test_a_setting_that_is_not_valid_is_named_by_each_command(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite://:memory:")
    monkeypatch.setenv("SMTP_PORT", "twenty-five")
    assert main(command) == 1
    printed = "".join(capsys.readouterr())
    assert "SMTP_PORT: " in printed
    assert "Traceback" not in printed


@on_postgres
@pytest.mark.parametrize("option", ["statement_cache_sise=0", "sslmode=require", "maxsize=0"])
def test_an_option_that_the_driver_does_not_take_is_named(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = said(["purge", "--database-url", f"{POSTGRES}?{option}"], capsys)
    assert line.startswith("The driver of the database refuses an option of the connection (")


@pytest.fixture
def ada(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An account whose name has letters that few terminals have."""
    monkeypatch.setenv("DATABASE_URL", "sqlite://app.sqlite3")
    asyncio.run(databases.create("sqlite://app.sqlite3", "sqlite"))
    EXECUTOR_CACHE.clear()
    named = ["--no-password", "--display-name", "Ada \N{GREEK CAPITAL LETTER OMEGA}"]
    assert main(["users", "create", "ada@example.com", *named]) == 0
    capsys.readouterr()


SHOWING = (["users", "list"], ["users", "show", "ada@example.com"], ["check"])


@pytest.mark.usefixtures("ada")
@pytest.mark.parametrize("command", SHOWING, ids=" ".join)
def test_output_that_nobody_reads_is_no_mistake(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(command) == 141
    assert "Error" not in capsys.readouterr().err


@pytest.mark.usefixtures("ada")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("command", SHOWING, ids=" ".join)
def test_output_that_finds_no_room_is_named(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(command) == 1
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("ada")
def test_a_terminal_that_lacks_letters_gets_them_escaped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as ascii_only:
        monkeypatch.setattr(sys, "stdout", ascii_only)
        assert main(["users", "show", "ada@example.com"]) == 0
    assert "display_name             Ada \\u03a9" in (tmp_path / "out").read_text()


def test_a_wrong_use_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (
        ["nonsense"],
        ["users"],
        ["mail", "list", "--limit", "0"],
        ["users", "list", "--after", "x"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
        assert " --help." in capsys.readouterr().err


def test_no_command_runs_without_a_database(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for command in COMMANDS[1:]:
        assert said(command, capsys) == "Set DATABASE_URL, or pass --database-url or --config."
    assert os.environ.get("DATABASE_URL") is None
