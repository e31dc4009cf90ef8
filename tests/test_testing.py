"""The test kit, used by the tests of a host project with two apps, built where their modules are imported.

The settings of the first app are those of production: nothing of what they name may be reached, or changed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from . import databases
from .hosts import STRICT, assert_passing, run_pytest
from .spare_database import SpareDatabase

SHOP = """
from fastapi import FastAPI
from tortoise.transactions import in_transaction
from fastapi_pluggable_auth import AuthSettings, CurrentUser, include_auth

handed_over = []
app = FastAPI()
auth = include_auth(
    app,
    settings=AuthSettings(
        _env_file=None,
        jwt_secret="h2Qm7RkZ9tLb3XvN8wYp5Dc6GsJf4TeU",
        public_base_url="https://shop.example.com/api",
        check_breaches=True,
        breach_url="http://127.0.0.1:9",
        deliver_mail=False,
        rate_limits="login=2/hour",
        rate_limit_storage="redis://127.0.0.1:9",
        totp_encryption_key="b8Wn4KsV1xRq6TzM3jFy9Pd2HcLg7EoA",
        trusted_origins=["https://www.example.com"],
    ),
    send_email=handed_over.append,
)


@app.get("/hello")
async def hello(user: CurrentUser) -> str:
    return user.email


@app.middleware("http")
async def in_a_transaction(request, call_next):
    if "x-transaction" not in request.headers:
        return await call_next(request)
    async with in_transaction():
        return await call_next(request)
"""

CLUB = """
from fastapi import FastAPI
from fastapi_pluggable_auth import AuthSettings, include_auth
from members import Member

club = FastAPI()
own = AuthSettings(_env_file=None, jwt_secret="q5Zs8NfB2yXk7VtJ1mRw4Hd9GcPe3LuT")
include_auth(club, settings=own, user_model=Member)
"""

MEMBERS = """
from tortoise import fields
from fastapi_pluggable_auth.models import AbstractUser, UsernameField, tables_for


class Member(AbstractUser):
    username = UsernameField()
    city = fields.CharField(max_length=80, default="")

    class Meta:
        table = "user"


__models__ = [*tables_for(Member)]
"""

CONFTEST = """
import pytest
from shop import app
from fastapi_pluggable_auth.testing import AuthClient, UserFactory

pytest_plugins = ["fastapi_pluggable_auth.testing"]


@pytest.fixture
def auth_app():
    return app


@pytest.fixture(autouse=True)
def nothing_was_out_of_reach(caplog):
    yield
    told = [record for record in caplog.get_records("call") if record.levelname != "INFO"]
    assert {record.name for record in told} <= {"fastapi_pluggable_auth.security"}  # refusals
"""

PROJECT = {"shop.py": SHOP, "club.py": CLUB, "members.py": MEMBERS, "conftest.py": CONFTEST}

LEFTOVERS = """
from datetime import UTC, datetime, timedelta
import pytest
import shop
from fastapi_pluggable_auth import SecurityEvent
from fastapi_pluggable_auth.hooks import Event
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.security.clock import utc_now

before = shop.auth.settings.model_dump()
limiter = shop.auth.limiter


@pytest.mark.asyncio
@pytest.mark.parametrize("turn", range(2))
async def test_each_test_begins_anew(
    turn, auth_client, user_factory, mailbox, auth_clock, auth_settings, pluggable_auth
):
    assert (await User.all().count(), len(mailbox.mails)) == (0, 0)
    assert abs(auth_clock() - datetime.now(UTC)) < timedelta(minutes=1)
    assert auth_settings.totp_issuer == "MyApp"
    assert auth_settings.trusted_origins == ["https://www.example.com"]
    assert pluggable_auth.events.listeners == []
    assert pluggable_auth.hooks.handlers == []
    assert "Authorization" not in auth_client.headers
    user = await user_factory("ada@example.com")
    login = {"email": user.email, "password": "correct horse battery"}
    for status in (200, 200, 429):
        assert (await auth_client.post("/auth/login", json=login)).status_code == status
    await auth_client.post("/auth/forgot-password", json={"email": user.email})
    assert len(mailbox.mails) == 1
    await auth_client.sign_in(user)
    auth_clock.advance(days=400)
    auth_settings.totp_issuer = "Another"
    auth_settings.trusted_origins.append("https://evil.example.com")
    pluggable_auth.on(SecurityEvent)(print)
    pluggable_auth.on(Event)(print)


def test_the_app_is_as_it_was():
    assert shop.auth.settings.model_dump() == before
    assert before["bcrypt_rounds"] == 12
    assert shop.auth.clock is utc_now
    assert shop.auth.limiter is limiter
    assert shop.auth.mailer.given_provider is None
    assert shop.auth.dispatcher.send_email == shop.handed_over.append
    assert shop.handed_over == []
"""

FIXTURES = """
import pytest
from fastapi_pluggable_auth.email.sender import send_email_async
from fastapi_pluggable_auth.models import Session
from fastapi_pluggable_auth.testing import PASSWORD

pytestmark = pytest.mark.asyncio


async def log_in(auth_client, user, **more):
    return await auth_client.post("/auth/login", json={"email": user.email, "password": PASSWORD, **more})


async def test_a_user_is_signed_in_without_a_login(auth_client, user_factory):
    assert (await auth_client.get("/hello")).status_code == 401
    ada, bob = await user_factory(verified=False), await user_factory(two_factor=True)
    assert ada.email != bob.email
    for user in (ada, bob):
        tokens = await auth_client.sign_in(user)
        assert (await auth_client.get("/hello")).json() == user.email
        (session,) = (await auth_client.get("/account/sessions")).json()
        assert session["id"] == str(tokens.session_id)
    refreshed = await auth_client.post("/auth/refresh", json={"token": tokens.refresh_token})
    assert refreshed.status_code == 200


async def test_users_are_in_the_state_that_is_asked_for(auth_client, user_factory):
    assert (await log_in(auth_client, await user_factory("Ada@Example.com"))).status_code == 200
    refused = await log_in(auth_client, await user_factory(verified=False))
    assert refused.json()["code"] == "email_not_verified"


async def test_users_have_any_column_and_password(auth_client, user_factory):
    user = await user_factory(password="tall giraffe river", is_active=False, display_name="Ada")
    assert (user.display_name, user.is_active) == ("Ada", False)
    assert user.hashed_password.startswith("$2b$04$")
    assert (await log_in(auth_client, user, password="tall giraffe river")).status_code == 401
    user.is_active = True
    await user.save()
    assert (await log_in(auth_client, user, password="tall giraffe river")).status_code == 200


async def test_codes_are_those_of_the_moved_clock(auth_client, user_factory, auth_clock):
    user = await user_factory(two_factor=True)
    assert user.two_factor_active
    assert len(user.totp_secret) == 32
    assert (await log_in(auth_client, user)).json()["code"] == "two_factor_required"
    auth_clock.advance(days=100)
    assert (await log_in(auth_client, user, code=auth_client.code(user))).status_code == 200


async def test_a_secret_is_sealed_with_the_key_of_the_app(user_factory, auth_database):
    await user_factory(two_factor=True)
    db = auth_database.db()
    table = "`user`" if db.capabilities.dialect == "mysql" else '"user"'
    (row,) = await db.execute_query_dict(f"SELECT totp_secret FROM {table}")
    assert row["totp_secret"].startswith("aes256gcm.")


async def test_links_of_mails_are_opened(auth_client, mailbox):
    account = {"email": "ada@example.com", "password": "tall giraffe river"}
    assert (await auth_client.post("/auth/signup", json=account)).status_code == 201
    assert mailbox.mails[-1].to == "ada@example.com"
    assert mailbox.link("ada@example.com").startswith("https://shop.example.com/api/auth/verify/")
    assert (await auth_client.get(mailbox.link("ada@example.com"))).status_code == 200
    await auth_client.post("/auth/forgot-password", json={"email": "ada@example.com"})
    assert "/reset-password/" in mailbox.link("ada@example.com")
    with pytest.raises(LookupError, match="mails went to ada@example.com"):
        mailbox.link("bob@example.com")
    with pytest.raises(ValueError, match="no code"):
        mailbox.code("ada@example.com")
    mailbox.clear()
    with pytest.raises(LookupError, match="nobody"):
        mailbox.link("ada@example.com")


async def test_the_own_mails_of_the_app_come_too(pluggable_auth, mailbox):
    await send_email_async("ada@example.com", "Hi", "verify", email="", url="", lifetime="")
    assert mailbox.newest("ada@example.com").subject == "Hi"


async def test_time_ends_sessions(auth_client, user_factory, auth_clock):
    await auth_client.sign_in(await user_factory())
    auth_clock.advance(minutes=14)
    assert (await auth_client.get("/hello")).status_code == 200
    auth_clock.advance(minutes=2)
    assert (await auth_client.get("/hello")).status_code == 401


async def test_time_ends_links(auth_client, user_factory, mailbox, auth_clock):
    user = await user_factory(verified=False)
    await auth_client.post("/auth/verify/resend", json={"email": user.email})
    auth_clock.advance(hours=25)
    assert (await auth_client.get(mailbox.link(user.email))).status_code == 400


async def test_settings_take_effect(auth_client, user_factory, auth_settings):
    auth_settings.require_verified_email = False
    assert (await log_in(auth_client, await user_factory(verified=False))).status_code == 200
"""

SECOND_APP = """
import pytest
from club import club
from members import Member
from fastapi_pluggable_auth.testing import AuthClient, UserFactory, under_test

pytestmark = pytest.mark.asyncio


@pytest.fixture
def auth_app():
    return club


@pytest.fixture
def auth_models():
    return {"models": ["members"]}


async def test_users_are_those_of_the_second_app(auth_client, user_factory):
    user = await user_factory(city="London")
    assert (type(user), user.city) == (Member, "London")
    await auth_client.sign_in(user)
    assert (await auth_client.get("/auth/me")).json()["username"] == user.username
    assert (await auth_client.get("/hello")).status_code == 404


async def test_a_column_stands_above_the_default(user_factory):
    assert (await user_factory(username="Ada")).username == "ada"


async def test_two_apps_share_a_test(auth_client, user_factory, auth_clock, mailbox):
    from shop import app

    with under_test(app, auth_clock, mailbox):
        shop_client = AuthClient(app)
        address = {"email": "ada@example.com", "password": "tall giraffe river"}
        await auth_client.sign_in(await user_factory())
        assert (await shop_client.get("/auth/me")).status_code == 401
        assert (await auth_client.get("/auth/me")).status_code == 200
"""

TRANSACTIONS = """
import pytest

pytestmark = pytest.mark.asyncio


async def test_requests_have_transactions_of_their_own(auth_client):
    body = {"email": "nobody@example.com", "password": "wrong password"}
    for status in (401, 401, 429):
        answer = await auth_client.post("/auth/login", json=body, headers={"X-Transaction": "yes"})
        assert answer.status_code == status
"""

ALL_DATABASES = {
    "sqlite": "SELECT file FROM pragma_database_list",
    "postgres": "SELECT datname FROM pg_database WHERE datname LIKE current_database() || '%' ORDER BY 1",
    "mysql": "SELECT schema_name FROM information_schema.schemata"
    " WHERE schema_name LIKE concat(database(), '%') ORDER BY 1",
}

SMOKE = """
async def test_a_user_is_there(auth_client, user_factory, mailbox):
    await auth_client.sign_in(await user_factory())
    assert (await auth_client.get("/hello")).status_code == 200
    await auth_client.post("/auth/forgot-password", json={"email": "user1@example.com"})
    assert mailbox.link("user1@example.com")


async def test_no_user_is_left(auth_client, user_factory):
    from fastapi_pluggable_auth.models import User

    assert not await User.exists()
"""


def test_two_apps_are_tested_and_nothing_is_left(tmp_path: Path) -> None:
    tests = {
        "test_1_leftovers.py": LEFTOVERS,
        "test_2_fixtures.py": FIXTURES,
        "test_3_second_app.py": SECOND_APP,
        "test_4_leftovers.py": LEFTOVERS,
    }
    assert_passing(tmp_path, 3 + 10 + 3 + 3, PROJECT | tests)


@pytest.mark.parametrize("dialect", ["sqlite", "postgres", pytest.param("mysql", marks=pytest.mark.full)])
def test_it_works_on_each_database_and_leaves_none_behind(dialect: str, tmp_path: Path) -> None:
    if dialect != "sqlite" and not databases.answers(dialect):
        pytest.skip(f"no {dialect} server answers")
    spare = SpareDatabase(dialect, databases.spare(dialect, tmp_path))
    asyncio.run(spare.create())
    before = asyncio.run(spare.query(ALL_DATABASES[dialect]))
    chosen = f"\n\n@pytest.fixture\ndef auth_database_url():\n    return {spare.url + '_{}'!r}\n"
    tests = {"test_1.py": FIXTURES, "test_2.py": SECOND_APP, "test_3.py": TRANSACTIONS}
    assert_passing(tmp_path, 10 + 3 + 1, PROJECT | tests | {"conftest.py": CONFTEST + chosen})
    assert asyncio.run(spare.query(ALL_DATABASES[dialect])) == before
    assert not list(tmp_path.glob("*.sqlite3_*"))


def test_a_database_that_is_not_for_tests_alone_is_left_alone(tmp_path: Path) -> None:
    database = tmp_path / "app.sqlite3"
    database.write_bytes(b"")
    chosen = f"\n\n@pytest.fixture\ndef auth_database_url():\n    return 'sqlite://{database}'\n"
    for name, text in (PROJECT | {"conftest.py": CONFTEST + chosen, "test_smoke.py": SMOKE}).items():
        (tmp_path / name).write_text(text)
    told = run_pytest(tmp_path, "-o", "asyncio_mode=auto")
    assert "`auth_database_url` needs {} in the name" in told
    assert "2 errors" in told
    assert database.exists()


def test_it_works_in_the_auto_mode_of_pytest_asyncio(tmp_path: Path) -> None:
    files = PROJECT | {"test_smoke.py": SMOKE, "pytest.ini": STRICT + "asyncio_mode = auto\n"}
    assert_passing(tmp_path, 2, files)


def test_it_works_with_the_plugin_of_anyio(tmp_path: Path) -> None:
    backend = "\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    smoke = "import pytest\n\npytestmark = pytest.mark.anyio\n" + SMOKE
    ini = "\n".join(line for line in STRICT.splitlines() if "asyncio" not in line)
    files = PROJECT | {"test_smoke.py": smoke, "pytest.ini": ini, "conftest.py": CONFTEST + backend}
    assert_passing(tmp_path, 2, files, "-p", "no:asyncio")


def test_a_forgotten_app_is_told(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(STRICT + "asyncio_mode = auto\n")
    (tmp_path / "test_smoke.py").write_text(SMOKE)
    told = run_pytest(tmp_path, "-p", "fastapi_pluggable_auth.testing")
    assert "Override the fixture `auth_app`" in told
    assert "2 errors" in told


@pytest.mark.parametrize("module", ["fastapi_pluggable_auth", "fastapi_pluggable_auth.cli"])
def test_an_app_imports_no_pytest(module: str) -> None:
    code = f"import sys, {module}; sys.exit('pytest' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
