"""Whether an app can serve its users now, for the route that a load balancer or an orchestrator asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from tortoise.connection import get_connections

from ._frameworks import root_of
from .database import drop_connections, is_read_only
from .errors import AuthError
from .failures import Failure, NotMigratedError, ReadOnlyError, failure_of
from .migrations._inspection import columns_of
from .models import Tables

LIMIT: Final = timedelta(seconds=2)
"""How long the database may take to answer, where `database_timeout` is no shorter."""


class NotReady(StrEnum):
    """Why an app cannot serve its users."""

    NOT_INITIALISED = "database_not_initialised"
    UNAVAILABLE = "database_unavailable"
    READ_ONLY = "database_read_only"
    NOT_MIGRATED = "database_not_migrated"
    MIXED_UP = "pooler_mixes_up_statements"


_BY_FAILURE: Final[Mapping[Failure | None, NotReady]] = {
    Failure.READ_ONLY: NotReady.READ_ONLY,
    Failure.NOT_MIGRATED: NotReady.NOT_MIGRATED,
    Failure.MIXED_UP: NotReady.MIXED_UP,
}


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the app can serve its users, which is its truth value. `reason` says why not, and nothing of
    the database but that: it may be shown to anyone."""

    reason: NotReady | None = None

    def __bool__(self) -> bool:
        return self.reason is None

    @property
    def status(self) -> int:
        """Of the answer: 200 or 503."""
        return 200 if self else 503

    @classmethod
    def of(cls, refusal: AuthError) -> Readiness:
        """That of an app whose database was asked and has failed."""
        cause = refusal.__cause__
        if cause is None:
            return cls(NotReady.NOT_INITIALISED)
        return cls(_BY_FAILURE.get(failure_of(cause), NotReady.UNAVAILABLE))


class TablesWatch:
    """Looks whether the database of an app takes writes and has its tables."""

    def __init__(self, tables: Tables[Any]) -> None:
        self._tables = tables
        self._complete = False

    async def look(self) -> None:
        """Raises what the database does, `ReadOnlyError` and `NotMigratedError`. Tables that were complete
        once are not looked at again."""
        client = get_connections().get(str(self._tables.user._meta.default_connection))
        if await is_read_only(client):
            # Where the app gets no requests meanwhile, none of them would meet the same, and see to it.
            await drop_connections(root_of(client))
            raise ReadOnlyError
        if self._complete:
            await client.execute_query("SELECT 1")  # which SQLite was not asked yet
            return
        for model in self._tables:
            meta = model._meta
            # SQLite takes a column that it does not know for a text: it has to be asked for them.
            if not meta.db_fields <= (await columns_of(client, meta.db_table)).keys():
                raise NotMigratedError(meta.db_table)
        self._complete = True
