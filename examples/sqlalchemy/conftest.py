"""What the tests run on: pip install pytest pytest-asyncio, then pytest, where PostgreSQL answers."""

from collections.abc import AsyncIterator

import pytest
from app import app
from database import sessions
from fastapi import FastAPI
from models import Base
from settings import DATABASE_URL, SQLALCHEMY_URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from tortoise.context import TortoiseContext

pytest_plugins = ["fastapi_pluggable_auth.testing"]


@pytest.fixture
def auth_app() -> FastAPI:
    return app


@pytest.fixture
def auth_database_url() -> str:
    return DATABASE_URL.partition("?")[0] + "_test_{}"


@pytest.fixture(autouse=True)
async def shop_tables(auth_database: TortoiseContext) -> AsyncIterator[None]:
    """The app's tables beside those of the accounts, in the database that was made for this test."""
    (row,) = await auth_database.db().execute_query_dict("SELECT current_database() AS name")
    engine = create_async_engine(SQLALCHEMY_URL.set(database=row["name"]), poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions.configure(bind=engine)
    yield
    await engine.dispose()
