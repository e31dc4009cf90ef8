"""The column of a moment: UTC, whatever Tortoise's `use_tz` and `timezone` or the process's TZ say."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, TypeVar

from tortoise import fields

from ..security.clock import as_utc, utc_now

M = TypeVar("M", datetime, datetime | None)


class MomentField(fields.DatetimeField[M]):
    """A moment: aware UTC in Python, UTC in the database. SQLite gets text of one form, as it compares texts.
    A naive value means UTC; a number, seconds since 1970."""

    def to_db_value(self, value: Any, instance: Any) -> Any:
        """What every driver takes. What is no moment, as the year of a filter `__year`, stays as it is."""
        if hasattr(instance, "_saved_in_db") and (
            self.auto_now or (self.auto_now_add and getattr(instance, self.model_field_name) is None)
        ):
            value = utc_now()
            setattr(instance, self.model_field_name, value)
        if isinstance(value, date) or (isinstance(value, str) and "-" in value):
            value = self._stored(_moment(value))
        self.validate(value)
        return value

    def to_python_value(self, value: Any) -> Any:
        """Aware UTC."""
        return None if value is None else _moment(value)

    def _stored(self, moment: datetime) -> datetime:
        model: Any = self.model
        # The driver of MySQL knows `datetime` itself and none of its subclasses.
        exact = model is not None and model._meta.db.capabilities.dialect == "mysql"
        return moment if exact else _Stored.combine(moment.date(), moment.timetz())


def stored_text(moment: datetime) -> str:
    """The form on SQLite: `2026-01-31 09:30:00.000000+00:00`."""
    return as_utc(moment).isoformat(" ", "microseconds")


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return as_utc(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return as_utc(datetime.fromisoformat(value))


class _Stored(datetime):
    """A moment as drivers take it, which a process may tell to write any `datetime` otherwise."""

    def __conform__(self, protocol: object) -> str:
        """For sqlite3."""
        return stored_text(self)

    def __sub__(self, other: Any) -> Any:
        """For asyncpg, which subtracts a naive moment for a column without a time zone."""
        plain = datetime.combine(self.date(), self.timetz())
        return plain - (as_utc(other) if isinstance(other, datetime) else other)
