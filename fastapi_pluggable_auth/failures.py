"""What a failure of the database means: an outage, a conflict that passes, a refusal, missing tables."""

from __future__ import annotations

import logging
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from enum import Enum, auto
from types import TracebackType
from typing import Final

from tortoise.exceptions import (
    DBConnectionError,
    IncompleteInstanceError,
    IntegrityError,
    NotExistOrMultiple,
    NoValuesFetched,
    ObjectDoesNotExistError,
    OperationalError,
    TransactionManagementError,
)

logger = logging.getLogger(__name__)


class Failure(Enum):
    """What went wrong, by what can be done about it."""

    CONFLICT = auto()
    """Another transaction was in the way, and all was rolled back: the same may work now."""
    LOCKED = auto()
    """The same, for longer than a statement waits for a row."""
    REFUSED = auto()
    """A constraint or a trigger does not allow the change."""
    UNFIT = auto()
    """A value that its column does not take: too long, out of range, missing, against a check."""
    READ_ONLY = auto()
    """The server is a standby, or has become one."""
    MIXED_UP = auto()
    """A pooler has one client run what another one has prepared."""
    NOT_MIGRATED = auto()
    """A table or a column is missing."""
    UNSUPPORTED = auto()
    """The server does not know a statement, a function or a setting that others have."""
    UNAVAILABLE = auto()
    """The database does not answer, or not as it should."""


PASSING: Final = frozenset({Failure.CONFLICT, Failure.LOCKED})
"""Those after which the same transaction may be tried again."""

_BY_STATE: Final = {
    **dict.fromkeys(("40001", "40P01"), Failure.CONFLICT),
    "55P03": Failure.LOCKED,
    **dict.fromkeys(("23502", "23514"), Failure.UNFIT),
    **dict.fromkeys(("P0001", "44000", "45000"), Failure.REFUSED),
    "25006": Failure.READ_ONLY,
    # There is no such prepared statement, there is one of that name, it has other parameters.
    **dict.fromkeys(("26000", "42P05", "08P01"), Failure.MIXED_UP),
    **dict.fromkeys(("42P01", "42703", "3F000", "42S02", "42S22"), Failure.NOT_MIGRATED),
    **dict.fromkeys(("0A000", "42601", "42704", "42883"), Failure.UNSUPPORTED),
}
"""SQLSTATE: of PostgreSQL, and of MySQL where it says more than HY000."""
_BY_STATE_CLASS: Final = {
    **dict.fromkeys(("23", "38", "45", "P0"), Failure.REFUSED),
    "22": Failure.UNFIT,
}
_BY_PLACE: Final = {
    **dict.fromkeys(("exec_stmt_raise", "exec_stmt_assert", "ExecWithCheckOptions"), Failure.REFUSED),
    "RevalidateCachedQuery": Failure.CONFLICT,
}
"""The function of PostgreSQL that has refused. Triggers choose their SQLSTATE as they like, and a
policy for rows has that of a missing privilege. The last one comes after a migration, to statements that were
prepared before."""
_OF_RULES: Final = frozenset({Failure.CONFLICT, Failure.LOCKED, Failure.UNFIT})
"""What a trigger may say by the SQLSTATE that it chooses."""
_BY_NUMBER: Final = {
    # Deadlock; the row, the table has changed since the snapshot was taken; refused by a cluster.
    **dict.fromkeys((1213, 1020, 1412, 1614, 3101), Failure.CONFLICT),
    1205: Failure.LOCKED,
    **dict.fromkeys((1022, 1062, 1169, 1216, 1217, 1369, 1451, 1452), Failure.REFUSED),
    **dict.fromkeys((1557, 1586, 1644, 1761, 1762), Failure.REFUSED),
    **dict.fromkeys((1048, 1264, 1265, 1267, 1292, 1300, 1364, 1365, 1366, 1406), Failure.UNFIT),
    **dict.fromkeys((1441, 1526, 1690, 3140, 3819, 3988, 4025), Failure.UNFIT),
    **dict.fromkeys((1290, 1792, 1836), Failure.READ_ONLY),
    **dict.fromkeys((1054, 1146), Failure.NOT_MIGRATED),
    **dict.fromkeys((1064, 1193, 1305), Failure.UNSUPPORTED),
}
"""MySQL and MariaDB."""
_BY_NAME: Final = {
    **dict.fromkeys(("BUSY", "LOCKED"), Failure.CONFLICT),
    **dict.fromkeys(("CONSTRAINT_CHECK", "CONSTRAINT_NOTNULL", "CONSTRAINT_DATATYPE"), Failure.UNFIT),
    **dict.fromkeys(("TOOBIG", "MISMATCH"), Failure.UNFIT),
    "CONSTRAINT": Failure.REFUSED,
    "READONLY": Failure.READ_ONLY,
}
"""SQLite, by the longest beginning of the name that is here."""
_MISSING: Final = re.compile(r"no such (table|column)|has no column named")
"""SQLite has one name for all mistakes in a statement."""

_TORTOISE: Final = (OperationalError, DBConnectionError, TransactionManagementError)
_MISTAKES: Final = (NotExistOrMultiple, ObjectDoesNotExistError, NoValuesFetched, IncompleteInstanceError)
"""What Tortoise calls an `OperationalError` as well: the database did its part."""
_DRIVERS: Final = frozenset({"asyncpg", "asyncmy", "aiomysql", "pymysql", "psycopg", "aiosqlite"})
_CLIENTS: Final = re.compile(r"tortoise\.backends\.\w+\.client")
_COMPILED: Final = f"{__package__}.compiled"
"""Asks the clients of Tortoise without the rest of it."""
_OF_NETWORKS: Final = (OSError, EOFError, RuntimeError)
"""What Tortoise raises for nothing but a database; RuntimeError is asyncmy's and uvloop's."""
_PLUMBING: Final = frozenset({*sys.stdlib_module_names, "uvloop"})
_REFERRING: Final = re.compile(r"constraint fails \(`[^`]*`\.`([^`]*)`")
"""How MySQL and MariaDB name the table whose rows refer to one that is to go."""

LONGEST_LINE: Final = 300
"""Characters of what a database says that are logged: a trigger may say anything."""
QUIET_SECONDS: Final = 1.0
"""For how long a failure that was logged is not logged again."""


POOLER_ADVICE: Final = (
    "Behind a pooler that shares connections between transactions, such as pgbouncer with "
    "pool_mode=transaction, add `statement_cache_size=0` to the database URL: "
    "`postgres://...?statement_cache_size=0`."
)


class PoolerError(OperationalError):
    """A pooler mixes up prepared statements."""

    def __init__(self) -> None:
        super().__init__(
            f"A pooler mixes up prepared statements: requests fail, or get other rows. {POOLER_ADVICE}"
        )


class WrongRowError(OperationalError):
    """The database answered with a row that was not asked for."""

    def __init__(self, table: str) -> None:
        super().__init__(f"A query of {table} was answered with a row that it did not ask for.")


class ReadOnlyError(OperationalError):
    """The database says that it takes no writes."""

    def __init__(self) -> None:
        super().__init__("it says so when it is asked")


class NotMigratedError(OperationalError):
    """A table is not there, or lacks a column."""

    def __init__(self, table: str) -> None:
        super().__init__(f"{table} is missing or old")


class DeadlineError(Exception):
    """The database has used its time, and is not done."""


def failure_of(error: BaseException) -> Failure | None:
    """What the failure means, where it is one of the database: an error of Tortoise or of a driver, or any
    other that was raised below them (drivers raise `OSError`, `TimeoutError`, `RuntimeError` and more)."""
    if isinstance(error, DeadlineError):
        return Failure.UNAVAILABLE
    if isinstance(error, WrongRowError | PoolerError):
        return Failure.MIXED_UP
    if isinstance(error, ReadOnlyError):
        return Failure.READ_ONLY
    if isinstance(error, NotMigratedError):
        return Failure.NOT_MIGRATED
    cause = _cause(error)
    if isinstance(error, _MISTAKES):
        return None
    if not (isinstance(error, (*_TORTOISE, sqlite3.Error)) or _comes_from_driver(error)):
        return None
    if isinstance(cause, UnicodeError | OverflowError):  # what no text and no number of the database can be
        return Failure.UNFIT
    for found in (_by_state(cause), _by_number(cause), _by_name(cause)):
        if found is not None:
            return found
    if isinstance(error, IntegrityError):
        return Failure.REFUSED
    if "database is locked" in str(error):
        return Failure.CONFLICT
    return Failure.UNAVAILABLE


def _cause(error: BaseException) -> BaseException:
    """What the driver raised, where Tortoise has raised its own error for it."""
    if isinstance(error, _TORTOISE):
        if error.args and isinstance(error.args[0], Exception):
            return error.args[0]
        if isinstance(error, DBConnectionError):
            return error.__cause__ or error.__context__ or error
    return error


def _comes_from_driver(error: BaseException) -> bool:
    if not isinstance(error, Exception):
        return False
    if any(_root(each.__module__) in _DRIVERS for each in type(error).__mro__):
        return True
    modules = [*_modules(error.__traceback__)]
    if any(map(_is_driver, modules)):
        return True
    # Tortoise calls code of the host: signals, models, what `atomic` decorates.
    innermost = next((each for each in reversed(modules) if _root(each) not in _PLUMBING), "")
    return isinstance(error, _OF_NETWORKS) and (_root(innermost) == "tortoise" or innermost == _COMPILED)


def _modules(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next


def _is_driver(module: str) -> bool:
    return _root(module) in _DRIVERS or _CLIENTS.fullmatch(module) is not None


def _root(module: str) -> str:
    return module.partition(".")[0]


def _by_state(cause: BaseException) -> Failure | None:
    state = getattr(cause, "sqlstate", None)
    if not isinstance(state, str):
        return None
    found = _BY_STATE.get(state) or (None if _number(cause) else _BY_STATE_CLASS.get(state[:2]))
    place = _BY_PLACE.get(getattr(cause, "server_source_function", None) or "")
    return found if found in _OF_RULES or place is None else place


def _by_number(cause: BaseException) -> Failure | None:
    number, state = _number(cause), getattr(cause, "sqlstate", None)
    return _BY_NUMBER.get(number) or _BY_STATE_CLASS.get((state or "")[:2]) if number else None


def _number(cause: BaseException) -> int:
    return cause.args[0] if len(cause.args) > 1 and isinstance(cause.args[0], int) else 0


def _by_name(cause: BaseException) -> Failure | None:
    name = (getattr(cause, "sqlite_errorname", None) or "").removeprefix("SQLITE_")
    while name:
        if name in _BY_NAME:
            return _BY_NAME[name]
        name = name.rpartition("_")[0]
    return Failure.NOT_MIGRATED if isinstance(cause, sqlite3.Error) and _MISSING.search(str(cause)) else None


def table_in(error: BaseException) -> str:
    """The table that a refusal is about: of the rows that refer to one that is to be deleted. Empty where
    the database does not say."""
    cause = _cause(error)
    found = _REFERRING.search(str(cause))
    return str(getattr(cause, "table_name", None) or (found[1] if found else ""))


def sentence(error: BaseException) -> str:
    """The failure in one line for who runs the app, without a value that was to be stored."""
    failure, cause = failure_of(error), _cause(error)
    name, what = type(cause).__name__, _first_line(cause)
    if failure is Failure.NOT_MIGRATED:
        return f"Tables or columns are missing ({what}): run `tortoise migrate`."
    if failure in (Failure.REFUSED, Failure.UNFIT):
        places = (getattr(cause, "table_name", None), getattr(cause, "constraint_name", None))
        where = " ".join(filter(None, places)) or (what if isinstance(cause, sqlite3.IntegrityError) else "")
        return f"The database refuses a change ({': '.join(filter(None, (name, where)))})."
    if failure is Failure.READ_ONLY:
        return f"The database is read-only, as a standby is ({name}: {what})."
    if isinstance(error, PoolerError):
        return str(error)
    advice = f" {POOLER_ADVICE}" if failure is Failure.MIXED_UP else ""
    return f"The database failed ({said_by(error)}).{advice}"


def said_by(error: BaseException) -> str:
    """What the driver calls a failure, and says of it."""
    cause = _cause(error)
    return f"{type(cause).__name__}: {_first_line(cause)}".rstrip(": ")


def _first_line(cause: BaseException) -> str:
    """What fits in a log of it, without what a terminal would obey."""
    line = next(iter(str(cause).splitlines()), "")[:LONGEST_LINE]
    return "".join(each if each.isprintable() else "?" for each in line)


class _Quiet:
    """Logs one failure of each kind a second: while the database is down each request meets it."""

    def __init__(self) -> None:
        self._until: dict[Failure | None, float] = {}
        self._hushed: dict[Failure | None, int] = {}

    def log(
        self, log: logging.Logger, level: int, failure: Failure | None, text: str, error: BaseException
    ) -> None:
        now = time.monotonic()
        if now < self._until.get(failure, 0.0):
            self._hushed[failure] = self._hushed.get(failure, 0) + 1
            return
        self._until[failure] = now + QUIET_SECONDS
        more = f" {hushed} more since the last such line." if (hushed := self._hushed.pop(failure, 0)) else ""
        trace = error if log.isEnabledFor(logging.DEBUG) else None
        log.log(level, "%s%s", text, more, exc_info=trace)


_quiet: Final = _Quiet()


def log_failure(error: BaseException, what: str = "", log: logging.Logger = logger) -> None:
    """Logs a failure of the database, after `what` did not work for it: one line of each kind a second, for
    all requests. The traceback is logged where the level is DEBUG."""
    failure = failure_of(error)
    level = logging.WARNING if failure in (Failure.REFUSED, Failure.UNFIT, *PASSING) else logging.ERROR
    _quiet.log(log, level, failure, f"{what}: {sentence(error)}" if what else sentence(error), error)
