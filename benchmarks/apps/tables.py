"""The tables of the peers, in SQLAlchemy."""

from __future__ import annotations

from fastapi_users_db_sqlalchemy import SQLAlchemyBaseUserTableUUID
from fastapi_users_db_sqlalchemy.access_token import SQLAlchemyBaseAccessTokenTableUUID
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """All tables."""


class User(SQLAlchemyBaseUserTableUUID, Base):
    """An account."""


class AccessToken(SQLAlchemyBaseAccessTokenTableUUID, Base):
    """A session of the database strategy."""


def engine_url(url: str) -> str:
    """The database URL in SQLAlchemy's form."""
    return url.replace("sqlite://", "sqlite+aiosqlite:///").replace("postgres://", "postgresql+asyncpg://")
