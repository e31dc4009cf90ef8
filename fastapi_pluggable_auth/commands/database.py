"""What commands that work on the app's database share."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
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
from ..models import AbstractUser, User, tables_for
from ..poolers import mixes_up_statements
from ..security.keys import sharing_problem
from .faults import CommandError, UnreachableError, fault, read_settings

ANSWER_SECONDS: Final = 10.0
"""How long the database may take to answer at first."""


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
async def connected(where: str, *, patient: bool = False) -> AsyncIterator[type[AbstractUser]]:
    """Tortoise on the database of the app, which a URL or a Tortoise configuration names, with all tables in
    it; gives its user model. Raises `CommandError` for whatever the database has to do with; `patient` only
    says that it does not answer yet."""
    credentials: Mapping[str, Any] = {}
    connecting = True
    try:
        async with TortoiseContext() as context:
            user_model = await _initialised(context, where)
            credentials = _credentials(context, user_model)
            _require_file(credentials)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await _require_database(user_model)
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


async def _initialised(context: TortoiseContext, where: str) -> type[AbstractUser]:
    if "://" in where:
        scheme = where.partition("://")[0]
        if scheme not in DB_LOOKUP:
            raise CommandError(
                f"{scheme}:// is not a database that Tortoise knows: use postgres://, mysql:// or sqlite://."
            )
        try:
            config = generate_config(where, {"models": ["fastapi_pluggable_auth.models"]})
        except (ConfigurationError, ValueError) as error:
            raise CommandError(f"The URL of the database is not valid: {error}.") from error
        await context.init(config=config)
        return User
    config = _config(where)
    try:
        with warnings.catch_warnings(action="ignore"):  # that a module has no models
            await context.init(config=config)
    except (ConfigurationError, KeyError) as error:
        raise CommandError(f"Tortoise refuses {where}: {error}.") from error
    models = [model for app in (context.apps or {}).values() for model in app.values()]
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


def _config(where: str) -> Any:
    """The configuration of this name, such as `settings.TORTOISE_ORM`."""
    name, _, variable = where.rpartition(".")
    if not name or not all(part.isidentifier() for part in where.split(".")):
        raise CommandError(
            f"{where!r} is neither a database URL, such as postgres://user@host/name, nor the name of a"
            " Tortoise configuration, such as settings.TORTOISE_ORM."
        )
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        parent = name.rpartition(".")[0]
        if error.name == name and parent in sys.modules and not hasattr(sys.modules[parent], "__path__"):
            raise CommandError(
                f"{parent} is a module: the configuration must be a variable of it, such as"
                f" {parent}.TORTOISE_ORM, and no attribute of one."
            ) from error
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise CommandError(
                f"There is no module {name} here: run the command in the folder of the app ({folder} is not)."
            ) from error
        raise CommandError(f"{name} cannot be imported: {error}. Install it.") from error
    except Exception as error:
        raise CommandError(f"{name} cannot be imported ({type(error).__name__}: {error}).") from error
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


async def _require_database(user_model: type[AbstractUser]) -> None:
    """Raises `CommandError` behind a pooler that mixes up statements, and where a table is missing or old."""
    await user_model._meta.db.execute_query("SELECT 1")
    if await mixes_up_statements(user_model):
        raise CommandError(str(PoolerError()))
    for model in tables_for(user_model):
        # SQLite takes a column that it does not know for a text.
        if not model._meta.db_fields <= (await columns_of(model._meta.db, model._meta.db_table)).keys():
            raise CommandError(f"The table of {model.__name__} is missing or old: run `tortoise migrate`.")
        await model.first()


def with_auth(
    url: str | None, work: Callable[[Auth], Awaitable[int]], *, signs: bool = False, patient: bool = False
) -> int:
    """Runs a command on the app's database and the settings of the environment; returns its exit status. One
    that `signs` what the app is to verify needs the app's key; a `patient` one waits for its database. Raises
    `CommandError`."""
    if url is None:
        raise CommandError("Set DATABASE_URL, or pass --database-url or --config.")
    settings = read_settings()
    if signs and (problem := sharing_problem(settings)) is not None:
        raise CommandError(problem)

    async def run() -> int:
        async with connected(url, patient=patient) as user_model:
            auth = Auth(settings, user_model=user_model, features=SHIPPED)
            try:
                return await work(auth)
            finally:
                await auth.close()

    return asyncio.run(run())
