"""The README is true: its code runs, its commands work, its tables and links lead somewhere.

So are the pages in docs/ that it sends the reader to, where more than their code has to be looked at."""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from tortoise.context import tortoise_test_context

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.config import settings as default_settings
from fastapi_pluggable_auth.email.provider import MailError
from fastapi_pluggable_auth.features import Administration, AuditLog, PersonalTokens

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, Account, Mailbox
from .hosts import assert_passing
from .live import serving
from .shipped import ALL_CODES, FEATURE_SETTINGS
from .snippets import blocks, snippets
from .test_security_docs import ASVS, HELD

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
ENV_EXAMPLE = (ROOT / ".env.example").read_text("utf-8")


def page(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / name).read_text("utf-8")


def python_block(containing: str, text: str = README) -> str:
    (block,) = [block for block in blocks("python", text) if containing in block]
    return block


def sh_block(containing: str, text: str = README) -> str:
    (block,) = [block for block in blocks("sh", text) if containing in block + "\n"]
    return block


def run(commands: str, folder: Path) -> str:
    """What shell commands print; they must succeed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-ec", commands],
        cwd=folder,
        env={"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_snippet_works_or_says_who_runs_it(tmp_path: Path) -> None:
    run(f"PYTHONPATH={ROOT} AUTH_BCRYPT_ROUNDS=4 python -m tests.snippets {ROOT / 'README.md'}", tmp_path)
    for snippet in snippets(README):
        assert snippet.excuse is None or re.search("network|tests/test_", snippet.excuse), snippet.code


def test_every_setting_is_in_the_example_with_its_default_as_are_those_of_the_table() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` (\|.*)$", README, re.MULTILINE))
    classes = dict.fromkeys(AuthSettings.model_fields, AuthSettings) | FEATURE_SETTINGS
    for name, settings in classes.items():
        setting = settings.model_fields[name]
        assert f"# {setting.description}\n" in ENV_EXAMPLE
        variable = f"AUTH_{name.upper()}"
        (line,) = re.findall(rf"^(?:# )?{variable}=(.*)$", ENV_EXAMPLE, re.MULTILINE)
        assert getattr(settings(_env_file=None, **({name: line} if line else {})), name) == setting.default
        if variable in rows:
            default = f"`{line}` " if line else ""
            assert rows.pop(variable) == f"| {default}| {setting.description} |"
    assert not rows


def named_routes(text: str) -> set[tuple[str, str]]:
    """Methods and paths, of "`GET` and `POST /path`" both."""
    found = re.findall(r"((?:`[A-Z]+`(?:, | and ))*`[A-Z]+) (/[^` ]*)`", text)
    return {(method, path) for methods, path in found for method in re.findall("[A-Z]+", methods)}


def test_every_route_is_in_the_table_or_on_the_page_of_administration() -> None:
    app = FastAPI()
    features = [Administration(), PersonalTokens(scopes={"notes:read": "Read"}), AuditLog()]
    include_auth(app, settings=AuthSettings(jwt_secret=SECRET), features=features)
    routes = {
        (method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods
    }
    table = README.split("\n## The routes\n")[1].split("\n## ")[0]
    assert named_routes(table) == {each for each in routes if not each[1].startswith("/admin")}
    assert named_routes(page("admin.md")) >= {each for each in routes if each[1].startswith("/admin")}


def test_every_code_and_every_setting_that_the_readme_names_exists() -> None:
    assert set(re.findall(r"(?:40\d|422|503) `([a-z_]+)`", README)) <= {code.code for code in ALL_CODES}
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=\w+)?`", README))
    assert len(named) > 10
    names = {name.removeprefix("AUTH_") for name in named - {"TORTOISE_ORM", "CHANGE_ME", "TOTP_ISSUER"}}
    assert names <= {name.upper() for name in (*AuthSettings.model_fields, *FEATURE_SETTINGS)}


def test_every_link_leads_to_a_file_or_a_heading() -> None:
    def headings(text: str) -> set[str]:
        return {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}

    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", README)
    for target, anchor in links:
        assert (ROOT / target).exists(), target
        if anchor:
            assert anchor in headings((ROOT / target).read_text("utf-8") if target else README)
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {target for target, _ in links} == {"docs/changelog.md"}  # it is CHANGELOG.md


def cells(text: str) -> dict[tuple[str, str], str]:
    """Of the first table: each cell by its row and its column."""
    (_, *names), _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\|.*$", text, re.MULTILINE)
    )
    return {(row, name): cell for row, *values in rows for name, cell in zip(names, values, strict=True)}


def test_the_comparison_is_that_of_its_page_which_names_releases() -> None:
    """The page has all of them, and says when each was released."""
    here = cells(README.split("\n## How it compares\n")[1].split("\n## ")[0])
    there = cells(page("comparison.md"))
    assert len(here) > 30
    assert here.items() <= there.items()
    assert not [cell for cell in there.values() if not cell]
    text = " ".join(page("comparison.md").split())
    for name in {column for _, column in there} - {"this package"}:
        package, version = name.split(" ")
        assert re.fullmatch(r"[0-9.]+", version)
        assert re.search(rf"\*\*{package}\*\* \([A-Z][a-z]+ 202\d", text), name


def test_the_requirements_and_attacks_are_counted() -> None:
    assert f"a test for each of {len(ASVS)} requirements of OWASP ASVS 5.0" in " ".join(README.split())
    assert f"and {len(HELD)} attacks, races and faults" in " ".join(README.split())


@pytest.mark.parametrize(
    ("pieces", "protected"),
    [
        (
            [python_block("FastAPI(lifespan=lifespan)"), python_block('@app.get("/posts")')],
            {("GET", "/hello"): 200, ("POST", "/posts"): 403},
        ),
        (
            [python_block("FastAPI(lifespan=lifespan)", page("protect.md"))],
            {
                ("GET", "/notes"): 200,
                ("GET", "/drafts"): 200,
                ("DELETE", "/notes"): 200,
                ("POST", "/payout"): 200,
            },
        ),
    ],
    ids=["readme", "page"],
)
def test_the_host_app_and_its_protected_routes_run(
    pieces: list[str],
    protected: dict[tuple[str, str], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mailbox: Mailbox,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default_settings, "jwt_secret", SECRET)
    monkeypatch.setattr(default_settings, "smtp_host", "127.0.0.1")
    monkeypatch.setattr(default_settings, "smtp_port", mailbox.server.port)
    module: dict[str, Any] = {}
    for piece in pieces:
        exec(piece, module)
    with serving(module["app"]) as base, httpx.Client(base_url=base, timeout=30) as client:
        client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
        mailbox.server.wait_for(1)
        client.get(mailbox.link())
        tokens = client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD}).json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        for (method, path), status in protected.items():
            assert client.request(method, path).status_code == 401
            assert client.request(method, path, headers=headers).status_code == status
        if "OptionalUser" in module:
            assert client.get("/posts").json() == {"signed_in": False}
            assert client.get("/posts", headers=headers).json() == {"signed_in": True}


async def test_the_requests_of_the_front_end_succeed_from_a_page_and_nowhere_else(
    app: FastAPI, settings: AuthSettings, account: Account
) -> None:
    (script,) = blocks("js", page("cookies.md"))
    (headers,) = [json.loads(text) for text in re.findall(r"headers: (\{.*\})", script)]
    calls = re.findall(r'^await api\("(\w+)", "([^"]+)"(?:, (\{.*\}))?\);$', script, re.MULTILINE)
    assert len(calls) == script.count("await api(")
    settings.cookies, settings.trusted_origins = True, ["https://app.example.com"]
    host: dict[str, Any] = {"app": FastAPI()}
    auth = include_auth(host["app"], settings=settings)
    exec(python_block("def dashboard", page("cookies.md")), host)
    transport = httpx.ASGITransport(host["app"])
    for origin, status in (("https://evil.example", 403), ("https://app.example.com", 200)):
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as browser:
            browser.headers.update({**headers, "Origin": origin})
            assert (await browser.get("/dashboard")).status_code == 303
            answers = [await browser.request(method, path, content=body) for method, path, body in calls]
        assert answers[0].status_code == status
        assert {answer.status_code for answer in answers if status == 200} <= {200}
    await auth.close()


async def test_the_form_of_the_cookies_page_is_posted_by_old_browsers_too_and_by_no_other_site(
    settings: AuthSettings, account: Account
) -> None:
    settings.cookies = True
    host: dict[str, Any] = {"app": FastAPI()}
    auth = include_auth(host["app"], settings=settings)
    exec(python_block("def new_note", page("cookies.md")), host)
    transport = httpx.ASGITransport(host["app"])
    own = {"Origin": "http://localhost:8000"}
    body = {"email": account.email, "password": account.password}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as browser:
        assert (await browser.post("/auth/login", json=body, headers=own)).status_code == 200
        form = (await browser.get("/notes/new")).text
        token = re.findall('name="csrf_token" value="([^"]+)"', form)[0]
        for headers, fields, status in (
            (own, {"csrf_token": token}, 200),
            ({"Sec-Fetch-Site": "same-origin"}, {}, 200),
            (own, {}, 403),
            ({"Origin": "https://evil.example"}, {"csrf_token": token}, 403),
        ):
            answer = await browser.post("/notes", data={"text": "milk", **fields}, headers=headers)
            assert answer.status_code == status, headers
    await auth.close()


async def test_the_provider_of_the_mail_page_sends_and_tells_its_failures() -> None:
    block = python_block("class PostOffice", page("mail.md"))
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
    app, kit = "FastAPI(lifespan=lifespan)", page("testing.md")
    conftest = python_block("pytest_plugins", kit)
    for folder, main, tests, count in (
        ("readme", python_block(app), python_block("async def test_"), 1),
        ("page", python_block(app, kit), python_block("async def test_", kit), 5),
    ):
        (tmp_path / folder).mkdir()
        files = {"main.py": main, "conftest.py": conftest, "test_main.py": tests}
        assert_passing(tmp_path / folder, count, files)


def test_every_fixture_is_in_the_table() -> None:
    section = page("testing.md").split("| fixture | |")[1].split("\n## ")[0]
    shipped = (ROOT / "fastapi_pluggable_auth" / "testing.py").read_text("utf-8")
    fixtures = re.findall(r"fixture\n(?:async )?def (\w+)", shipped)
    assert sorted(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == sorted(fixtures)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The folder of a host app with the settings of the page on migrations and a model of its own."""
    (tmp_path / "app").mkdir()
    for name, text in {
        "settings.py": python_block("TORTOISE_ORM = {", page("migrations.md")),
        "app/__init__.py": "",
        "app/models.py": python_block("class Note(Model)", page("migrations.md")),
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def tables(host: Path) -> set[str]:
    with closing(sqlite3.connect(host / "app.sqlite3")) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


RELEASE = sh_block("for your own tables")


def test_the_migrations_of_a_new_app_make_all_tables(host: Path) -> None:
    assert sh_block("for your own tables", page("migrations.md")) == RELEASE
    shipped = sorted((ROOT / "fastapi_pluggable_auth" / "migrations").glob("*.py"))
    run(RELEASE, host)
    assert tables(host) >= {*databases.TABLES, "note"}
    assert "No changes" in run(RELEASE, host)
    assert sorted((ROOT / "fastapi_pluggable_auth" / "migrations").glob("*.py")) == shipped


@pytest.mark.parametrize(
    ("models", "commands"),
    [
        ("fastapi_pluggable_auth.models", sh_block("migrate --fake\n", page("migrations.md"))),
        ("tests.tables_0_1", sh_block("auth 0001_initial", page("from-0.1.md"))),
    ],
)
def test_tables_that_are_there_are_taken_over(models: str, commands: str, host: Path) -> None:
    asyncio.run(databases.create(f"sqlite://{host / 'app.sqlite3'}", "sqlite", models))
    run(commands, host)
    assert "No migrations to apply" in run(RELEASE, host)
    assert tables(host) >= set(databases.TABLES)


def test_the_commands_of_an_operator_succeed(host: Path) -> None:
    run(RELEASE, host)
    (host / "users.csv").write_text("email\nlea@example.com\n")
    (host / ".env").write_text(f"JWT_SECRET={SECRET}\n")
    told = run(sh_block("users create"), host)
    assert "ada@example.com" in told
    with closing(sqlite3.connect(host / "app.sqlite3")) as connection:
        users = connection.execute("SELECT email, is_superuser FROM user ORDER BY email").fetchall()
    assert users == [("ada@example.com", 1), ("lea@example.com", 0)]
    assert f"JWT_PREVIOUS_KEYS={SECRET}" in (host / ".env").read_text().replace('"', "").replace("'", "")


def forget_app() -> None:
    """The next import of `app` and what is in it is a new one."""
    for name in [name for name in sys.modules if name == "app" or name.startswith("app.")]:
        del sys.modules[name]


@pytest.fixture
def own_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mailbox: Mailbox
) -> Iterator[Callable[[str], None]]:
    """Makes `app.models` of a text, for one test; mail goes to the mailbox."""

    def write(models: str) -> None:
        (tmp_path / "app").mkdir()
        (tmp_path / "app" / "models.py").write_text(models)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(default_settings, "jwt_secret", SECRET)
    monkeypatch.setattr(default_settings, "smtp_host", "127.0.0.1")
    monkeypatch.setattr(default_settings, "smtp_port", mailbox.server.port)
    forget_app()
    yield write
    forget_app()


async def logged_in(client: httpx.AsyncClient, mailbox: Mailbox, **columns: str) -> dict[str, str]:
    """The headers of a user who signs up as Ada and logs in by that name."""
    account = {"email": EMAIL, "password": PASSWORD, "username": "Ada", **columns}
    assert (await client.post("/auth/signup", json=account)).status_code == 201
    await client.get(mailbox.link())
    answer = await client.post("/auth/login", json={"email": "ada", "password": PASSWORD})
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_the_own_user_model_works(own_user: Callable[[str], None], mailbox: Mailbox) -> None:
    own_user(python_block("class User(AbstractUser)", page("own-user.md")))
    module: dict[str, Any] = {"__name__": "main"}
    main = python_block("class NewUser(UserCreate)", page("own-user.md"))
    exec(compile(main, "main.py", "exec", dont_inherit=True), module)
    transport = httpx.ASGITransport(module["app"])
    async with (
        tortoise_test_context(["app.models"], connection_label="own"),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        headers = await logged_in(client, mailbox, city="London")
        assert (await client.get("/auth/me", headers=headers)).json()["username"] == "ada"
        assert (await client.get("/city", headers=headers)).json() == "London"
        changed = await client.patch("/account", headers=headers, json={"city": "Paris"})
        assert changed.json()["city"] == "Paris"
    await module["auth"].close()


async def test_an_own_user_model_has_a_username_without_bodies_of_its_own(
    own_user: Callable[[str], None], mailbox: Mailbox
) -> None:
    own_user(python_block("class User(AbstractUser)", page("own-user.md")))
    app = FastAPI()
    auth = include_auth(app, user_model=importlib.import_module("app.models").User)
    async with (
        tortoise_test_context(["app.models"], connection_label="own"),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        headers = await logged_in(client, mailbox)
        assert (await client.get("/auth/me", headers=headers)).status_code == 200
    await auth.close()


def test_the_own_mail_of_an_app_is_sent(
    mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (template,) = [each for each in snippets(page("mail.md")) if each.title == "templates/invoice.txt"]
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "invoice.txt").write_text(template.code)
    monkeypatch.setattr(default_settings, "template_dir", None)  # the page sets it
    monkeypatch.setattr(default_settings, "smtp_host", "127.0.0.1")
    monkeypatch.setattr(default_settings, "smtp_port", mailbox.server.port)
    block = python_block("await send_email_async(", page("mail.md"))
    code = compile(block, "mail.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    asyncio.run(eval(code, {}))  # noqa: S307 - our own page
    assert "Invoice 17" in mailbox.messages[0].get_body(("plain",)).get_content()  # type: ignore[union-attr]
