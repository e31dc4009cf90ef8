"""Sessions of SQLAlchemy, the profile of who asks, and the way into the transaction of the accounts."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from models import Profile
from settings import SQLALCHEMY_URL
from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.sql.compiler import SQLCompiler
from tortoise.connection import get_connection

from fastapi_pluggable_auth import CurrentUser

sessions = async_sessionmaker(expire_on_commit=False)
"""The lifespan gives it the engine."""


async def open_session() -> AsyncIterator[AsyncSession]:
    """One transaction of the app's own tables."""
    async with sessions.begin() as session:
        yield session


# Of the function, not of the request: it is committed before the answer goes out.
Session = Annotated[AsyncSession, Depends(open_session, scope="function")]


async def own_profile(user: CurrentUser, session: Session) -> Profile:
    """That of the user; made here for an account that no signup has made, as the command line does."""
    profile = await session.get(Profile, user.id)
    if profile is None:
        await session.execute(insert(Profile).values(user_id=user.id).on_conflict_do_nothing())
        profile = await session.get_one(Profile, user.id)
    return profile


CurrentProfile = Annotated[Profile, Depends(own_profile)]


async def execute_with_account(statement: ClauseElement) -> None:
    """Runs a statement on the connection of the accounts: in a `DuringEvent` hook, in its transaction."""
    compiled = statement.compile(dialect=SQLALCHEMY_URL.get_dialect()())
    if not isinstance(compiled, SQLCompiler):
        raise TypeError(f"{statement!r} is no statement of rows.")
    values = [compiled.params[name] for name in compiled.positiontup or ()]
    await get_connection("default").execute_query(str(compiled), values)
