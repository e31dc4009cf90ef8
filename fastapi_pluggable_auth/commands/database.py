"""What commands that work on the app's database share."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tortoise.context import TortoiseContext
from tortoise.exceptions import BaseORMException

from ..auth import Auth
from ..config import AuthSettings
from ..database import database_errors


def connection_errors() -> tuple[type[Exception], ...]:
    """What is raised where a database is not reachable, or its URL is wrong."""
    return (BaseORMException, ValueError, ImportError, *database_errors())


def add_database_url(parser: argparse.ArgumentParser) -> None:
    """Adds the option that names the database."""
    parser.add_argument(
        "--database-url",
        default=os.environ.get("DATABASE_URL"),
        help="Tortoise URL of the app's database (default: $DATABASE_URL)",
    )


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[None]:
    """Tortoise on the database of the app. Raises `connection_errors`."""
    async with TortoiseContext() as context:
        await context.init(db_url=url, modules={"models": ["fastapi_pluggable_auth.models"]})
        yield


def with_auth(url: str | None, work: Callable[[Auth], Awaitable[int]]) -> int:
    """Runs a command on the app's database and the settings of the environment; returns its exit status."""
    if url is None:
        print("Set DATABASE_URL, or pass --database-url.", file=sys.stderr)
        return 1

    async def run() -> int:
        auth = Auth(AuthSettings())
        try:
            async with connected(url):
                return await work(auth)
        finally:
            await auth.close()

    try:
        return asyncio.run(run())
    except connection_errors() as error:
        print(f"The database is not reachable ({type(error).__name__}).", file=sys.stderr)
        return 1
