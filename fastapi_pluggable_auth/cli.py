"""The `fastapi-pluggable-auth` command."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from tortoise import Tortoise
from tortoise.context import TortoiseContext
from tortoise.exceptions import BaseORMException

from .auth import Auth
from .config import AuthSettings
from .database import DATABASE_ERRORS
from .email.provider import MailError, provider_for
from .flows.purge import purge
from .security.keys import KeyConfigurationError, key_set

DEMO_DATABASE: Final = "pluggable-auth-demo.sqlite3"
CONNECTION_ERRORS: Final[tuple[type[Exception], ...]] = (
    BaseORMException,
    ValueError,
    ImportError,
    *DATABASE_ERRORS,
)
DATABASE_TIMEOUT: Final = 10.0
"""Seconds."""

WALK_THROUGH: Final = """
  {base}/docs    every route, with an "Authorize" button
  {base}/hello   an example route that needs a login

Mails are printed here. In a second terminal:

  1. curl -s {base}/auth/signup -H 'Content-Type: application/json' \\
       -d '{{"email": "ada@example.com", "password": "correct horse battery"}}'
  2. curl -s <the link in the mail below>
  3. curl -s {base}/auth/login -H 'Content-Type: application/json' \\
       -d '{{"email": "ada@example.com", "password": "correct horse battery"}}'
  4. curl -s {base}/hello -H 'Authorization: Bearer <access_token>'

The accounts are kept in {database}. Press Ctrl-C to stop.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="fastapi-pluggable-auth", description="Accounts for FastAPI.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="serve a demo of the whole product on a SQLite file")
    demo.add_argument("--host", default="127.0.0.1")
    demo.add_argument("--port", type=int, default=8000)
    demo.set_defaults(run=lambda options: _demo(options.host, options.port))

    check = commands.add_parser("check", help="say what is unsafe or missing in the settings")
    check.set_defaults(run=lambda options: _check(options.database_url))

    purge_command = commands.add_parser("purge", help="delete expired rows, as a running app does every hour")
    purge_command.set_defaults(run=lambda options: _purge(options.database_url))

    for command in (check, purge_command):
        command.add_argument(
            "--database-url",
            default=os.environ.get("DATABASE_URL"),
            help="Tortoise URL of the app's database (default: $DATABASE_URL)",
        )

    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


def _demo(host: str, port: int) -> int:
    try:
        import uvicorn
    except ImportError:
        print("The demo needs uvicorn: pip install 'fastapi-pluggable-auth[demo]'", file=sys.stderr)
        return 1
    from .demo import demo_app

    database = Path.cwd() / DEMO_DATABASE
    base_url = f"http://{host}:{port}"
    print(WALK_THROUGH.format(base=base_url, database=database.name), flush=True)
    uvicorn.run(demo_app(database, base_url), host=host, port=port, log_level="warning")
    return 0


def _check(database_url: str | None) -> int:
    try:
        settings = AuthSettings()
    except ValidationError as error:
        for invalid in error.errors():
            print(f"FAIL  {'.'.join(map(str, invalid['loc'])).upper()}: {invalid['msg']}")
        return 1
    problems = asyncio.run(_problems(settings, database_url))
    for name, problem in problems.items():
        print(f"ok    {name}" if problem is None else f"FAIL  {name}: {problem}")
    return 1 if any(problems.values()) else 0


def _purge(database_url: str | None) -> int:
    if database_url is None:
        print("Set DATABASE_URL, or pass --database-url.", file=sys.stderr)
        return 1
    try:
        deleted = asyncio.run(_purge_database(database_url))
    except CONNECTION_ERRORS as error:
        print(f"The database is not reachable ({type(error).__name__}).", file=sys.stderr)
        return 1
    for table, count in deleted.items():
        print(f"{table}: {count} deleted")
    return 0


async def _purge_database(url: str) -> dict[str, int]:
    async with TortoiseContext() as context:
        await context.init(db_url=url, modules={"models": ["fastapi_pluggable_auth.models"]})
        return await purge(Auth(AuthSettings()))


async def _problems(settings: AuthSettings, database_url: str | None) -> dict[str, str | None]:
    """What is checked, and the sentence about it where something is wrong."""
    return {
        "JWT_SECRET": settings.secret_problem() or _key_problem(settings),
        "PUBLIC_BASE_URL": settings.base_url_problem(),
        "mail": await _mail_problem(settings),
        "database": await _database_problem(database_url),
    }


def _key_problem(settings: AuthSettings) -> str | None:
    try:
        key_set(settings)
    except KeyConfigurationError as error:
        return str(error)
    return None


async def _mail_problem(settings: AuthSettings) -> str | None:
    if settings.email_provider == "console" and not settings.is_local:
        return "EMAIL_PROVIDER=console prints mails instead of sending them."
    if settings.email_from.endswith("@example.com") and not settings.is_local:
        return "EMAIL_FROM still is the placeholder."
    try:
        await provider_for(settings).check()
    except (MailError, ValueError) as error:
        return str(error)
    # A transport closes some turns of the event loop after it was told to.
    await asyncio.sleep(0.05)
    return None


async def _database_problem(url: str | None) -> str | None:
    if url is None:
        return "set DATABASE_URL, or pass --database-url, to have it checked."
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT), TortoiseContext() as context:
            await context.init(db_url=url, modules={"models": ["fastapi_pluggable_auth.models"]})
            await Tortoise.get_connection("default").execute_query("SELECT 1")
    except CONNECTION_ERRORS as error:
        return f"not reachable ({type(error).__name__})."
    return None
