"""What went wrong, as a sentence that says what to do about it, for the person who runs a command."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from pydantic import ValidationError
from tortoise.exceptions import ConfigurationError

from ..config import AuthSettings
from ..failures import failure_of, sentence


class CommandError(Exception):
    """A sentence, or a few lines, for the operator; the command ends with this status."""

    status = 1


class UsageError(CommandError):
    """An argument that is not good, which shows only once the app or its database is known."""

    status = 2


class UnreachableError(CommandError):
    """No database answers; one may later."""


REFUSED: Final = frozenset({"28000", "28P01", 1044, 1045, 1698})
NO_DATABASE: Final = frozenset({"3D000", 1049})
NO_TABLE: Final = frozenset({"42P01", "42703", 1054, 1146})
NO_RIGHT: Final = frozenset({"42501", 1142, 1143})
FULL: Final = frozenset({"53300", 1040})


def read_settings(**options: Any) -> AuthSettings:
    """The settings of the environment; raises `CommandError`, a line for each that is not valid. A variable
    that no setting reads is reported on standard error."""
    with valid_settings():
        settings = AuthSettings(**options)
    for problem in settings.ignored_names():
        print(f"warning: {problem}", file=sys.stderr)
    return settings


@contextmanager
def valid_settings() -> Iterator[None]:
    """The same around what reads them."""
    try:
        yield
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        raise CommandError("\n".join(lines)) from error


def fault(
    error: Exception, credentials: Mapping[str, Any], *, connecting: bool = True
) -> CommandError | None:
    """What to say of a database that refuses or does not answer; None where it is something else, which a
    failure of the operating system may be when not `connecting`. The credentials are those of the connection;
    none of its secrets is shown."""
    where, causes = _where(credentials), [*_causes(error)]
    if not connecting and failure_of(error) is None:
        return None
    codes = {code for cause in causes for code in _codes(cause)}
    if codes & REFUSED:
        return CommandError(f"The database server at {where} refuses the user or the password: check both.")
    if codes & NO_DATABASE:
        return CommandError(
            f"There is no database {credentials.get('database')} at {where}: check its name, or create it."
        )
    if codes & NO_TABLE or any(_lacks_table(cause) for cause in causes):
        return CommandError(
            f"A table or a column is missing ({_first_line(causes[-1])}): run `tortoise migrate`."
        )
    if codes & NO_RIGHT:
        return CommandError(
            f"The database user may not do this ({_first_line(causes[-1])}): it needs SELECT, INSERT, UPDATE"
            " and DELETE on all tables of the app."
        )
    if codes & FULL:
        return UnreachableError(
            f"The database server at {where} has no connection left: try again, or raise its limit."
        )
    if isinstance(error, ImportError):
        return CommandError(f"The driver of the database is missing: install {error.name}.")
    for cause in reversed(causes):
        if "file is not a database" in str(cause):
            return CommandError(f"{credentials.get('file_path')} is not a SQLite database: check the path.")
        if isinstance(cause, socket.gaierror):
            return UnreachableError(
                f"The host of the database is not known: {credentials.get('host')}. Check its name."
            )
        if isinstance(cause, TimeoutError):
            return UnreachableError(
                f"The server at {where} does not answer as a database: check host and port."
            )
        if isinstance(cause, OSError):
            return UnreachableError(
                f"No database answers at {where}: check host and port ({_first_line(cause)})."
            )
    if isinstance(error, ConfigurationError):
        return CommandError(f"Tortoise refuses the configuration: {error}.")
    mistakes = [cause for cause in causes if isinstance(cause, TypeError | ValueError)]
    if connecting and mistakes:
        return CommandError(
            f"The driver of the database refuses an option of the connection ({_first_line(mistakes[-1])}):"
            " check the URL, or the `credentials` of the configuration."
        )
    return CommandError(sentence(error)) if failure_of(error) is not None else None


def _where(credentials: Mapping[str, Any]) -> str:
    if "file_path" in credentials:
        return str(credentials["file_path"])
    return f"{credentials.get('host') or 'localhost'}:{credentials.get('port')}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was made of; what the driver said comes last."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        inner = seen.args[0] if seen.args and isinstance(seen.args[0], BaseException) else None
        seen = inner or seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _codes(cause: BaseException) -> Iterator[object]:
    yield getattr(cause, "sqlstate", None)
    if len(cause.args) > 1:  # MariaDB and MySQL
        yield cause.args[0] if isinstance(cause.args[0], int) else None


def _lacks_table(cause: BaseException) -> bool:
    return "no such table" in str(cause) or "no such column" in str(cause)


def _first_line(cause: BaseException) -> str:
    text = cause.args[-1] if cause.args and isinstance(cause.args[-1], str) else str(cause)
    return next(iter(text.splitlines()), type(cause).__name__)
