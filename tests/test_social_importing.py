"""Identities come along with imported users, and lead into their accounts."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from fastapi_users_db_sqlalchemy import SQLAlchemyBaseOAuthAccountTableUUID, SQLAlchemyBaseUserTableUUID
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Session
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.features import GitHub, Microsoft, Oidc, SocialLogin
from fastapi_pluggable_auth.features.administration.importing import Batch, import_users
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.models import Identity, Mail, User

from . import databases
from .conftest import EMAIL, PASSWORD, SECRET, SQLITE_UNLESS_FULL, Clock, on_each_database
from .snippets import snippets

DIALECTS = SQLITE_UNLESS_FULL

KIM = "kim@example.com"
PAGE = (Path(__file__).parent.parent / "docs" / "social-login.md").read_text("utf-8")


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider().serving() as provider:
        yield provider


@pytest.fixture
def app(settings: AuthSettings, clock: Clock, provider: IdentityProvider) -> FastAPI:
    app = FastAPI()
    provider.clock = lambda: clock().timestamp()
    acme = Oidc("acme", issuer=provider.issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    shared = Microsoft(client_id="x", client_secret="x")
    social = SocialLogin(acme, GitHub(client_id="x", client_secret="x"), shared)
    include_auth(app, settings=settings, clock=clock, features=[social])
    return app


@pytest.fixture
def auth(auth: Auth, tortoise: TortoiseContext) -> Auth:
    """With the tables."""
    return auth


def written(*rows: dict[str, object]) -> list[str]:
    """As a file has them."""
    text = io.StringIO()
    names = {"email": None} | dict.fromkeys(name for row in rows for name in row)
    file = csv.DictWriter(text, [*names])
    file.writeheader()
    for row in rows:
        said = row.get("identities")
        file.writerow({**row, "identities": json.dumps(said) if isinstance(said, list | dict) else said})
    return text.getvalue().splitlines(keepends=True)


async def load(auth: Auth, *rows: dict[str, object], batch: int = 500) -> Batch:
    """What became of them, all in all."""
    total = Batch()
    async for done in import_users(auth, written(*rows), batch=batch):
        total.imported += done.imported
        total.skipped += done.skipped
        total.refused += done.refused
    return total


def at(subject: str, provider: str = "acme", **more: object) -> list[dict[str, object]]:
    return [{"provider": provider, "subject": subject, **more}]


async def sign_in(client: httpx.AsyncClient, provider: IdentityProvider, **claims: object) -> httpx.Response:
    """At the provider, as a native app does."""
    nonce = (await client.post("/auth/social/acme/nonce")).json()["nonce"]
    provider.claims = {**claims}
    body = {"id_token": provider.id_token(nonce), "nonce": nonce}
    return await client.post("/auth/social/acme/token", json=body)


@on_each_database
async def test_a_user_who_comes_with_an_identity_alone_signs_in_by_it(
    auth: Auth, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    user_id = uuid4()
    kim = {
        "id": str(user_id),
        "email": KIM,
        "is_verified": "true",
        "identities": at("1184", email="Kim@Acme.com"),
    }
    lea = {"email": "lea@example.com", "is_verified": "true", "identities": [*at("7"), *at("42", "github")]}
    bob = {"email": "bob@example.com", "is_verified": "true"}
    done = await load(auth, kim, lea, bob)
    assert (done.imported, done.skipped, done.refused) == (3, 0, [])
    identity = await Identity.get(user_id=user_id)
    assert (identity.provider, identity.issuer, identity.subject) == ("acme", provider.issuer, "1184")
    assert (identity.email, identity.vouched, identity.last_used_at) == ("kim@acme.com", False, None)
    other = await Identity.get(provider="github")
    assert (other.issuer, other.subject) == ("https://github.com", "42")
    assert await Mail.all().count() == 0
    # The address there is another by now, of which nothing is said.
    answer = await sign_in(client, provider, sub="1184", email="kim@elsewhere.example")
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await client.get("/auth/me", headers=headers)).json()["id"] == str(user_id)
    refused = await client.post("/auth/login", json={"email": KIM, "password": PASSWORD})
    assert refused.status_code == 401, "there is no password"


async def test_the_address_of_an_import_leads_into_no_account(
    auth: Auth, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """Neither at the provider, nor in the file: an account that is here keeps its identities."""
    await load(auth, {"email": KIM, "is_verified": "true", "identities": at("1184", email=KIM)})
    assert (await sign_in(client, provider, sub="another", email=KIM)).json()["code"] == "sign_in_to_link"
    again = await load(auth, {"email": KIM, "is_verified": "true", "identities": at("of-a-stranger")})
    assert (again.imported, again.skipped) == (0, 1)
    assert await Identity.all().values_list("subject", flat=True) == ["1184"]


@on_each_database
async def test_an_identity_that_an_account_has_is_refused_with_its_row(auth: Auth) -> None:
    rows = [{"email": f"user{number}@example.com", "identities": at(str(number % 3))} for number in range(4)]
    done = await load(auth, *rows)
    (refusal,) = done.refused
    assert (done.imported, refusal.cells[0]) == (3, "user3@example.com")
    assert refusal.reason == "identities: that of acme is connected to another account"
    assert not await User.filter(email="user3@example.com").exists()
    again = await load(auth, *rows[:3], {"email": EMAIL, "identities": at("9")}, batch=2)
    assert (again.imported, again.skipped) == (1, 3), "an import goes on where it was interrupted"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (at("1", "boats"), "the app has no provider 'boats': name it in SocialLogin(...), and pass --app"),
        (at("1", "microsoft"), "microsoft has many issuers, of which the file names none: leave its"),
        (at("1") * 2, "the same one twice"),
        (at(""), "a subject is a text of 1 to 255 characters"),
        (at("x" * 256), "a subject is a text of 1 to 255 characters"),
        (at("\ud800"), "a subject is a text of 1 to 255 characters"),
        ([{"provider": "acme", "subject": None}], "a subject is a text"),
        ([{"provider": ["acme"], "subject": "1"}], "the app has no provider ['acme']"),
        ([{"provider": "acme"}], "not a JSON list of objects"),
        (at("1", access_token="ya29.secret"), "not a JSON list of objects"),
        (at("1")[0], "not a JSON list of objects"),
        ("acme:1", "not a JSON list of objects"),
        ("[" * 100_000, "not a JSON list of objects"),
        (["acme"], "not a JSON list of objects"),
    ],
)
async def test_what_names_no_identity_is_refused_and_stores_nothing(
    said: object, reason: str, auth: Auth
) -> None:
    """A token of the provider neither: what the old system was allowed there is not for this one."""
    done = await load(auth, {"email": KIM, "identities": said}, {"email": EMAIL})
    (refusal,) = done.refused
    assert refusal.reason.startswith(f"identities: {reason}")
    assert "ya29" not in refusal.reason
    assert (done.imported, await Identity.all().count()) == (1, 0)


async def test_a_provider_that_vouches_for_the_address_verifies_an_account_that_was_imported(
    auth: Auth, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    await load(auth, {"email": KIM, "identities": at("1184")})
    for claims in ({"email": KIM}, {"email": EMAIL, "email_verified": True}):
        refused = await sign_in(client, provider, sub="1184", **claims)
        assert (refused.status_code, refused.json()["code"]) == (401, "email_not_verified")
    assert (await sign_in(client, provider, sub="1184", email=KIM, email_verified=True)).status_code == 200
    assert (await User.get()).is_verified
    assert await Identity.all().count() == 1


async def test_a_password_that_a_stranger_may_have_chosen_goes_when_the_provider_vouches_for_the_address(
    auth: Auth, client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    """Pre-hijacking (Sudhodanan and Paverd, USENIX Security 2022): an account that was never verified had a
    password before its owner came by a provider."""
    hashed = await auth.hasher.hash(PASSWORD)
    await load(
        auth, {"email": KIM, "hashed_password": hashed, "identities": [*at("1184"), *at("evil", "github")]}
    )
    assert (await sign_in(client, provider, sub="1184", email=KIM, email_verified=True)).status_code == 200
    assert await Identity.all().values_list("subject", flat=True) == ["1184"]
    refused = await client.post("/auth/login", json={"email": KIM, "password": PASSWORD})
    assert refused.status_code == 401


async def test_the_column_is_one_of_apps_with_social_login(settings: AuthSettings) -> None:
    app = FastAPI()
    auth = include_auth(app, settings=settings)
    with pytest.raises(Exception, match="Users have no such columns, or they cannot be imported: identities"):
        await load(auth, {"email": KIM, "identities": at("1184")})


# The tables of others, by the scripts of the page


class Base(DeclarativeBase):
    pass


class OldUser(SQLAlchemyBaseUserTableUUID, Base):
    pass


class OldOAuthAccount(SQLAlchemyBaseOAuthAccountTableUUID, Base):
    pass


BCRYPT = "$2b$04$" + "a" * 21 + "u" + "a" * 31
IDS = {name: uuid4() for name in ("kim", "lea")}


def fastapi_users(file: Path) -> None:
    """By its own models (fastapi-users-db-sqlalchemy 7.0)."""
    engine = create_engine(f"sqlite:///{file}")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for name, user_id in IDS.items():
            email = f"{name}@example.com"
            session.add(OldUser(id=user_id, email=email, hashed_password=BCRYPT, is_verified=True))
        for name, account in (("google", "people/1184"), ("github", "42"), ("microsoft", "oid")):
            session.add(
                OldOAuthAccount(
                    user_id=IDS["kim"],
                    oauth_name=name,
                    account_id=account,
                    account_email="kim@gmail.example",
                    access_token="ya29.secret",
                    refresh_token="1//secret",
                )
            )
        session.commit()
    engine.dispose()


def allauth(file: Path) -> None:
    """As django-allauth 65 makes them (allauth/socialaccount/migrations, allauth/account/migrations), beside
    `auth_user` of Django 5."""
    with sqlite3.connect(file) as old:
        old.executescript(
            """
            CREATE TABLE auth_user (id integer PRIMARY KEY AUTOINCREMENT, password varchar(128) NOT NULL,
              last_login datetime NULL, is_superuser bool NOT NULL, username varchar(150) NOT NULL UNIQUE,
              last_name varchar(150) NOT NULL, email varchar(254) NOT NULL, is_staff bool NOT NULL,
              is_active bool NOT NULL, date_joined datetime NOT NULL, first_name varchar(150) NOT NULL);
            CREATE TABLE account_emailaddress (id integer PRIMARY KEY AUTOINCREMENT, verified bool NOT NULL,
              "primary" bool NOT NULL, user_id integer NOT NULL REFERENCES auth_user (id),
              email varchar(254) NOT NULL);
            CREATE TABLE socialaccount_socialaccount (id integer PRIMARY KEY AUTOINCREMENT,
              provider varchar(200) NOT NULL, uid varchar(191) NOT NULL, last_login datetime NOT NULL,
              date_joined datetime NOT NULL, user_id integer NOT NULL REFERENCES auth_user (id),
              extra_data text NOT NULL CHECK (JSON_VALID(extra_data)), UNIQUE (provider, uid));
            CREATE TABLE socialaccount_socialtoken (id integer PRIMARY KEY AUTOINCREMENT, token text NOT NULL,
              token_secret text NOT NULL, expires_at datetime NULL, app_id bigint NULL,
              account_id integer NOT NULL REFERENCES socialaccount_socialaccount (id));
            """
        )
        for number, name in enumerate(("kim", "lea"), 1):
            old.execute(
                "INSERT INTO auth_user VALUES (?, '!unusable', NULL, 0, ?, '', ?, 0, 1, '2024-01-01', '')",
                (number, name, f"{name}@example.com"),
            )
        old.execute("INSERT INTO account_emailaddress VALUES (1, 1, 1, 1, 'kim@example.com')")
        for number, (name, uid) in enumerate((("google", "1184"), ("github", "42"), ("twitter", "5")), 1):
            said = json.dumps({"email": "kim@gmail.example", "sub": uid})
            row = (number, name, uid, "2024-01-01", "2024-01-01", 1, said)
            old.execute("INSERT INTO socialaccount_socialaccount VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        old.execute(
            "INSERT INTO socialaccount_socialtoken VALUES (1, 'ya29.secret', '1//secret', NULL, NULL, 1)"
        )
    old.close()


APP = f"""
from fastapi import FastAPI

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import GitHub, Google, SocialLogin

app = FastAPI()
social = SocialLogin(Google(client_id="x"), GitHub(client_id="x"))
include_auth(app, settings=AuthSettings(jwt_secret="{SECRET}"), features=[social])
"""


@pytest.mark.parametrize("old", [fastapi_users, allauth])
def test_the_tables_of_others_are_exported_and_imported(old: Callable[[Path], None], tmp_path: Path) -> None:
    old(tmp_path / "old.sqlite3")
    script, other = (each.code for each in snippets(PAGE) if "OLD_IDENTITIES =" in each.code)
    if old is allauth:
        start, end = script.index("OLD_USERS ="), script.index("NAMES =")
        script = script[:start] + other + script[end:]
    (tmp_path / "export_users.py").write_text(script)
    (tmp_path / "main.py").write_text(APP)
    url = f"sqlite://{tmp_path / 'app.sqlite3'}"
    asyncio.run(databases.create(url, "sqlite"))
    command = [
        sys.executable,
        "-m",
        "fastapi_pluggable_auth",
        "users",
        "import",
        "users.csv",
        "--app",
        "main:app",
    ]
    for each in ([sys.executable, "export_users.py"], [*command, "--database-url", url]):
        done = subprocess.run(each, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2 imported, 0 skipped")
    assert "secret" not in (tmp_path / "users.csv").read_text()
    with sqlite3.connect(tmp_path / "app.sqlite3") as new:
        found = new.execute(
            "SELECT u.id, u.email, u.is_verified, i.issuer, i.subject, i.email, i.vouched, i.digest"
            " FROM user u LEFT JOIN auth_identity i ON i.user_id = u.id ORDER BY u.email, i.issuer"
        ).fetchall()
    new.close()
    google = hashlib.sha256(b"https://accounts.google.com\0" + b"1184").hexdigest()
    assert [row[1:-1] for row in found] == [
        (KIM, 1, "https://accounts.google.com", "1184", "kim@gmail.example", 0),
        (KIM, 1, "https://github.com", "42", "kim@gmail.example", 0),
        ("lea@example.com", int(old is fastapi_users), None, None, None, None),
    ]
    assert found[0][-1] == google
    if old is fastapi_users:
        assert UUID(found[0][0]) == IDS["kim"]
