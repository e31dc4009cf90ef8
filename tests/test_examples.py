"""The smaller examples, started as their READMEs say and driven over HTTP."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, Mailbox, on_one_spare
from .hosts import EXAMPLES, copied, run_pytest
from .live import running, served
from .snippets import snippets
from .spare_database import SpareDatabase

ROOT = Path(__file__).parent.parent
NAMES = sorted(readme.parent.name for readme in EXAMPLES.glob("*/README.md"))


def commands(readme: Path) -> set[str]:
    """The commands of a README, without the folder to go to."""
    blocks = re.findall(r"```sh\n(.*?)```", readme.read_text("utf-8"), re.DOTALL)
    return {line for block in blocks for line in block.splitlines() if not line.startswith("cd ")}


def test_every_example_is_in_each_list_and_is_started_as_its_readme_says() -> None:
    assert sorted(folder.name for folder in EXAMPLES.iterdir() if folder.is_dir()) == NAMES
    told: set[str] = set()
    for list_, link in (
        (EXAMPLES / "README.md", "]({})"),
        (ROOT / "README.md", "](examples/{})"),
        (ROOT / "docs" / "examples.md", "](../examples/{})"),
    ):
        text = list_.read_text("utf-8")
        assert [name for name in NAMES if link.format(name) not in text] == []
    for name in NAMES:
        told |= commands(EXAMPLES / name / "README.md")
    assert commands(ROOT / "docs" / "examples.md") <= told


def runner(folder: Path, environment: dict[str, str], typed: str | None = None) -> Callable[..., str]:
    """Runs commands of Python there, each of which has to succeed; gives what they print."""

    def run(*command: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=os.environ | environment,
            input=typed,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.mark.skipif(not databases.answers("redis"), reason="no redis server answers")
def test_mails_leave_through_a_task_queue(tmp_path: Path, mailbox: Mailbox) -> None:
    environment = {
        "DATABASE_URL": f"sqlite://{tmp_path / 'app.sqlite3'}",
        "REDIS_URL": databases.REDIS_URL,
        "JWT_SECRET": SECRET,
        "AUTH_BCRYPT_ROUNDS": "4",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
    }
    folder = copied("task_queue", tmp_path)
    with served(folder, environment, tmp_path / "app.log") as (base, _):
        for number in range(5):
            account = {"email": f"{number}@example.com", "password": PASSWORD}
            assert httpx.post(f"{base}/auth/signup", json=account).status_code == 201
        time.sleep(0.5)
        assert mailbox.messages == []  # nobody but the worker sends
        worker = ["taskiq", "worker", "app:broker", "--workers", "1"]
        with running(worker, folder, environment, tmp_path / "worker.log") as process:
            mailbox.server.wait_for(5, timeout=20)
            account = {"email": EMAIL, "password": PASSWORD}
            assert httpx.post(f"{base}/auth/signup", json=account).status_code == 201
            mailbox.server.wait_for(6, timeout=20)
            process.kill()  # the worker of taskiq 0.12 waits for its queue also when asked to end
    assert sorted(message["To"] for message in mailbox.messages) == sorted(
        [EMAIL, *(f"{number}@example.com" for number in range(5))]
    )


@on_one_spare
def test_users_have_columns_of_their_own(spare: SpareDatabase, tmp_path: Path, mailbox: Mailbox) -> None:
    asyncio.run(spare.create())
    folder = copied("own_user", tmp_path)
    environment = {
        "DATABASE_URL": spare.url,
        "JWT_SECRET": SECRET,
        "AUTH_BCRYPT_ROUNDS": "4",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
    }

    run = runner(folder, environment)

    tortoise = ("tortoise", "-c", "settings.TORTOISE_ORM")
    run(*tortoise, "makemigrations")
    run(*tortoise, "migrate")
    assert "No changes" in run(*tortoise, "makemigrations")
    assert "ok    database" in run("fastapi_pluggable_auth", "check", "--config", "settings.TORTOISE_ORM")
    assert "auth_session: 0 deleted" in run(
        "fastapi_pluggable_auth", "purge", "--config", "settings.TORTOISE_ORM"
    )
    with (
        served(folder, environment, tmp_path / "app.log") as (base, _),
        httpx.Client(base_url=base, timeout=30) as client,
    ):
        account = {"email": EMAIL, "password": PASSWORD, "username": "Ada", "city": "London"}
        assert client.post("/auth/signup", json=account).status_code == 201
        mailbox.server.wait_for(1, timeout=20)
        assert client.get(mailbox.link()).status_code == 200
        login = client.post("/auth/login", json={"email": "ADA", "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
        note = client.post("/notes", params={"text": "Hello"})
        assert note.json() == {"text": "Hello", "by": "ada", "from": "London"}
        changed = client.patch("/account", json={"born_on": "1815-12-10", "username": "countess"})
        assert (changed.json()["born_on"], changed.json()["username"]) == ("1815-12-10", "countess")


@on_one_spare
def test_a_host_writes_a_feature_of_its_own(spare: SpareDatabase, tmp_path: Path) -> None:
    """Its table has the host's label and migrations; commands know it by the app."""
    asyncio.run(spare.create(models=None))
    folder = copied("own_feature", tmp_path)
    environment = {"DATABASE_URL": spare.url, "JWT_SECRET": SECRET, "AUTH_BCRYPT_ROUNDS": "4"}
    of_app = ("--app", "app:app", "--config", "settings.TORTOISE_ORM")

    def run(*command: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=os.environ | environment,
            input=PASSWORD,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    tortoise = ("tortoise", "-c", "settings.TORTOISE_ORM")
    run(*tortoise, "migrate")
    assert "No changes" in run(*tortoise, "makemigrations")
    users = ("fastapi_pluggable_auth", "users")
    run(*users, "create", EMAIL, "--verified", "--password-stdin", *of_app)
    with (
        served(folder, environment | {"EMAIL_PROVIDER": "console"}, tmp_path / "app.log") as (base, _),
        httpx.Client(base_url=base, timeout=30) as client,
    ):
        login = client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
        account = {"email": "eve@example.com", "password": PASSWORD}
        assert client.post("/auth/signup", json=account).json()["code"] == "invitation_refused"
        account["invitation"] = client.post("/account/invitations").json()["code"]
        assert client.post("/auth/signup", json=account).status_code == 201
        assert client.post("/account/invitations").status_code == 201
    assert "invitation: 0 deleted" in run("fastapi_pluggable_auth", "purge", *of_app)
    assert "does not know what invitation hold" in run(*users, "logout", EMAIL, *of_app[2:])
    assert "does not know" not in run(*users, "disable", EMAIL, *of_app)


def test_the_tests_of_a_feature_of_a_host_pass(tmp_path: Path) -> None:
    told = run_pytest(copied("own_feature", tmp_path))
    assert "6 passed" in told, told


@pytest.mark.parametrize(
    ("page", "example", "files"), [("own-feature", "own_feature", 10), ("mcp", "mcp", 3)]
)
def test_each_file_on_a_page_about_an_example_is_one_of_it(page: str, example: str, files: int) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text("utf-8")
    shown = [each for each in snippets(text) if each.title]
    assert len(shown) >= files
    for snippet in shown:
        assert (EXAMPLES / example / str(snippet.title)).read_text("utf-8") == snippet.code, snippet.title


needs_postgres = pytest.mark.skipif(not databases.answers("postgres"), reason="no postgres server answers")


@needs_postgres
def test_an_app_on_sqlalchemy_has_its_tables_beside_the_accounts(tmp_path: Path, mailbox: Mailbox) -> None:
    """Alembic leaves those of the accounts alone, forwards and back, and has nothing more to do."""
    spare = SpareDatabase("postgres", databases.spare("postgres", tmp_path))
    asyncio.run(spare.create(models=None))
    folder = copied("sqlalchemy", tmp_path)
    environment = {
        "DATABASE_URL": spare.url + "?maxsize=5",
        "JWT_SECRET": SECRET,
        "AUTH_BCRYPT_ROUNDS": "4",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
    }

    run = runner(folder, environment)

    run("tortoise", "-c", "settings.TORTOISE_ORM", "migrate")
    accounts = asyncio.run(spare.tables())
    run("alembic", "upgrade", "head")
    assert asyncio.run(spare.tables()) == accounts | {"alembic_version", "profile", "order"}
    assert "No new upgrade operations detected" in run("alembic", "check")
    assert "ok    database" in run("fastapi_pluggable_auth", "check", "--config", "settings.TORTOISE_ORM")
    with (
        served(folder, environment, tmp_path / "app.log") as (base, _),
        httpx.Client(base_url=base, timeout=30) as client,
    ):
        account = {"email": EMAIL, "password": PASSWORD}
        assert client.post("/auth/signup", json=account | {"city": "London"}).status_code == 201
        mailbox.server.wait_for(1, timeout=20)
        assert client.get(mailbox.link()).status_code == 200
        login = client.post("/auth/login", json=account)
        client.headers["Authorization"] = f"Bearer {login.json()['access_token']}"
        assert client.get("/profile").json() == {"city": "London"}
        assert client.post("/orders", params={"item": "tea"}).status_code == 201
        assert client.delete("/account").status_code == 204
    rows = asyncio.run(
        spare.query('SELECT user_id, item, (SELECT count(*) FROM profile) AS left FROM "order"')
    )
    assert rows == [{"user_id": None, "item": "tea", "left": 0}]
    run("alembic", "downgrade", "base")
    assert asyncio.run(spare.tables()) == accounts | {"alembic_version"}


@needs_postgres
def test_the_tests_of_the_app_on_sqlalchemy_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", databases.spare("postgres", tmp_path))
    told = run_pytest(copied("sqlalchemy", tmp_path))
    assert "5 passed" in told, told


def test_the_code_on_the_page_about_sqlalchemy_is_that_of_the_example() -> None:
    page = (ROOT / "docs" / "beside-sqlalchemy.md").read_text("utf-8")
    shown = [each for each in snippets(page) if each.title]
    assert len(shown) > 5
    for snippet in shown:
        file = EXAMPLES / "sqlalchemy" / str(snippet.title)
        without_docstring = file.read_text("utf-8").partition("\n\n")[2]
        assert snippet.code in without_docstring, snippet.code


@needs_postgres
def test_members_of_a_house_book_its_rooms_and_see_it_happen(tmp_path: Path, mailbox: Mailbox) -> None:
    spare = SpareDatabase("postgres", databases.spare("postgres", tmp_path))
    asyncio.run(spare.create(models=None))
    folder = copied("bookings", tmp_path)
    environment = {
        "DATABASE_URL": spare.url,
        "JWT_SECRET": SECRET,
        "AUTH_BCRYPT_ROUNDS": "4",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
    }

    run = runner(folder, environment, PASSWORD)

    tortoise = ("tortoise", "-c", "settings.TORTOISE_ORM")
    run(*tortoise, "makemigrations")
    run(*tortoise, "migrate")
    assert "No changes" in run(*tortoise, "makemigrations")
    caretaker = ("--verified", "--role", "caretaker", "--set", "flat=0", "--password-stdin")
    of_app = ("--app", "app:app", "--config", "settings.TORTOISE_ORM")
    run("fastapi_pluggable_auth", "users", "create", EMAIL, *caretaker, *of_app)
    log = tmp_path / "app.log"
    with (
        served(folder, environment, log) as (base, _),
        httpx.Client(base_url=base, timeout=30) as client,
    ):
        login = client.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})
        bearer = {"Authorization": f"Bearer {login.json()['access_token']}"}
        client.headers.update(bearer)
        (room,) = client.post("/rooms", params={"name": "Garden"}).json().values()
        feed = base.replace("http", "ws") + "/feed"
        with connect(feed, additional_headers=bearer) as socket:
            booked = client.post("/bookings", data={"room": room, "day": "2999-12-31"})
            assert (booked.status_code, booked.headers["location"]) == (303, "/")
            assert socket.recv(timeout=20) == "Flat 0 has Garden on 2999-12-31."
        assert "2999-12-31: Garden, flat 0" in client.get("/").text
    assert "Traceback" not in log.read_text()


@needs_postgres
def test_the_tests_of_the_house_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", databases.spare("postgres", tmp_path))
    told = run_pytest(copied("bookings", tmp_path))
    assert "6 passed" in told, told


PUBLIC = re.compile(r"fastapi_pluggable_auth(\.(features|hooks|models|schemas|testing|flows\.purge))?")


def test_a_feature_of_a_host_needs_public_names_and_short_parts_only() -> None:
    sources = [*(EXAMPLES / "own_feature").rglob("*.py")]
    assert sources
    for file in sources:
        for node in ast.parse(file.read_text("utf-8")).body:
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 20, (file, node.lineno)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fastapi_pluggable_auth"):
                assert PUBLIC.fullmatch(str(node.module)), (file, node.module)


def test_the_tests_of_the_app_with_its_own_user_pass(tmp_path: Path) -> None:
    folder = copied("own_user", tmp_path)
    told = run_pytest(folder)
    assert "4 passed" in told, told


def test_a_host_with_its_own_user_is_typed_in_full(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    folder = copied("own_user", tmp_path)
    wrong = folder / "wrong.py"
    wrong.write_text(
        "from models import User\n\nfrom fastapi_pluggable_auth import CurrentUser\n\n\n"
        "def mistaken(user: CurrentUser[User]) -> int:\n    return user.city\n\n\n"
        "def unknown(user: CurrentUser[User]) -> object:\n    return user.town\n"
    )
    command = ["--strict", "--cache-dir", os.devnull, "--config-file", os.devnull]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *command, "app.py", "wrong.py"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    errors = [line for line in result.stdout.splitlines() if "error:" in line]
    assert [error.split(":")[0] for error in errors] == ["wrong.py", "wrong.py"], result.stdout
    assert 'got "str", expected "int"' in errors[0]
    assert '"User" has no attribute "town"' in errors[1]
