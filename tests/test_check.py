"""`fastapi-pluggable-auth check`, and what the start says of the same."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.commands.database import connected
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.security.totp import generate_totp_secret

from . import databases
from .conftest import EMAIL, SECRET, Database, Mailbox
from .smtp_server import MailServer


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mailbox: Mailbox) -> pytest.MonkeyPatch:
    """A safe production environment, apart from what a test changes."""
    monkeypatch.chdir(tmp_path)
    safe = {
        "JWT_SECRET": SECRET,
        "PUBLIC_BASE_URL": "https://app.example.com",
        "EMAIL_FROM": "no-reply@app.example.com",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
        "DATABASE_URL": f"sqlite://{tmp_path / 'app.sqlite3'}",
    }
    asyncio.run(databases.create(safe["DATABASE_URL"], "sqlite"))
    for name, value in safe.items():
        monkeypatch.setenv(name, value)
    for name in ("FORWARDED_ALLOW_IPS", "UVICORN_FORWARDED_ALLOW_IPS", "UVICORN_WORKERS", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_check_passes_a_safe_set_up(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr().out.count("ok  ") == 4


def test_check_recommends_that_no_get_verifies_and_fails_for_nothing_else(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check"]) == 0
    assert "note  AUTH_VERIFY_BY_GET: set it to false" in capsys.readouterr().out
    environment.setenv("AUTH_VERIFY_BY_GET", "false")
    environment.setenv("AUTH_VERIFY_BY_GET", "false")
    assert main(["check"]) == 0
    assert "VERIFY_BY_GET" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("JWT_SECRET", "CHANGE_ME", "AUTH_JWT_SECRET: AUTH_JWT_SECRET still is the placeholder"),
        ("JWT_SECRET", "short", "shorter than 32 bytes"),
        ("PUBLIC_BASE_URL", "http://app.example.com", "not https"),
        ("EMAIL_FROM", "no-reply@example.com", "EMAIL_FROM still is the placeholder"),
        ("EMAIL_PROVIDER", "console", "EMAIL_PROVIDER=console sends no mail"),
        ("EMAIL_PROVIDER", "sendgrid", "SENDGRID_API_KEY"),
        ("EMAIL_PROVIDER", "pigeon", "EMAIL_PROVIDER: Input should be"),
        ("SMTP_PORT", "1", "mail: "),
        ("AUTH_SMTP_SECURITY", "starttls", "mail: "),
        ("SMTP_HOST", "mail.invalid", "in the clear"),
        ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none", "No database answers at 127.0.0.1:1"),
        ("DATABASE_URL", "mysql://nobody@127.0.0.1:1/none", "No database answers at 127.0.0.1:1"),
        ("DATABASE_URL", "sqlite:///nowhere/at/all.sqlite3", "There is no file /nowhere/at/all"),
        ("DATABASE_URL", "gibberish", "neither a database URL"),
        ("DATABASE_URL", "sqlite://:memory:", "The table of User is missing or old: run `tortoise migrate`"),
        ("DATABASE_URL", None, "set DATABASE_URL"),
    ],
)
def test_check_names_what_is_wrong_and_fails(
    name: str,
    value: str | None,
    complaint: str,
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment.delenv(name, raising=False)
    if complaint == "in the clear":
        environment.setenv("SMTP_USER", "app")
        environment.setenv("SMTP_PORT", "25")
    if value is not None:
        environment.setenv(name, value)
    assert main(["check"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert complaint in line


@pytest.mark.parametrize("folder", ["shop.migrations", "fastapi_pluggable_auth.migrations", None])
def test_check_says_where_migrations_of_the_host_would_delete_rows(
    folder: str | None,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = f"sqlite://{tmp_path / 'own.sqlite3'}"
    asyncio.run(databases.create(url, "sqlite", "tests.own_tables", "shop"))
    named = {} if folder is None else {"migrations": folder}
    config = databases.config(url, "own check", "shop", "tests.own_tables", **named)
    module = f"settings_of_{str(folder)[:4]}"
    (tmp_path / f"{module}.py").write_text(f"TORTOISE_ORM = {config!r}")
    environment.syspath_prepend(str(tmp_path))
    assert main(["check", "--config", f"{module}.TORTOISE_ORM"]) == 0
    said = "note  migrations: shop.migrations alters these tables. On SQLite, migrate with ?foreign_keys=OFF"
    assert (said in capsys.readouterr().out) == (folder == "shop.migrations")


def test_check_tries_the_smtp_login(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with MailServer(login=("app", "right"), tls="starttls") as server:
        settings = {"SMTP_PORT": server.port, "SMTP_USER": "app", "AUTH_SMTP_CA_FILE": server.ca_file}
        for name, value in settings.items():
            environment.setenv(name, str(value))
        environment.setenv("SMTP_PASSWORD", "wrong")
        assert main(["check"]) == 1
        assert "wrong" not in capsys.readouterr().out
        environment.setenv("SMTP_PASSWORD", "right")
        assert main(["check"]) == 0
        assert server.messages == []


def test_check_reaches_each_database(environment: pytest.MonkeyPatch, database: Database) -> None:
    environment.setenv("DATABASE_URL", database.url)
    assert main(["check"]) == 0


# --- advice ----------------------------------------------------------------------------------------------


def advised(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, str]:
    """What `check` says is to be set: the line under each name."""
    assert main(["check", *arguments]) == status
    printed = capsys.readouterr().out
    return dict(re.findall(r"^(?:note|FAIL)  (\w[\w-]*): .+\n {6}(.+)$", printed, re.MULTILINE))


@pytest.mark.parametrize(
    ("changed", "name", "line", "followed"),
    [
        ({}, "AUTH_TOTP_ENCRYPTION_KEY", "openssl rand -base64 48", SECRET),
        ({"EMAIL_PROVIDER": "console"}, "AUTH_EMAIL_PROVIDER", "AUTH_EMAIL_PROVIDER=smtp", None),
        ({"EMAIL_PROVIDER": "memory"}, "AUTH_EMAIL_PROVIDER", "AUTH_EMAIL_PROVIDER=smtp", None),
        (
            {"EMAIL_FROM": "Shop <no-reply@example.com>", "AUTH_APP_NAME": "Shop"},
            "AUTH_EMAIL_FROM",
            "AUTH_EMAIL_FROM=Shop <no-reply@app.example.com>",
            None,
        ),
        ({}, "AUTH_APP_NAME", "AUTH_APP_NAME=<its name>", "MyApp"),
        ({}, "AUTH_VERIFY_BY_GET", "AUTH_VERIFY_BY_GET=false", None),
        ({}, "AUTH_VERIFY_BY_GET", "AUTH_VERIFY_BY_GET=false", "true"),
        ({}, "AUTH_TRUSTED_PROXIES", "AUTH_TRUSTED_PROXIES=<address of the proxy>", "10.0.0.5"),
        (
            {"AUTH_RATE_LIMITS": "login=9/minute"},
            "AUTH_RATE_LIMIT_STORAGE",
            "AUTH_RATE_LIMIT_STORAGE=redis://<host>:6379",
            "memory://",
        ),
        ({"WEB_CONCURRENCY": "1000"}, "AUTH_HASHING_THREADS", "AUTH_HASHING_THREADS=1", None),
    ],
)
def test_check_advises_a_line_and_no_longer_once_it_is_set(
    changed: dict[str, str],
    name: str,
    line: str,
    followed: str | None,
    environment: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`followed` is what is set instead of the line as it is written."""
    for variable, value in changed.items():
        environment.setenv(variable, value)
    unsafe = name.startswith("AUTH_EMAIL")
    assert line in advised(capsys, status=unsafe)[name]
    environment.setenv(name, followed or line.partition("=")[2])
    assert name not in advised(capsys)


def test_an_unnamed_mail_server_is_advised_beside_the_one_that_does_not_answer(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.delenv("SMTP_HOST")
    environment.setenv("SMTP_PORT", "1")
    assert advised(capsys, status=1)["AUTH_SMTP_HOST"] == "AUTH_SMTP_HOST=<your mail server>"


def test_uvicorn_may_see_to_the_proxies(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("FORWARDED_ALLOW_IPS", "10.0.0.5")
    assert "AUTH_TRUSTED_PROXIES" not in advised(capsys)


def test_nothing_is_advised_on_this_machine(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("PUBLIC_BASE_URL", "http://localhost:8000")
    environment.setenv("EMAIL_PROVIDER", "console")
    assert advised(capsys) == {}


def test_check_says_what_the_readme_asks_for(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    asked = re.findall(r"AUTH_[A-Z_]+", text.split("Before others use the app:")[1].split("\n\n")[0])
    assert "AUTH_TOTP_ENCRYPTION_KEY" in asked
    for name in ("JWT_SECRET", "SMTP_HOST"):
        environment.delenv(name)
    environment.setenv("SMTP_PORT", "1")
    environment.setenv("PUBLIC_BASE_URL", "http://app.example.com")
    assert set(asked) - advised(capsys, status=1).keys() == set()


def test_postgresql_without_a_timeout_is_advised(
    environment: pytest.MonkeyPatch, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("DATABASE_URL", database.url)
    assert ("DATABASE_URL" in advised(capsys)) == (database.dialect == "postgres")
    if database.dialect == "postgres":
        environment.setenv("DATABASE_URL", f"{database.url}?command_timeout=5")
        assert "DATABASE_URL" not in advised(capsys)


def test_secrets_in_use_want_their_key(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite://{tmp_path / 'app.sqlite3'}"

    async def enrol() -> None:
        async with connected(url):
            await User.create(email=EMAIL, hashed_password="-", totp_secret=generate_totp_secret())

    asyncio.run(enrol())
    assert advised(capsys)["two-factor"] == "fastapi-pluggable-auth keys seal"
    environment.setenv("AUTH_TOTP_ENCRYPTION_KEY", SECRET)
    assert "two-factor" in advised(capsys)
    assert main(["keys", "seal"]) == 0
    capsys.readouterr()
    assert "two-factor" not in advised(capsys)
    environment.delenv("AUTH_TOTP_ENCRYPTION_KEY")
    assert "the key that sealed them" in advised(capsys, status=1)["AUTH_TOTP_ENCRYPTION_KEY"]


def test_check_asks_the_provider_of_the_app(
    environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And not the one that the settings would name."""
    environment.setenv("SMTP_PORT", "1")
    (tmp_path / "pigeons.py").write_text(
        "from fastapi import FastAPI\n"
        "from fastapi_pluggable_auth import AuthSettings, include_auth\n"
        "from fastapi_pluggable_auth.email.provider import EmailProvider, MailError, MemoryProvider\n"
        "class Pigeons(EmailProvider):\n"
        "    ill = False\n"
        "    async def send(self, to, subject, body, html=None): ...\n"
        "    async def check(self):\n"
        "        if self.ill:\n"
        "            raise MailError('All pigeons are ill.', permanent=False)\n"
        "class Ill(Pigeons):\n"
        "    ill = True\n"
        "app, sick, lost = FastAPI(), FastAPI(), FastAPI()\n"
        "include_auth(app, settings=AuthSettings(), email_provider=Pigeons())\n"
        "include_auth(sick, settings=AuthSettings(), email_provider=Ill())\n"
        "include_auth(lost, settings=AuthSettings(), email_provider=MemoryProvider())\n"
    )
    environment.syspath_prepend(str(tmp_path))
    assert main(["check", "--app", "pigeons:app"]) == 0
    assert "ok    mail" in capsys.readouterr().out
    assert main(["check", "--app", "pigeons:sick"]) == 1
    assert "FAIL  mail: All pigeons are ill." in capsys.readouterr().out
    assert "email_provider" in advised(capsys, "--app", "pigeons:lost", status=1)


def test_limits_that_no_app_starts_with_fail(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("AUTH_RATE_LIMITS", "tea=1/minute")
    assert main(["check"]) == 1
    assert capsys.readouterr().out == "FAIL  AUTH_RATE_LIMITS: tea: no route has such a limit.\n"


# --- the start -------------------------------------------------------------------------------------------


async def started(settings: AuthSettings, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the start of an app with these settings warns of."""
    app = FastAPI()
    include_auth(app, settings=settings)
    caplog.clear()
    models = {"models": ["fastapi_pluggable_auth.models"]}
    tortoise = RegisterTortoise(app, db_url="sqlite://:memory:", modules=models, generate_schemas=True)
    async with tortoise, app.router.lifespan_context(app):
        return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


async def test_the_start_names_in_one_line_what_check_advises(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert await started(AuthSettings(email_provider="console"), caplog) == [
        "Before others use the app, set AUTH_EMAIL_PROVIDER, AUTH_TOTP_ENCRYPTION_KEY, AUTH_APP_NAME, "
        "AUTH_VERIFY_BY_GET, AUTH_TRUSTED_PROXIES: `fastapi-pluggable-auth check` says how and why."
    ]


async def test_the_start_of_a_finished_set_up_says_nothing(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    finished = AuthSettings(
        totp_encryption_key=SECRET, app_name="Shop", verify_by_get=False, trusted_proxies="10.0.0.5"
    )
    assert await started(finished, caplog) == []
    assert await started(AuthSettings(public_base_url="http://localhost:8000"), caplog) == []
