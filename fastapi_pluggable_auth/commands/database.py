"""What commands that work on the app's database share."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tortoise.backends.base.config_generator import DB_LOOKUP, generate_config
from tortoise.cli.utils import CLIError, get_tortoise_config
from tortoise.context import TortoiseContext
from tortoise.exceptions import ConfigurationError

from ..auth import Auth
from ..database import credentials_of
from ..errors import AuthError
from ..failures import PoolerError
from ..features.shipped import SHIPPED
from ..migrations._inspection import columns_of
from ..models import AbstractUser, Tables, User, tables_for
from ..poolers import mixes_up_statements
from ..security.keys import sharing_problem
from .faults import CommandError, UnreachableError, fault, read_settings
from .modules import add_app, auth_of_app, imported
from .unknown_tables import unknown_tables

ANSWER_SECONDS: Final = 10.0
"""How long the database may take to answer at first."""

UNKNOWN: Final = (
    "warning: this command does not know what {} hold. Where a feature of the app keeps access in them, pass"
    " --app, such as --app main:app, so that it ends too."
)

SHIPPED_MIGRATIONS: Final = "fastapi_pluggable_auth.migrations"

PACKAGE: Final = __name__.partition(".")[0]


def add_database(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name the app and its database."""
    add_app(parser)
    parser.add_argument(
        "--database-url",
        default=os.environ.get("DATABASE_URL"),
        metavar="URL",
        help="Tortoise URL of the app's database (default: $DATABASE_URL)",
    )
    parser.add_argument(
        "--config",
        dest="database_url",
        default=argparse.SUPPRESS,
        metavar="MODULE.NAME",
        help="instead, for an app with its own user model: its configuration, such as settings.TORTOISE_ORM",
    )


@asynccontextmanager
async def connected(
    where: str, auth: Auth[Any] | None = None, *, patient: bool = False
) -> AsyncIterator[type[AbstractUser]]:
    """Tortoise on the database of the app, which a URL or a Tortoise configuration names, with all tables in
    it, those of the features of this `Auth` too; gives its user model. Raises `CommandError` for whatever the
    database has to do with; `patient` only says that it does not answer yet."""
    credentials: Mapping[str, Any] = {}
    connecting = True
    try:
        async with TortoiseContext() as context:
            user_model = await _initialised(context, where, auth)
            credentials = _credentials(context, user_model)
            _require_file(credentials)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await _require_database(tables_for(user_model) if auth is None else auth.tables)
            except Exception as error:
                problem = fault(error, credentials)
                if not (patient and isinstance(problem, UnreachableError)):
                    raise
                print(problem, file=sys.stderr)
            connecting = False
            yield user_model
    except (AuthError, CommandError):
        raise
    except Exception as error:
        if (problem := fault(error, credentials, connecting=connecting)) is None:
            raise
        await asyncio.sleep(0.1)  # the thread of SQLite ends a little later
        raise problem from error


async def _initialised(context: TortoiseContext, where: str, auth: Auth[Any] | None) -> type[AbstractUser]:
    if "://" in where:
        scheme = where.partition("://")[0]
        if scheme not in DB_LOOKUP:
            raise CommandError(
                f"{scheme}:// is not a database that Tortoise knows: use postgres://, mysql:// or sqlite://."
            )
        try:
            config = generate_config(
                where, {"models": [f"{PACKAGE}.models"] if auth is None else _modules(auth)}
            )
        except (ConfigurationError, ValueError) as error:
            raise CommandError(f"The URL of the database is not valid: {error}.") from error
        await context.init(config=config)
        return User if auth is None else auth.tables.user
    config = _config(where)
    try:
        with warnings.catch_warnings(action="ignore"):  # that a module has no models
            await context.init(config=config)
    except (ConfigurationError, KeyError) as error:
        raise CommandError(f"Tortoise refuses {where}: {error}.") from error
    models = [model for app in (context.apps or {}).values() for model in app.values()]
    if auth is not None:
        if missing := [table.__name__ for table in auth.tables if table not in models]:
            raise CommandError(f"{where} does not list the tables {', '.join(missing)} of the app.")
        return auth.tables.user
    users = [model for model in models if issubclass(model, AbstractUser)]
    if len(users) == 1:
        return users[0]
    if users:
        names = ", ".join(f"{model.__module__}.{model.__name__}" for model in users)
        raise CommandError(f"There are several user models in {where}: {names}. Name the module of one.")
    raise CommandError(
        f"There is no user model in {where}: list fastapi_pluggable_auth.models, or the module of your own"
        " user model, in the `models` of one of its apps."
    )


def migrations_folder(where: str, user_model: type[AbstractUser]) -> str | None:
    """The module of the migrations that make our tables at a URL or by a configuration, if any is named."""
    if "://" in where:
        return SHIPPED_MIGRATIONS
    return get_tortoise_config(where).apps[str(user_model._meta.app)].migrations


def _modules(auth: Auth[Any]) -> list[str]:
    """Where the tables of an app are."""
    modules = (table.__module__ for table in auth.tables)
    return [*dict.fromkeys(f"{PACKAGE}.models" if _is_ours(name) else name for name in modules)]


def _is_ours(module: str) -> bool:
    return module.startswith(f"{PACKAGE}.")


def _config(where: str) -> Any:
    """The configuration of this name, such as `settings.TORTOISE_ORM`."""
    name, _, variable = where.rpartition(".")
    if not name or not all(part.isidentifier() for part in where.split(".")):
        raise CommandError(
            f"{where!r} is neither a database URL, such as postgres://user@host/name, nor the name of a"
            " Tortoise configuration, such as settings.TORTOISE_ORM."
        )
    module = imported(name, "the configuration must be a variable of it, such as {}.TORTOISE_ORM")
    if getattr(module, variable, None) is None:
        raise CommandError(f"The module {name} has no {variable}.")
    try:
        return get_tortoise_config(where)
    except CLIError as error:
        first, *more = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CommandError(" ".join([first, *more[:1]])) from error


def _credentials(context: TortoiseContext, user_model: type[AbstractUser]) -> Mapping[str, Any]:
    """How the connection of the accounts is made."""
    name = str(user_model._meta.default_connection)
    if name not in context.connections.db_config:
        raise CommandError(
            f"There is no connection {name}: name it in the `connections` of the configuration."
        )
    try:
        return credentials_of(context.connections, name)
    except (ConfigurationError, ValueError) as error:
        raise CommandError(f"The URL of the connection {name} is not valid: {error}.") from error


def _require_file(credentials: Mapping[str, Any]) -> None:
    """Else SQLite makes an empty one of any name."""
    file = credentials.get("file_path")
    if file in (None, ":memory:"):
        return
    path = Path(str(file))
    if not path.is_file():
        raise CommandError(
            f"There is no file {path.absolute()}: check the path of the SQLite database, or make it with"
            " `tortoise migrate`."
        )
    if not os.access(path, os.R_OK | os.W_OK):
        raise CommandError(f"You may not read and write {path.absolute()}.")


async def _require_database(tables: Tables[Any]) -> None:
    """Raises `CommandError` behind a pooler that mixes up statements, and where a table is missing or old."""
    await tables.user._meta.db.execute_query("SELECT 1")
    if await mixes_up_statements(tables.user):
        raise CommandError(str(PoolerError()))
    for model in tables:
        # SQLite takes a column that it does not know for a text.
        if not model._meta.db_fields <= (await columns_of(model._meta.db, model._meta.db_table)).keys():
            raise CommandError(f"The table of {model.__name__} is missing or old: run `tortoise migrate`.")
        await model.first()


def with_auth(
    options: argparse.Namespace,
    work: Callable[[Auth], Awaitable[int]],
    *,
    signs: bool = False,
    patient: bool = False,
    ends_access: bool = False,
) -> int:
    """Runs a command on the app's database with the `Auth` of the app that the options name, or else with the
    settings of the environment and the features of the package; returns its exit status. One that `signs`
    what the app is to verify needs the app's key; a `patient` one waits for its database; one that
    `ends_access` warns of tables in which features of the app may keep more of it. Raises `CommandError`."""
    if options.database_url is None:
        raise CommandError("Set DATABASE_URL, or pass --database-url or --config.")
    of_app = auth_of_app(options.app)
    settings = read_settings() if of_app is None else of_app.settings
    if signs and (problem := sharing_problem(settings)) is not None:
        raise CommandError(problem)

    async def run() -> int:
        async with connected(options.database_url, of_app, patient=patient) as user_model:
            auth = of_app or Auth(settings, user_model=user_model, features=SHIPPED)
            if ends_access and of_app is None and (unknown := await unknown_tables(auth.tables)):
                print(UNKNOWN.format(", ".join(unknown)), file=sys.stderr)
            try:
                return await work(auth)
            finally:
                await auth.close()

    return asyncio.run(run())
