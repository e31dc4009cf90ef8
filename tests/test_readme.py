"""The README is true: its code runs, its commands work, its tables are complete."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from tortoise.context import tortoise_test_context

from fastapi_pluggable_auth import AuthSettings, ErrorCode, include_auth
from fastapi_pluggable_auth.config import settings as default_settings
from fastapi_pluggable_auth.email.provider import MailError

from . import databases
from .bench import Bench
from .conftest import EMAIL, PASSWORD, SECRET, Account, Mailbox
from .hosts import assert_passing
from .live import serving
from .snippets import blocks

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
ENV_EXAMPLE = (ROOT / ".env.example").read_text("utf-8")


def python_block(containing: str) -> str:
    (block,) = [block for block in blocks("python", README) if containing in block]
    return block


def test_every_setting_is_in_the_table_and_the_example_with_its_default() -> None:
    for name, setting in AuthSettings.model_fields.items():
        (row,) = re.findall(rf"^\| `{name.upper()}` \|.*$", README, re.MULTILINE)
        assert row.endswith(f"| {setting.description} |")
        assert f"# {setting.description}\n" in ENV_EXAMPLE
        (line,) = re.findall(rf"^(?:# )?{name.upper()}=(.*)$", ENV_EXAMPLE, re.MULTILINE)
        assert (
            getattr(AuthSettings(_env_file=None, **({name: line} if line else {})), name) == setting.default
        )
        if line:
            assert f"| `{line}` |" in row
    assert len(re.findall(r"^\| `[A-Z_]+` \|", README, re.MULTILINE)) == len(AuthSettings.model_fields)


def test_every_route_is_in_the_reference_with_a_curl_command() -> None:
    app = FastAPI()
    include_auth(app, settings=AuthSettings(jwt_secret=SECRET))
    reference = README[README.index("## HTTP reference") :]
    for path, methods in app.openapi()["paths"].items():
        command = (
            re.escape(path).replace(r"\{token\}", r"\$TOKEN").replace(r"\{session_id\}", r"\$SESSION_ID")
        )
        assert re.search(rf"^curl.* \$BASE{command}( |$)", reference, re.MULTILINE), path
        for method in methods:
            named = f"**`{method.upper()} {path}`**" in reference
            assert named or (method, path) == ("get", "/auth/reset-password/{token}"), (method, path)


def test_every_code_that_the_readme_names_exists() -> None:
    codes = {code.code for code in ErrorCode}
    named = set(re.findall(r"(?:40\d|422|503) `([a-z_]+)`", README))
    assert len(named) > 10
    assert named <= codes


def test_the_host_app_and_its_protected_routes_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mailbox: Mailbox
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default_settings, "jwt_secret", SECRET)
    monkeypatch.setattr(default_settings, "smtp_host", "127.0.0.1")
    monkeypatch.setattr(default_settings, "smtp_port", mailbox.server.port)
    module: dict[str, Any] = {}
    exec(python_block("FastAPI(lifespan=lifespan)"), module)
    exec(python_block('@app.get("/notes")'), module)
    with serving(module["app"]) as base, httpx.Client(base_url=base) as client:
        client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
        mailbox.server.wait_for(1)
        client.get(mailbox.link())
        tokens = client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD}).json()
        for method, path in (("GET", "/hello"), ("GET", "/notes"), ("GET", "/drafts"), ("DELETE", "/notes")):
            assert client.request(method, path).status_code == 401
            headers = {"Authorization": f"Bearer {tokens['access_token']}"}
            assert client.request(method, path, headers=headers).status_code == 200


async def test_the_requests_of_the_front_end_succeed_from_a_page_and_nowhere_else(
    app: FastAPI, settings: AuthSettings, account: Account
) -> None:
    (script,) = blocks("js", README)
    (headers,) = [json.loads(text) for text in re.findall(r"headers: (\{.*\})", script)]
    calls = re.findall(r'^await api\("(\w+)", "([^"]+)"(?:, (\{.*\}))?\);$', script, re.MULTILINE)
    assert len(calls) == script.count("await api(")
    settings.cookies, settings.trusted_origins = True, ["https://app.example.com"]
    host: dict[str, Any] = {"app": FastAPI()}
    auth = include_auth(host["app"], settings=settings)
    exec(python_block("PageUser"), host)
    transport = httpx.ASGITransport(host["app"])
    for origin, status in (("https://evil.example", 403), ("https://app.example.com", 200)):
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as page:
            page.headers.update({**headers, "Origin": origin})
            assert (await page.get("/dashboard")).status_code == 303
            answers = [await page.request(method, path, content=body) for method, path, body in calls]
        assert answers[0].status_code == status
        assert {answer.status_code for answer in answers if status == 200} <= {200}
    await auth.close()


async def test_the_provider_of_the_mail_page_sends_and_tells_its_failures() -> None:
    page = (ROOT / "docs" / "mail.md").read_text("utf-8")
    (block,) = [block for block in blocks("python", page) if "class PostOffice" in block]
    module: dict[str, Any] = {"app": FastAPI(), "include_auth": include_auth}
    received: list[dict[str, Any]] = []
    post_office = FastAPI()

    @post_office.post("/mails")
    def take(mail: dict[str, Any]) -> Response:
        received.append(mail)
        return Response(status_code=422 if mail["to"].startswith("nobody") else 201)

    with serving(post_office) as base:
        exec(block.replace("http://127.0.0.1:9000", base), module)
        provider = module["app"].state.pluggable_auth.mailer.provider
        await provider.send(EMAIL, "Hi", "text")
        assert received == [{"to": EMAIL, "subject": "Hi", "text": "text", "html": None}]
        with pytest.raises(MailError, match="422") as refused:
            await provider.send("nobody@example.com", "Hi", "text")
    assert refused.value.permanent


def test_the_tests_of_a_host_app_pass(tmp_path: Path) -> None:
    section = README[README.index("## Test your app") : README.index("## Migrations")]
    conftest, tests = blocks("python", section)
    main = python_block("FastAPI(lifespan=lifespan)")
    assert_passing(tmp_path, 3, {"main.py": main, "conftest.py": conftest, "test_main.py": tests})


def test_every_fixture_is_in_the_table() -> None:
    section = README[README.index("| fixture | |") : README.index("## Migrations")]
    shipped = (ROOT / "fastapi_pluggable_auth" / "testing.py").read_text("utf-8")
    fixtures = re.findall(r"fixture\n(?:async )?def (\w+)", shipped)
    assert sorted(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == sorted(fixtures)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The folder of a host app with the README's settings and a model of its own."""
    (tmp_path / "app").mkdir()
    for name, text in {
        "settings.py": python_block("TORTOISE_ORM = {"),
        "app/__init__.py": "",
        "app/models.py": "from tortoise import Model, fields\n\n\nclass Note(Model):\n"
        "    id = fields.IntField(primary_key=True)\n    owner = fields.ForeignKeyField('auth.User')\n",
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def migrate(host: Path, containing: str) -> str:
    """Runs a block of the README's section on migrations, and gives what it prints."""
    section = README[README.index("## Migrations") : README.index("## Production")]
    (commands,) = [block for block in blocks("sh", section) if containing in block + "\n"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-ec", commands],
        cwd=host,
        env={"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def tables(host: Path) -> set[str]:
    with closing(sqlite3.connect(host / "app.sqlite3")) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_the_migrations_of_a_new_app_make_all_tables(host: Path) -> None:
    shipped = sorted((ROOT / "fastapi_pluggable_auth" / "migrations").glob("*.py"))
    migrate(host, "for your own tables")
    assert tables(host) >= {*databases.TABLES, "note"}
    assert "No changes" in migrate(host, "for your own tables")
    assert sorted((ROOT / "fastapi_pluggable_auth" / "migrations").glob("*.py")) == shipped


@pytest.mark.parametrize(
    ("models", "commands"),
    [("fastapi_pluggable_auth.models", "migrate --fake\n"), ("tests.tables_0_1", "auth 0001_initial")],
)
def test_tables_that_are_there_are_taken_over(models: str, commands: str, host: Path) -> None:
    asyncio.run(databases.create(f"sqlite://{host / 'app.sqlite3'}", "sqlite", models))
    migrate(host, commands)
    assert "No migrations to apply" in migrate(host, "for your own tables")
    assert tables(host) >= set(databases.TABLES)


async def test_the_own_user_model_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mailbox: Mailbox
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "models.py").write_text(python_block("class User(AbstractUser)"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(default_settings, "jwt_secret", SECRET)
    monkeypatch.setattr(default_settings, "smtp_host", "127.0.0.1")
    monkeypatch.setattr(default_settings, "smtp_port", mailbox.server.port)
    module: dict[str, Any] = {"__name__": "main"}
    exec(compile(python_block("class NewUser(UserCreate)"), "main.py", "exec", dont_inherit=True), module)
    transport = httpx.ASGITransport(module["app"])
    async with (
        tortoise_test_context(["app.models"], connection_label="own"),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        account = {"email": EMAIL, "password": PASSWORD, "username": "Ada", "city": "London"}
        assert (await client.post("/auth/signup", json=account)).json()["username"] == "ada"
        await client.get(mailbox.link())
        login = {"email": "ada", "password": PASSWORD}
        token = (await client.post("/auth/login", json=login)).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/city", headers=headers)).json() == "London"
        changed = await client.patch("/account", headers=headers, json={"city": "Paris"})
        assert changed.json()["city"] == "Paris"
    await module["auth"].close()


def test_the_own_mail_of_an_app_is_sent(
    mailbox: Mailbox, template_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (template_dir / "invoice.txt").write_text("Invoice {{ number }}")
    for name, value in {
        "template_dir": template_dir,
        "smtp_host": "127.0.0.1",
        "smtp_port": mailbox.server.port,
    }.items():
        monkeypatch.setattr(default_settings, name, value)
    from fastapi_pluggable_auth.email.sender import send_email_async

    code = python_block("send_email_async(").replace("await ", "sent = ")
    module: dict[str, Any] = {"send_email_async": send_email_async}
    exec(code, module)
    asyncio.run(module["sent"])
    assert "Invoice 17" in mailbox.messages[0].get_body(("plain",)).get_content()  # type: ignore[union-attr]


def curl_commands() -> list[str]:
    reference = README[README.index("### Signing up and in") : README.index("## Test your app")]
    joined = [block.replace("\\\n", " ") for block in blocks("sh", reference)]
    return [command for block in joined for command in block.splitlines()]


def test_every_curl_command_of_the_reference_succeeds(bench: Bench) -> None:
    commands = curl_commands()
    assert len(commands) > 20
    failed: dict[str, int] = {}
    for command in commands:
        bench.prepare(command)
        status = bench.run(command)
        if not 200 <= status < 300:
            failed[command] = status
    assert failed == {}
