"""The floor: bare FastAPI routes with the same statements by the raw driver, and the fastest JWT library.

Nothing here is safe to use: no limits, no errors, no events, no timeouts.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4

import aiosqlite
import asyncpg
from fastapi import FastAPI, Header, HTTPException
from joserfc import jwt
from joserfc.jwk import OctKey
from pydantic import BaseModel

KEY = OctKey.import_key(os.environ["JWT_SECRET"])
ACCESS, REFRESH = "at+jwt", "refresh+jwt"
QUARTER, WEEK = timedelta(minutes=15), timedelta(days=7)

USER = (
    "id email hashed_password rehash_note is_active is_verified is_superuser roles permissions display_name"
    " signup_binding pending_email pending_email_session totp_secret totp_confirmed totp_last_step"
    " totp_enrolled_at totp_pending_session recovery_codes_at access_epoch sessions_opened"
    " password_reset_required language verified_at password_changed_at last_login_at created_at"
).split()
STATE = (
    "id user_id authenticated_at expires_at revoked_at impersonated_by begun_in confirmed_gen superseded"
).split()
TOKEN = "id token user_id session_id created_at expires_at rotated_at replaced_by gen superseded".split()
FAMILY = "expires_at revoked_at confirmed_gen impersonated_by factors".split()


def columns(**tables: list[str]) -> str:
    return ", ".join(f"{alias}.{name} AS {alias}_{name}" for alias, names in tables.items() for name in names)


ME = (
    f"SELECT {columns(s=STATE, u=USER)} FROM auth_session s"
    ' LEFT JOIN "user" u ON u.id = s.user_id WHERE s.id = $1 AND s.user_id = $2'
)
SPEND = (
    "UPDATE refreshtoken SET revoked = $1, rotated_at = $2, replaced_by = $3"
    " WHERE token = $4 AND revoked = $5 AND expires_at > $6"
)
SPENT = (
    f"SELECT {columns(t=TOKEN, u=['is_active'], s=FAMILY)} FROM refreshtoken t"
    ' LEFT JOIN "user" u ON u.id = t.user_id LEFT JOIN auth_session s ON s.id = t.session_id'
    " WHERE t.token = $1"
)
STORE = (
    "INSERT INTO refreshtoken (id, user_id, session_id, token, jti, expires_at, revoked, gen, created_at)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)


SQLITE = os.environ["DATABASE_URL"].startswith("sqlite")


class Postgres:
    """A pool of asyncpg, as large as Tortoise's."""

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=5)

    async def close(self) -> None:
        await self._pool.close()

    async def row(self, statement: str, *values: Any) -> Any:
        return await self._pool.fetchrow(statement, *values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection, connection.transaction():
            yield connection.fetchrow


class SQLite:
    """One connection of aiosqlite, as Tortoise has."""

    async def open(self) -> None:
        path = os.environ["DATABASE_URL"].removeprefix("sqlite://")
        self._connection = await aiosqlite.connect(path, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode = WAL", "foreign_keys = ON", "busy_timeout = 5000"):
            await self._connection.execute(f"PRAGMA {pragma}")
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        await self._connection.close()

    async def row(self, statement: str, *values: Any) -> Any:
        async with self._turn:
            return await self._row(statement, *values)

    async def _row(self, statement: str, *values: Any) -> Any:
        plain = [str(value) if isinstance(value, UUID | datetime) else value for value in values]
        rows = await self._connection.execute_fetchall(statement.replace("$", "?"), plain)
        return next(iter(rows), None)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self._turn:
            await self._connection.execute("BEGIN IMMEDIATE")
            yield self._row
            await self._connection.commit()


database = SQLite() if SQLITE else Postgres()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await database.open()
    yield
    await database.close()


app = FastAPI(lifespan=lifespan)


class UserOut(BaseModel):
    id: UUID
    email: str
    is_verified: bool
    display_name: str | None


class Spend(BaseModel):
    token: str


class TokenPair(BaseModel):
    access_token: str
    refresh_token: str
    token_type: str = "bearer"


def claims_of(token: str, typ: str) -> dict[str, Any]:
    opened = jwt.decode(token, KEY, algorithms=["HS256"])
    if opened.header["typ"] != typ or opened.claims["exp"] < time.time():
        raise HTTPException(401)
    return opened.claims


def signed(
    typ: str, user: UUID, session: UUID, now: datetime, lifetime: timedelta, jti: str, gen: int
) -> str:
    return jwt.encode(
        {"alg": "HS256", "typ": typ},
        {
            "iss": "http://localhost:8000",
            "aud": "http://localhost:8000",
            "sub": str(user),
            "jti": jti,
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
            "sid": str(session),
            "gen": gen,
            "transport": "bearer",
        },
        KEY,
    )


def at(value: Any) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def digest(token: str) -> str:
    return hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()


@app.get("/auth/me")
async def me(authorization: Annotated[str, Header()]) -> UserOut:
    claims = claims_of(authorization[7:], ACCESS)
    row = await database.row(ME, UUID(claims["sid"]), UUID(claims["sub"]))
    if row is None or row["s_revoked_at"] or at(row["s_expires_at"]) < datetime.now(UTC):
        raise HTTPException(401)
    return UserOut(
        id=row["u_id"],
        email=row["u_email"],
        is_verified=row["u_is_verified"],
        display_name=row["u_display_name"],
    )


@app.post("/auth/refresh")
async def refresh(body: Spend) -> TokenPair:
    claims_of(body.token, REFRESH)
    now, jti, stored = datetime.now(UTC), secrets.token_urlsafe(24), digest(body.token)
    async with database.transaction() as row:
        await row(SPEND, True, now, jti, stored, False, now)
        spent = await row(SPENT, stored)
        user, session = UUID(str(spent["t_user_id"])), UUID(str(spent["t_session_id"]))
        gen = max(spent["t_gen"], spent["s_confirmed_gen"]) + 1
        successor = signed(REFRESH, user, session, now, WEEK, jti, gen)
        await row(STORE, uuid4(), user, session, digest(successor), jti, now + WEEK, False, gen, now)
    access = signed(ACCESS, user, session, now, QUARTER, secrets.token_urlsafe(24), gen)
    return TokenPair(access_token=access, refresh_token=successor)
