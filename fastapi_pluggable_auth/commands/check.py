"""`check`: says what is unsafe or missing in the settings."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from ..advice import KEY_LINE, Advice, advices, keeps_mails
from ..auth import Auth
from ..config import AuthSettings
from ..database import is_read_only
from ..email.provider import MailError
from ..email.template_check import template_problems
from ..email.template_folders import has_own_templates
from ..features.shipped import SHIPPED as SHIPPED_FEATURES
from ..features.two_factor.sealing import count_secrets
from ..models import AbstractUser
from ..security.keys import KeyConfigurationError, key_problems, key_set, secret_problem
from ..words.texts import language_problem
from .database import SHIPPED_MIGRATIONS, add_database, connected, migrations_folder
from .faults import CommandError, read_settings
from .modules import auth_of_app

REBUILT: Final = (
    "{folder} alters these tables. On SQLite, migrate with ?foreign_keys=OFF in the URL: Tortoise rebuilds a"
    " table that it alters, which else deletes all rows that refer to it."
)
REBUILD: Final = "DATABASE_URL=sqlite://...?foreign_keys=OFF tortoise migrate"


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    add_database(parser)
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    try:
        auth = auth_of_app(options.app) or _auth(read_settings())
    except CommandError as error:
        for line in str(error).splitlines():
            print(f"FAIL  {line}")
        return 1
    found = asyncio.run(_found(auth, options))
    unsafe = {name for name, each in found.advices.items() if each.unsafe}
    for name in found.names:
        if name not in unsafe:
            print(f"ok    {name}")
    for each in sorted(found.advices.values(), key=lambda each: not each.unsafe):
        print(f"{'FAIL' if each.unsafe else 'note'}  {each.name}: {each.why}")
        if each.line:
            print(f"      {each.line}")
    return 1 if unsafe else 0


def _auth(settings: AuthSettings) -> Auth[Any]:
    try:
        return Auth(settings, features=SHIPPED_FEATURES)
    except ValueError as error:
        raise CommandError(str(error)) from error


@dataclass(slots=True)
class _Found:
    """The names of what was looked at, and by name what is to be done."""

    names: list[str] = field(default_factory=list)
    advices: dict[str, Advice] = field(default_factory=dict)

    def look(self, name: str, problem: str | None, line: str = "") -> None:
        """What is unsafe of it, if anything."""
        self.names.append(name)
        if problem is not None:
            self.add(Advice(name, problem, line, unsafe=True))

    def add(self, *advices: Advice) -> None:
        """In the place of what was advised before."""
        self.advices |= {each.name: each for each in advices}


async def _found(auth: Auth[Any], options: argparse.Namespace) -> _Found:
    found, settings = _Found(), auth.settings
    key = secret_problem(settings) or _key_problem(settings)
    found.look("AUTH_JWT_SECRET", key, KEY_LINE.format(name="AUTH_JWT_SECRET"))
    for each in key_problems(settings):
        if "TOTP" in each.setting:
            found.look(each.setting, each.sentence)
    url = f"AUTH_PUBLIC_BASE_URL=https://{urlsplit(settings.public_base_url).netloc}"
    found.look("AUTH_PUBLIC_BASE_URL", settings.base_url_problem(), url)
    if (telling := settings.enumeration_problem()) is not None:
        found.look("AUTH_PREVENT_ENUMERATION", telling, "AUTH_REQUIRE_VERIFIED_EMAIL=true")
    if not keeps_mails(auth):
        found.look("mail", await _mail_problem(auth))
    if settings.languages:
        found.look("AUTH_LANGUAGES", language_problem(settings))
    if has_own_templates(settings.template_dir):
        problems = template_problems(settings, auth.features)
        found.look("templates", "\n      ".join(problems) or None)
    await _look_at_database(found, auth, options)
    # Transports, and threads of SQLite, end some turns of the event loop after they are asked to.
    await auth.close()
    await asyncio.sleep(0.1)
    return found


def _key_problem(settings: AuthSettings) -> str | None:
    try:
        key_set(settings)
    except KeyConfigurationError as error:
        return str(error)
    return None


async def _mail_problem(auth: Auth[Any]) -> str | None:
    try:
        await auth.mailer.provider.check()
    except (MailError, ValueError) as error:
        return str(error)
    return None


async def _look_at_database(found: _Found, auth: Auth[Any], options: argparse.Namespace) -> None:
    """Adds what is wrong with it, and what is advised for the app: with the options of the database, where it
    can be reached."""
    where, app = options.database_url, None if options.app is None else auth
    if where is None:
        sentence = "set DATABASE_URL, or pass --database-url, to have it checked."
        found.look(
            "database", sentence, "export DATABASE_URL=postgres://<user>:<password>@<host>:5432/<name>"
        )
        found.add(*advices(auth))
        return
    try:
        async with connected(where, app) as user_model:
            auth = app or Auth(auth.settings, user_model=user_model, features=SHIPPED_FEATURES)
            standby = await is_read_only(user_model._meta.db)
            found.look("database", "read-only, as a standby is: name the primary." if standby else None)
            found.add(*advices(auth))
            if (altering := _altering_migrations(where, user_model)) is not None:
                found.add(Advice("migrations", REBUILT.format(folder=altering), REBUILD))
            found.add(*[each async for each in _on_two_factor(auth)])
    except CommandError as error:
        found.look("database", str(error))
        found.add(*advices(auth))


async def _on_two_factor(auth: Auth[Any]) -> AsyncIterator[Advice]:
    """What the secrets in use need. That a key is missing is advised anyway."""
    sealed, plain = await count_secrets(auth)
    key, name = auth.settings.totp_encryption_key, "AUTH_TOTP_ENCRYPTION_KEY"
    if sealed and key is None:
        why = f"{sealed} two-factor secrets are sealed, and without the key no code is right."
        yield Advice(name, why, f"{name}=<the key that sealed them>", unsafe=True)
    elif plain and not (key is None and auth.settings.is_local):
        why = f"{plain} secrets in use are not encrypted. With {name} set, this seals them:"
        yield Advice("two-factor", why, "fastapi-pluggable-auth keys seal")


def _altering_migrations(where: str, user_model: type[AbstractUser]) -> str | None:
    """The migrations of the host that make our tables, where these are in SQLite."""
    if user_model._meta.db.capabilities.dialect != "sqlite":
        return None
    folder = migrations_folder(where, user_model)
    return None if folder == SHIPPED_MIGRATIONS else folder
