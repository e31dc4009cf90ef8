"""What commands that work on the app's database share."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from pydantic import ValidationError
from tortoise.cli.utils import CLIError, get_tortoise_config
from tortoise.context import TortoiseContext
from tortoise.exceptions import BaseORMException, ConfigurationError

from ..auth import Auth
from ..config import AuthSettings
from ..failures import Failure, failure_of, said_by, sentence
from ..models import AbstractUser, User
from ..security.keys import sharing_problem


def problem_of(error: Exception) -> str | None:
    """The sentence about a database that is not reachable, or whose URL is wrong; None for another error."""
    failure = failure_of(error)
    if failure is Failure.UNAVAILABLE:
        return f"The database is not reachable ({said_by(error)})."
    if failure is not None:
        return sentence(error)
    if isinstance(error, BaseORMException | ValueError | ImportError | CLIError):
        return f"The database is not reachable ({type(error).__name__})."
    return None


def add_database_url(parser: argparse.ArgumentParser) -> None:
    """Adds the option that names the database."""
    parser.add_argument(
        "--database-url",
        default=os.environ.get("DATABASE_URL"),
        help="Tortoise URL of the app's database (default: $DATABASE_URL)",
    )
    parser.add_argument(
        "--config",
        dest="database_url",
        default=argparse.SUPPRESS,
        help="instead, for an app with its own user model: its configuration, such as settings.TORTOISE_ORM",
    )


@asynccontextmanager
async def connected(where: str) -> AsyncIterator[type[AbstractUser]]:
    """Tortoise on the database of the app, which a URL or a Tortoise configuration names; gives its user
    model. Raises what
    `problem_of` knows."""
    async with TortoiseContext() as context:
        if "://" in where:
            await context.init(db_url=where, modules={"models": ["fastapi_pluggable_auth.models"]})
            yield User
            return
        sys.path.insert(0, os.getcwd())
        await context.init(config=get_tortoise_config(where))
        models = [model for app in (context.apps or {}).values() for model in app.values()]
        users = [model for model in models if issubclass(model, AbstractUser)]
        if len(users) != 1:
            raise ConfigurationError(f"There are {len(users)} user models in {where}, not one.")
        yield users[0]


def with_auth(url: str | None, work: Callable[[Auth], Awaitable[int]], *, signs: bool = False) -> int:
    """Runs a command on the app's database and the settings of the environment; returns its exit status. One
    that `signs` what the app is to verify needs the app's key."""
    if url is None:
        print("Set DATABASE_URL, or pass --database-url or --config.", file=sys.stderr)
        return 1
    try:
        settings = AuthSettings()
    except ValidationError as error:
        for invalid in error.errors():
            print(f"{'.'.join(map(str, invalid['loc'])).upper()}: {invalid['msg']}", file=sys.stderr)
        return 1
    if signs and (problem := sharing_problem(settings)) is not None:
        print(problem, file=sys.stderr)
        return 1

    async def run() -> int:
        async with connected(url) as user_model:
            auth = Auth(settings, user_model=user_model)
            try:
                return await work(auth)
            finally:
                await auth.close()

    try:
        return asyncio.run(run())
    except Exception as error:
        if (problem := problem_of(error)) is None:
            raise
        print(problem, file=sys.stderr)
        return 1
