"""Databases filled with users, each with a session, before anything is measured."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncmy
import asyncpg
import bcrypt
from sqlalchemy.ext.asyncio import create_async_engine
from tortoise import Tortoise
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.models import token_digest
from fastapi_pluggable_auth.security.hashing import hash_password
from fastapi_pluggable_auth.security.jwt import ACCESS, REFRESH, new_token_id

from .apps.tables import Base, engine_url

SECRET = "a secret for benchmarks that is longer than it has to be"
PASSWORD = "correct horse battery"
ACTIVE = 2_000
"""How many of the users the load comes from."""

POSTGRES_URL = os.environ.get("BENCHMARK_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
MYSQL_URL = os.environ.get("BENCHMARK_MYSQL_URL", "mysql://root@127.0.0.1:3306")
DIALECTS = ("sqlite", "postgres")


@dataclass(frozen=True)
class Accounts:
    """What the load needs to know about the active users."""

    emails: list[str]
    access_tokens: list[str]
    refresh_tokens: list[str]


@dataclass(frozen=True)
class Table:
    """Rows to store."""

    name: str
    columns: Sequence[str]
    rows: list[tuple[Any, ...]]


async def create(dialect: str, name: str, folder: Path) -> str:
    """The URL of an empty database."""
    if dialect == "sqlite":
        path = folder / f"{name}.sqlite3"
        for each in folder.glob(f"{name}.sqlite3*"):
            each.unlink()
        return f"sqlite://{path}"
    if dialect == "mysql":
        database = f"benchmark_{name}"
        await on_mysql(MYSQL_URL, f"DROP DATABASE IF EXISTS {database}", f"CREATE DATABASE {database}")
        return f"{MYSQL_URL}/{database}"
    connection = await asyncpg.connect(POSTGRES_URL)
    await connection.execute(f"DROP DATABASE IF EXISTS benchmark_{name} WITH (FORCE)")
    await connection.execute(f"CREATE DATABASE benchmark_{name}")
    await connection.close()
    return f"{POSTGRES_URL.rpartition('/')[0]}/benchmark_{name}"


async def on_mysql(url: str, *statements: str) -> None:
    """Runs these there, one by one."""
    parts = urlsplit(url)
    connection = await asyncmy.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=parts.username,
        password=parts.password or "",
        db=parts.path.lstrip("/") or None,
        autocommit=True,
    )
    async with connection.cursor() as cursor:
        for statement in statements:
            await cursor.execute(statement)
    connection.close()


async def fill(url: str, tables: Iterable[Table]) -> None:
    """Stores the rows, in the order of the tables."""
    if url.startswith("sqlite"):
        database = sqlite3.connect(url.removeprefix("sqlite://"))
        for table in tables:
            marks = ", ".join("?" * len(table.columns))
            names = ", ".join(table.columns)
            database.executemany(
                f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', map(plain, table.rows)
            )
        database.commit()
        database.execute("ANALYZE")
        database.close()
        return
    connection = await asyncpg.connect(url)
    for table in tables:
        await connection.copy_records_to_table(table.name, records=table.rows, columns=table.columns)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """As SQLite stores them."""
    return tuple(str(value) if isinstance(value, UUID | datetime) else value for value in row)


async def with_sessions(url: str, users: int) -> Accounts:
    """Fills this library's tables: a user, a session and a refresh token each."""
    async with TortoiseContext():
        models = {"models": ["fastapi_pluggable_auth.models"]}
        await Tortoise.init(db_url=url, modules=models)
        await Tortoise.generate_schemas()
        await Tortoise.close_connections()
    settings = AuthSettings(_env_file=None, jwt_secret=SECRET)
    auth, hashed, now = Auth(settings), hash_password(PASSWORD, settings), datetime.now(UTC)
    ends = now + timedelta(days=7)
    accounts = Accounts([], [], [])
    tables = (
        Table("user", "id email hashed_password is_active is_verified totp_confirmed"
              " password_reset_required created_at".split(), []),
        Table("auth_session", "id user_id authenticated_at expires_at user_agent address"
              " created_at".split(), []),
        Table("refreshtoken", "id user_id session_id token jti expires_at revoked created_at".split(), []),
    )  # fmt: skip
    for number in range(users):
        user, session, jti, email = uuid4(), uuid4(), new_token_id(), f"user{number}@example.com"
        digest = jti.encode().hex()
        if number < ACTIVE:
            times = {"issued_at": now, "expires_at": ends}
            accounts.emails.append(email)
            accounts.access_tokens.append(auth.signer.sign(ACCESS, user, **times, sid=str(session)))
            refresh_token = auth.signer.sign(REFRESH, user, **times, jti=jti, sid=str(session))
            accounts.refresh_tokens.append(refresh_token)
            digest = token_digest(refresh_token)
        tables[0].rows.append((user, email, hashed, True, True, False, False, now))
        tables[1].rows.append((session, user, now, ends, "", "127.0.0.1", now))
        tables[2].rows.append((uuid4(), user, session, digest, jti, ends, False, now))
    await fill(url, tables)
    return accounts


async def of_peers(url: str, users: int, access_token: Callable[[UUID], str | None]) -> Accounts:
    """Fills the peers' tables: a user and an access token each. Peers that do not look the token up sign
    one instead, and none has refresh tokens that it stores."""
    engine = create_async_engine(engine_url(url))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()
    now = datetime.now(UTC)
    if url.startswith("sqlite"):
        now = now.replace(tzinfo=None)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(12)).decode()
    accounts = Accounts([], [], [])
    tables = (
        Table("user", "id email hashed_password is_active is_superuser is_verified".split(), []),
        Table("accesstoken", "token user_id created_at".split(), []),
    )
    for number in range(users):
        user, email, token = uuid4(), f"user{number}@example.com", secrets.token_urlsafe()
        if number < ACTIVE:
            accounts.emails.append(email)
            accounts.access_tokens.append(access_token(user) or token)
        tables[0].rows.append((user, email, hashed, True, False, True))
        tables[1].rows.append((token, user, now))
    await fill(url, tables)
    return accounts
