"""A host's own user model, with columns and bodies of its own and logins by username; on each database."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx
import pyotp
import pytest
from fastapi import Depends, FastAPI
from pydantic import Field
from tortoise import fields
from tortoise.context import TortoiseContext
from tortoise.contrib.fastapi import RegisterTortoise
from tortoise.exceptions import IntegrityError

from fastapi_pluggable_auth import Auth, AuthSettings, get_current_user, include_auth
from fastapi_pluggable_auth.flows.columns import column_values
from fastapi_pluggable_auth.models import AbstractUser, RecoveryCode, Tables, tables_for
from fastapi_pluggable_auth.schemas import NotStored, ProfileUpdate, UserCreate, Username, UserOut
from fastapi_pluggable_auth.security.usernames import normalise_username

from . import databases, own_tables
from .conftest import EMAIL, PASSWORD, Clock, Mailbox, on_one_spare
from .form_browser import BROWSER, FormBrowser
from .own_tables import Company, User
from .smtp_server import text_of
from .spare_database import SpareDatabase

BOB = "bob@example.com"


class NewUser(UserCreate):
    username: Username
    phone: str | None = None
    city: str = ""
    level: int = 1
    company_id: int | None = None
    accepts_terms: Annotated[bool, NotStored] = True


class Profile(ProfileUpdate):
    username: Username | None = None
    phone: str | None = None
    city: str | None = None
    level: int | None = None


class Me(UserOut):
    username: str
    phone: str | None
    city: str
    level: int
    plan: str
    joined_at: datetime
    is_staff: bool


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    """A host app with its own user."""
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        user_model=User,
        user_out=Me,
        user_create=NewUser,
        profile_update=Profile,
        clock=clock,
    )

    @app.get("/city")
    async def city(user: Annotated[User, Depends(get_current_user)]) -> str:
        return user.city

    return app


@pytest.fixture
async def client(app: FastAPI, spare: SpareDatabase, mailbox: Mailbox) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, on a database without the package's own models."""
    await databases.create(spare.url, spare.dialect, own_tables.__name__, "shop")
    transport = httpx.ASGITransport(app)
    async with TortoiseContext() as context:
        await context.init(databases.config(spare.url, f"{spare.dialect} own", "shop", own_tables.__name__))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield client
        await app.state.pluggable_auth.close()


async def send(
    client: httpx.AsyncClient, method: str, path: str, body: object, headers: dict[str, str] | None = None
) -> httpx.Response:
    """JSON in ASCII, which can hold what is no Unicode text."""
    headers = {"Content-Type": "application/json", **(headers or {})}
    return await client.request(method, path, content=json.dumps(body), headers=headers)


async def sign_up(client: httpx.AsyncClient, **body: object) -> httpx.Response:
    return await send(
        client, "POST", "/auth/signup", {"email": EMAIL, "password": PASSWORD, "username": "ada"} | body
    )


async def log_in(client: httpx.AsyncClient, name: object = "ada", password: str = PASSWORD) -> httpx.Response:
    return await send(client, "POST", "/auth/login", {"email": name, "password": password})


async def patch(client: httpx.AsyncClient, headers: dict[str, str], **changes: object) -> httpx.Response:
    return await send(client, "PATCH", "/account", changes, headers=headers)


@pytest.fixture
async def ada(client: httpx.AsyncClient, mailbox: Mailbox) -> dict[str, str]:
    """Signs up, verifies and logs in; gives the header."""
    assert (await sign_up(client, city="London", phone="1")).status_code == 201
    assert (await client.get(mailbox.link())).status_code == 200
    return {"Authorization": f"Bearer {(await log_in(client)).json()['access_token']}"}


async def test_every_flow_works_on_the_tables_of_the_host(
    client: httpx.AsyncClient, ada: dict[str, str], mailbox: Mailbox, app: FastAPI
) -> None:
    assert (await client.get("/city", headers=ada)).json() == "London"
    pair = (await log_in(client, EMAIL)).json()
    pair = (await client.post("/auth/refresh", json={"token": pair["refresh_token"]})).json()
    assert len((await client.get("/account/sessions", headers=ada)).json()) == 2
    assert (await client.post("/account/logout-others", headers=ada)).status_code == 204
    enrolment = (await client.post("/auth/2fa/enable", headers=ada)).json()
    code = {"code": pyotp.parse_uri(enrolment["otpauth_uri"]).now()}  # type: ignore[attr-defined]
    assert (await client.post("/auth/2fa/verify", headers=ada, json=code)).status_code == 200
    assert (await log_in(client)).json()["code"] == "two_factor_required"
    codes = (await client.post("/auth/2fa/recovery-codes", headers=ada)).json()["codes"]
    login = {"email": "ADA", "password": PASSWORD, "code": codes[0]}
    assert (await client.post("/auth/login", json=login)).status_code == 200
    await client.post("/auth/forgot-password", json={"email": EMAIL})
    body = {"new_password": "another good one"}
    assert (await client.post(mailbox.link(), json=body)).status_code == 200
    login |= {"password": "another good one", "code": codes[1]}
    again = {
        "Authorization": f"Bearer {(await client.post('/auth/login', json=login)).json()['access_token']}"
    }
    assert (await client.delete("/account", headers=again)).status_code == 204
    auth: Auth = app.state.pluggable_auth
    assert await auth.tables.mail.exclude(user_id=None).count() == 0
    for table in (User, auth.tables.session, auth.tables.refresh_token, auth.tables.of(RecoveryCode)):
        assert await table.all().count() == 0


async def test_own_fields_are_stored_shown_and_changed(
    client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    """A-31."""
    company = await Company.create(name="Analytical Engines")
    answer = await sign_up(client, email=BOB, username="Bob", level=2, company_id=company.id)
    shown = answer.json()
    assert {name: shown[name] for name in ("username", "phone", "city", "level", "plan", "is_staff")} == {
        "username": "bob",
        "phone": None,
        "city": "",
        "level": 2,
        "plan": "free",
        "is_staff": False,
    }
    assert (await User.get(username="BOB").prefetch_related("company")).company == company
    changed = await patch(client, ada, city="Paris", phone=None, level=3)
    assert changed.status_code == 200
    kept = await User.get(username="ada")
    assert (kept.city, kept.phone, kept.level) == ("Paris", None, 3)
    assert changed.json() == (await client.get("/auth/me", headers=ada)).json()
    assert changed.json()["city"] == "Paris"


@on_one_spare
async def test_no_field_can_be_set_that_the_body_does_not_name(
    client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    """A-31."""
    before = dict(await User.get())
    for field in ("is_staff", "plan", "is_active", "is_verified", "id", "hashed_password"):
        value = {field: True}
        assert (await sign_up(client, email=BOB, username="bob", **value)).status_code == 422
        changes = {"city": "Paris", **value}
        assert (await patch(client, ada, **changes)).status_code == 422
    assert dict(await User.get()) == before


async def test_a_user_logs_in_by_username_or_address_in_any_case(
    client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    for name in ("ada", "ADA", "Ada", "\uff41\uff44\uff41", EMAIL, EMAIL.upper()):
        assert (await log_in(client, name)).status_code == 200, name
        form = {"username": name, "password": PASSWORD}  # behind "Authorize" of /docs
        assert (await client.post("/auth/docs-login", data=form)).status_code == 200, name


@on_one_spare
async def test_a_login_that_fails_does_not_tell_whether_there_is_such_a_username(
    client: httpx.AsyncClient, ada: dict[str, str], settings: AuthSettings
) -> None:
    settings.throttle_free_attempts = 3
    assert (await sign_up(client, email=BOB, username="bob")).status_code == 201
    answers: dict[str, list[tuple[int, bytes]]] = {}
    for name in ("ada", "nobody", BOB, "nobody@example.com"):
        responses = [await log_in(client, name, "wrong password") for _ in range(5)]
        answers[name] = [(response.status_code, response.content) for response in responses]
        await asyncio.sleep(0)
    assert len({tuple(said) for said in answers.values()}) == 1
    assert [status for status, _ in answers["ada"]] == [401, 401, 401, 429, 429]
    # And so with any other spelling or name of the account, or there would be guesses for each.
    for name in ("ADA", "\uff41\uff44\uff41", EMAIL, EMAIL.upper(), EMAIL.replace("@", "\uff20")):
        assert (await log_in(client, name)).status_code == 429, name


@pytest.mark.parametrize("name", ["ada", "ada\uff20example.com", EMAIL])
async def test_blanks_behind_a_name_make_no_other_name_of_the_account(
    name: str, client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    """MariaDB takes them for equal: each number of blanks had guesses of its own. An address is cut to
    the same name, and a username is wrong with them."""
    for blanks in (" ", " " * 7, "\u3000"):
        answer = await log_in(client, name + blanks)
        assert answer.status_code in ((401, 422) if name == "ada" else (200,)), answer.text


async def test_a_username_is_one_account_in_every_spelling(
    client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    for name in ("ada", "ADA", "\uff41\uff44\uff41"):
        answer = await sign_up(client, email=BOB, username=name)
        assert (answer.status_code, answer.json()["code"]) == (400, "username_taken")
    assert (await sign_up(client, email=BOB, username="bob")).status_code == 201
    answer = await patch(client, ada, username="Bob", city="Paris")
    assert (answer.status_code, answer.json()["code"]) == (400, "username_taken")
    assert (await User.get(username="ada")).city == "London"
    same = await patch(client, ada, username="Ada")
    assert (same.status_code, same.json()["username"]) == (200, "ada")
    renamed = await patch(client, ada, username="Countess")
    assert renamed.json()["username"] == "countess"
    assert (await log_in(client, "ada")).status_code == 401
    assert (await log_in(client, "countess")).status_code == 200


async def test_of_many_who_want_a_username_at_once_one_gets_it(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(
        *(sign_up(client, email=f"{number}@example.com", username="Ada") for number in range(6))
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 400: 5}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 400} == {"username_taken"}
    assert await User.all().count() == 1


NO_USERNAMES = (
    "",
    " ",
    "a b",
    "a@b",
    "a\n",
    "a\0",
    "\ud800",
    "x" * 65,
    "\ufdfa" * 20,
    "x" * 33,
    "a/b",
    5,
    [],
)


@on_one_spare
async def test_what_is_no_username_is_refused(client: httpx.AsyncClient, ada: dict[str, str]) -> None:
    """R-43, R-44."""
    for name in NO_USERNAMES:
        answer = await sign_up(client, email=BOB, username=name)
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error"), name
        assert isinstance(answer.json()["detail"], list)
        assert (await patch(client, ada, username=name)).status_code == 422, name
        assert (await log_in(client, name)).status_code in (401, 422), name
    assert (await User.get()).username == "ada"


@pytest.mark.parametrize("name", ["a", "\u674e", "x" * 64])
def test_a_username_has_one_to_sixty_four_characters(name: str) -> None:
    assert normalise_username(name) == name
    for other in ("", "x" * 65):
        with pytest.raises(ValueError, match="length"):
            normalise_username(other)


def test_what_is_related_to_a_user_is_no_column_of_it(auth: Auth) -> None:
    related = own_tables.User._meta.fk_fields
    assert related == {"company"}
    assert column_values(auth, dict.fromkeys(related)) == {}


UNFIT = (
    ({"city": "x" * 11}, 422, "validation_error"),
    ({"city": "a\0"}, 422, "validation_error"),
    ({"city": "\ud800"}, 422, "validation_error"),
    ({"level": 2**31}, 422, "validation_error"),
    ({"level": -(2**63)}, 422, "validation_error"),
    ({"phone": "1"}, 400, "value_refused"),
    ({"company_id": 12345}, 400, "value_refused"),
    ({"company_id": 2**40}, 422, "validation_error"),
)


async def test_a_value_that_cannot_be_stored_is_refused_whoever_owns_the_address(
    client: httpx.AsyncClient, ada: dict[str, str], settings: AuthSettings
) -> None:
    """R-43, R-44."""
    settings.prevent_enumeration = True
    await Company.create(name="Analytical Engines")  # which no value refers to
    for values, status, code in UNFIT:
        if values == {"phone": "1"}:  # which tells what another signup made: only a mail says so
            continue
        fresh = await sign_up(client, email=BOB, username="bob", **values)
        taken = await sign_up(client, email=EMAIL, username="bob", **values)
        assert (fresh.status_code, fresh.json()["code"]) == (status, code), values
        assert (taken.status_code, taken.content) == (fresh.status_code, fresh.content), values
        if values.keys() <= {"city", "level"}:
            assert (await patch(client, ada, **values)).status_code == status
    assert await User.all().count() == 1


async def test_a_profile_never_takes_what_another_account_has(
    client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    await sign_up(client, email=BOB, username="bob", phone="2")
    answer = await patch(client, ada, phone="2")
    assert (answer.status_code, answer.json()["code"]) == (400, "value_refused")
    assert (await patch(client, ada, phone="1")).status_code == 200


@on_one_spare
async def test_null_changes_nothing_where_a_column_cannot_be_empty(
    client: httpx.AsyncClient, ada: dict[str, str]
) -> None:
    answer = await patch(client, ada, username=None, city=None, level=None)
    assert (answer.status_code, answer.json()["city"]) == (200, "London")


@on_one_spare
async def test_a_taken_address_looks_like_any_other_where_enumeration_is_prevented(
    client: httpx.AsyncClient, ada: dict[str, str], settings: AuthSettings
) -> None:
    settings.prevent_enumeration = True
    taken = await sign_up(client, email=EMAIL, username="bob")
    fresh = await sign_up(client, email=BOB, username="bob")
    assert (taken.status_code, fresh.status_code) == (201, 201)
    differ = {name for name, value in fresh.json().items() if taken.json()[name] != value}
    assert differ == {"id", "email", "joined_at"}


@pytest.mark.parametrize("clash", [{"username": "bob"}, {"username": "carol", "phone": "7"}])
async def test_only_the_mailbox_of_a_signup_learns_that_a_value_is_taken(
    clash: dict[str, str],
    client: httpx.AsyncClient,
    ada: dict[str, str],
    settings: AuthSettings,
    mailbox: Mailbox,
) -> None:
    """A-19: a username that was free before a signup would tell whether that signup made an account."""
    settings.prevent_enumeration = True
    assert (await sign_up(client, email=BOB, username="bob", phone="7")).status_code == 201
    count = await User.all().count()
    mailbox.clear()
    for email in ("eve@example.com", EMAIL):
        clashing = await sign_up(client, email=email, **clash)
        fresh = await sign_up(client, email=f"x{email}", username=f"x{email[0]}", phone=f"8{email[0]}")
        assert (clashing.status_code, clashing.json().keys()) == (201, fresh.json().keys())
        assert clashing.headers.keys() == fresh.headers.keys()
    assert await User.all().count() == count + 2
    told = {mail["To"]: mail for mail in mailbox.messages if not str(mail["To"]).startswith("x")}
    wanted = "phone" if "phone" in clash else "username"
    assert f"the {wanted} you chose is taken" in text_of(told["eve@example.com"])
    assert "already have an account" in str(told[EMAIL]["Subject"])
    body = {"email": "eve@example.com", "password": PASSWORD}
    assert (await client.post("/auth/login", json=body)).json()["code"] == "invalid_credentials"
    # With another one the same mailbox signs up.
    await sign_up(client, email="eve@example.com", username="eve")
    assert await User.filter(email="eve@example.com").count() == 1


async def test_of_signups_at_once_with_one_username_one_gets_it_and_none_is_told(
    client: httpx.AsyncClient, ada: dict[str, str], settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.prevent_enumeration = True
    mailbox.clear()
    many = (sign_up(client, email=f"e{number}@example.com", username="one") for number in range(8))
    assert {answer.status_code for answer in await asyncio.gather(*many)} == {201}
    assert await User.filter(username="one").count() == 1
    assert sorted("not complete" in str(mail["Subject"]) for mail in mailbox.messages) == [False, *[True] * 7]


async def test_two_apps_in_one_process_have_bodies_of_their_own(app: FastAPI, settings: AuthSettings) -> None:
    plain, own = FastAPI(), app
    include_auth(plain, settings=settings)

    def properties(app: FastAPI, path: str, method: str = "post") -> set[str]:
        document = app.openapi()
        operation = document["paths"][path][method]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        return set(document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["properties"])

    assert properties(plain, "/auth/signup") == {"email", "password", "mailed_code"}
    assert properties(own, "/auth/signup") == {*NewUser.model_fields, "mailed_code"}
    assert properties(plain, "/account", "patch") == {"email", "display_name", "mailed_code"}
    assert properties(own, "/account", "patch") == {*Profile.model_fields, "mailed_code"}
    assert "Me" in own.openapi()["components"]["schemas"]
    assert "Auth-UserOut" not in own.openapi()["components"]["schemas"]
    assert "Me" not in plain.openapi()["components"]["schemas"]
    assert own.openapi()["paths"].keys() - {"/city"} == plain.openapi()["paths"].keys()


async def test_a_model_with_a_username_brings_bodies_with_one(settings: AuthSettings) -> None:
    class Named(AbstractUser):
        username = fields.CharField(max_length=20, unique=True)

    app = FastAPI()
    include_auth(app, settings=settings, user_model=Named)
    schemas = app.openapi()["components"]["schemas"]
    assert set(schemas["Auth-NamedUserCreate"]["properties"]) == {
        "email",
        "password",
        "username",
        "mailed_code",
    }
    assert "username" in schemas["Auth-NamedUserOut"]["properties"]


def test_a_set_up_that_could_never_store_a_user_is_refused(settings: AuthSettings) -> None:
    class Needy(AbstractUser):
        tax_number = fields.CharField(max_length=20)
        tenant = fields.ForeignKeyField("shop.Company")

    class Ambiguous(AbstractUser):
        username = fields.CharField(max_length=20)

    class Crowned(AbstractUser):
        roles = fields.CharField(max_length=20, default="king")

    class Open(UserCreate):
        hashed_password: str = ""

    class Loose(ProfileUpdate):
        totp_confirmed: bool = False

    class Complete(UserCreate):
        tax_number: Annotated[str, Field(max_length=20)]
        tenant_id: int

    def include(**options: Any) -> None:
        include_auth(FastAPI(), settings=settings, **options)

    with pytest.raises(ValueError, match="Needy needs a value for tax_number, tenant: give"):
        include(user_model=Needy)
    with pytest.raises(ValueError, match=r"Ambiguous\.username must be unique"):
        include(user_model=Ambiguous)
    with pytest.raises(
        ValueError, match=r"Crowned\.roles is a column of the package and must stay NamesField"
    ):
        include(user_model=Crowned)
    with pytest.raises(ValueError, match="Open must not name hashed_password"):
        include(user_create=Open)
    with pytest.raises(ValueError, match="Loose must not name totp_confirmed"):
        include(profile_update=Loose)
    include(user_model=Needy, user_create=Complete)


async def test_a_start_without_the_tables_of_the_user_says_what_to_list(
    settings: AuthSettings, tmp_path: Path
) -> None:
    """R-51."""

    class Lone(AbstractUser):
        pass

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models = {"models": ["fastapi_pluggable_auth.models"]}
        async with RegisterTortoise(app, db_url=f"sqlite://{tmp_path / 'app.sqlite3'}", modules=models):
            yield

    app = FastAPI(lifespan=lifespan)
    include_auth(app, settings=settings, user_model=Lone)
    with pytest.raises(RuntimeError, match=r"does not know Lone, AuthSession.*tables_for"):
        async with app.router.lifespan_context(app):
            pass


def test_every_table_of_the_package_has_its_like_for_the_user_of_a_host() -> None:
    shipped, own = Tables(), tables_for(User)
    assert tables_for(User) is own
    assert own.user is User
    for model, like in zip(list(shipped)[1:], list(own)[1:], strict=True):
        assert like.__name__ == f"Auth{model.__name__}"
        assert like.__module__ == User.__module__
        assert like._meta.fk_fields == model._meta.fk_fields
        assert like.__bases__ == model.__bases__


PLAIN = """
from tortoise import fields

from fastapi_pluggable_auth.models import AbstractUser, UsernameField, tables_for


class User(AbstractUser):
    ...


__models__ = [*tables_for(User)]
"""
COLUMNS = """username = UsernameField(null=True)
    city = fields.CharField(max_length=80, default="", db_default="Paris")"""


@on_one_spare
def test_an_app_on_the_tables_of_the_package_goes_over_to_its_own(
    spare: SpareDatabase, tmp_path: Path
) -> None:
    asyncio.run(spare.create())
    asyncio.run(spare.migrate())
    columns = "id, email, hashed_password, is_active, is_verified, created_at"

    def add(email: str, more: str = "", value: str = "") -> None:
        values = f"'{uuid4()}', '{email}', 'x', TRUE, TRUE, '2026-01-01 00:00:00'{value}"
        insert = f"INSERT INTO {spare.quoted('user')} ({columns}{more}) VALUES ({values})"
        asyncio.run(spare.query(insert))

    add(EMAIL)
    apps = {"shop": {"models": ["shop"], "migrations": "migrations", "default_connection": "default"}}
    config = {"connections": {"default": spare.url}, "apps": apps}
    (tmp_path / "settings.py").write_text(f"TORTOISE_ORM = {config!r}")

    def tortoise(*command: str) -> str:
        whole = [sys.executable, "-m", "tortoise", "-c", "settings.TORTOISE_ORM", *command]
        result = subprocess.run(whole, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout

    (tmp_path / "shop.py").write_text(PLAIN)
    tortoise("makemigrations")
    tortoise("migrate", "--fake")
    (tmp_path / "shop.py").write_text(PLAIN.replace("...", COLUMNS))
    tortoise("makemigrations")
    tortoise("migrate")
    assert "No changes" in tortoise("makemigrations")
    (user,) = asyncio.run(spare.query(f"SELECT * FROM {spare.quoted('user')}"))
    assert (user["email"], user["username"], user["city"]) == (EMAIL, None, "Paris")
    add(BOB, ", username", ", 'bob'")
    with pytest.raises(IntegrityError):
        add("other@example.com", ", username", ", 'bob'")


@on_one_spare
async def test_the_pages_ask_for_a_username_and_take_it_for_signing_in(
    settings: AuthSettings, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    app = FastAPI()
    settings.public_base_url = "http://testserver"
    include_auth(app, settings=settings, user_model=User, pages=True)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://testserver", headers=BROWSER
    ) as browser:
        visitor = FormBrowser(browser)
        account = {"email": EMAIL, "new_password": PASSWORD}
        for username, refusal in (("", 422), ("a@b", 422), ("x" * 65, 422), ("Ada", 200)):
            page = await visitor.open("/account/sign-up")
            page = await visitor.submit("sign-up", username=username, **account)
            assert page.status == refusal, page.text
        await visitor.open("/account/sign-up")
        page = await visitor.submit("sign-up", **account | {"email": BOB}, username="ADA")
        assert page.status == 400
        assert "This username is taken" in page.text
        await User.all().update(is_verified=True)
        await visitor.open("/account/sign-in")
        page = await visitor.submit("sign-in", email="aDa", password=PASSWORD)
        assert page.path == "/account/profile"
    await app.state.pluggable_auth.close()
