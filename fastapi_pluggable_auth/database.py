"""What the library needs to know of Tortoise's connections: is there one, and is the database down?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tortoise.context import TortoiseContext, get_current_context
from tortoise.exceptions import DBConnectionError, OperationalError

from .errors import AuthError, ErrorCode

logger = logging.getLogger(__name__)


def _driver_errors() -> tuple[type[Exception], ...]:
    """Errors that Tortoise passes on from the driver as they are."""
    try:
        import asyncpg  # type: ignore[import-untyped]  # ships no types
    except ImportError:  # pragma: no cover - the tests install every driver
        return ()
    return (asyncpg.PostgresError, asyncpg.InterfaceError)


POSTGRES_TRANSIENT: Final = frozenset({"40001", "40P01"})
MYSQL_TRANSIENT: Final = frozenset({1205, 1213})

DATABASE_ERRORS: tuple[type[Exception], ...] = (
    OperationalError,
    DBConnectionError,
    OSError,
    TimeoutError,
    *_driver_errors(),
)


def current_context() -> TortoiseContext | None:
    """The Tortoise set-up that this task sees, if it is initialised."""
    context = get_current_context()
    return context if context is not None and context.inited else None


def is_transient(error: Exception) -> bool:
    """Whether the database broke a deadlock, or could not serialise: the same transaction may work now."""
    cause = error.args[0] if error.args else None
    number = cause.args[0] if isinstance(cause, Exception) and cause.args else None
    return (
        getattr(error, "sqlstate", None) in POSTGRES_TRANSIENT
        or number in MYSQL_TRANSIENT
        or "database is locked" in str(error)
    )


@contextmanager
def database_errors() -> Iterator[None]:
    """Turns a failing database into `AuthError`: 503 for the client, the cause for the log."""
    if current_context() is None:
        logger.error(
            "Tortoise ORM is not initialised for this request. Open it in the app's lifespan with "
            "`async with RegisterTortoise(app, ...)`, or call `await Tortoise.init(...)` before the first "
            "request; a mounted app needs it in the app that is served."
        )
        raise AuthError(ErrorCode.DATABASE_NOT_INITIALISED)
    try:
        yield
    except DATABASE_ERRORS as error:
        logger.exception("The database failed")
        raise AuthError(ErrorCode.DATABASE_UNAVAILABLE, retry_after=1) from error
