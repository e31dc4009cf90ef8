"""`check`: says what is unsafe or missing in the settings."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from tortoise.cli.utils import get_tortoise_config

from ..auth import Auth
from ..config import AuthSettings
from ..database import is_read_only
from ..email.provider import MailError, provider_for
from ..email.template_check import template_problems
from ..email.template_folders import has_own_templates
from ..features.feature import Features
from ..features.shipped import SHIPPED as SHIPPED_FEATURES
from ..models import AbstractUser
from ..security.keys import KeyConfigurationError, key_problems, key_set, secret_problem
from .database import add_database, connected
from .faults import CommandError, read_settings
from .modules import auth_of_app

RECOMMENDED: Final = (
    "set it to false, unless a program of yours opens verification links by GET: a scanner that does not look"
    " like a browser does so, too, and verifies a stranger's signup."
)


REBUILT: Final = (
    "{folder} alters these tables. On SQLite, migrate with ?foreign_keys=OFF in the URL: Tortoise rebuilds a"
    " table that it alters, which else deletes all rows that refer to it."
)
SHIPPED: Final = "fastapi_pluggable_auth.migrations"


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    add_database(parser)
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    try:
        auth = auth_of_app(options.app)
        settings = read_settings() if auth is None else auth.settings
    except CommandError as error:
        for line in str(error).splitlines():
            print(f"FAIL  {line}")
        return 1
    problems, notes = asyncio.run(_found(settings, options.database_url, auth))
    for name, problem in problems.items():
        print(f"ok    {name}" if problem is None else f"FAIL  {name}: {problem}")
    for name, note in notes.items():
        print(f"note  {name}: {note}")
    return 1 if any(problems.values()) else 0


async def _found(
    settings: AuthSettings, database_url: str | None, auth: Auth | None
) -> tuple[dict[str, str | None], dict[str, str]]:
    """What is checked, with the sentence about it where something is wrong, and what is worth knowing."""
    database_problem, altering = await _database(database_url, auth)
    problems = {
        "AUTH_JWT_SECRET": secret_problem(settings) or _key_problem(settings),
        **{each.setting: each.sentence for each in key_problems(settings) if "TOTP" in each.setting},
        "AUTH_PUBLIC_BASE_URL": settings.base_url_problem(),
        "mail": await _mail_problem(settings),
        **_template_problem(settings, Features(SHIPPED_FEATURES) if auth is None else auth.features),
        "database": database_problem,
    }
    notes = {"AUTH_VERIFY_BY_GET": RECOMMENDED} if settings.verify_by_get else {}
    if altering is not None:
        notes["migrations"] = REBUILT.format(folder=altering)
    # Transports, and threads of SQLite, end some turns of the event loop after they are asked to.
    await asyncio.sleep(0.1)
    return problems, notes


def _key_problem(settings: AuthSettings) -> str | None:
    try:
        key_set(settings)
    except KeyConfigurationError as error:
        return str(error)
    return None


async def _mail_problem(settings: AuthSettings) -> str | None:
    if settings.email_provider in {"console", "file", "memory"} and not settings.is_local:
        return f"AUTH_EMAIL_PROVIDER={settings.email_provider} sends no mail."
    if settings.email_from.endswith("@example.com") and not settings.is_local:
        return "AUTH_EMAIL_FROM still is the placeholder."
    try:
        await provider_for(settings).check()
    except (MailError, ValueError) as error:
        return str(error)
    return None


def _template_problem(settings: AuthSettings, features: Features) -> dict[str, str | None]:
    """For apps that have templates."""
    if not has_own_templates(settings.template_dir):
        return {}
    return {"templates": "\n      ".join(template_problems(settings, features)) or None}


async def _database(where: str | None, auth: Auth | None) -> tuple[str | None, str | None]:
    """What is wrong with it, and the migrations of the host that alter our tables where that deletes rows."""
    if where is None:
        return "set DATABASE_URL, or pass --database-url, to have it checked.", None
    try:
        async with connected(where, auth) as user_model:
            if await is_read_only(user_model._meta.db):
                return "read-only, as a standby is: name the primary.", None
            return None, _altering_migrations(where, user_model)
    except CommandError as error:
        return str(error), None


def _altering_migrations(where: str, user_model: type[AbstractUser]) -> str | None:
    """The migrations of the host that make our tables, where these are in SQLite."""
    if "://" in where or user_model._meta.db.capabilities.dialect != "sqlite":
        return None
    folder = get_tortoise_config(where).apps[str(user_model._meta.app)].migrations
    return None if folder == SHIPPED else folder
