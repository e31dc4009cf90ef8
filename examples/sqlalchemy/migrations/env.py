"""Alembic, for the app's own tables: those of the accounts are left to `tortoise migrate`."""

import asyncio

from alembic import context
from models import Base
from settings import SQLALCHEMY_URL
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.sql.schema import SchemaItem

ACCOUNTS = {"user", "refreshtoken", "tortoise_migrations"}


def is_ours(item: SchemaItem, name: str | None, kind: str, reflected: bool, other: SchemaItem | None) -> bool:
    """Whether Alembic compares this: no table of the accounts, be it in the database or in our metadata."""
    return kind != "table" or not (name in ACCOUNTS or str(name).startswith("auth_"))


def run(connection: Connection) -> None:
    context.configure(connection, target_metadata=Base.metadata, include_object=is_ours)
    with context.begin_transaction():
        context.run_migrations()


async def migrate() -> None:
    engine = create_async_engine(SQLALCHEMY_URL, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(migrate())
