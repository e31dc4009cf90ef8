"""The column of a moment: UTC, whatever Tortoise's `use_tz` and `timezone` or the process's TZ say."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, TypeVar

from tortoise import Model, fields

from ..security.clock import as_utc, utc_now

M = TypeVar("M", datetime, datetime | None)


class MomentField(fields.DatetimeField[M]):
    """A moment: aware UTC in Python, UTC in the database. SQLite gets text of one form, as it compares texts.
    A naive value means UTC; a number, seconds since 1970."""

    def to_db_value(self, value: Any, instance: Any) -> Any:
        """What every driver takes. What is not a moment, such as the year of a filter `__year`, stays as it
        is."""
        if isinstance(instance, Model) and (
            self.auto_now or (self.auto_now_add and getattr(instance, self.model_field_name) is None)
        ):
            value = utc_now()
            setattr(instance, self.model_field_name, value)
        if _is_moment(value):
            value = self._stored(_moment(value))
        self.validate(value)
        return value

    def to_python_value(self, value: Any) -> Any:
        """Aware UTC."""
        return None if value is None else _moment(value)

    def _stored(self, moment: datetime) -> datetime | str:
        model: Any = self.model
        dialect = None if model is None else model._meta.db.capabilities.dialect
        if dialect == "sqlite":  # a process may tell the driver to write any `datetime` otherwise
            return stored_text(moment)
        # The driver of MySQL knows `datetime` itself and none of its subclasses, as test kits and calendars
        # have them.
        kind = _AnyColumn if dialect == "postgres" else datetime
        return kind.combine(moment.date(), moment.timetz())


def stored_text(moment: datetime) -> str:
    """The form on SQLite: `2026-01-31 09:30:00.000000+00:00`."""
    return as_utc(moment).isoformat(" ", "microseconds")


def _is_moment(value: Any) -> bool:
    """Parts of one that a filter compares are numbers up to 999999, as microseconds."""
    if isinstance(value, str):
        return not value.isdecimal()
    return isinstance(value, date) or (isinstance(value, int | float) and abs(value) > 999_999)


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return as_utc(value)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    return as_utc(datetime.fromisoformat(value))


class _AnyColumn(datetime):
    """A moment that asyncpg writes into columns with a time zone and into those without, for which it
    subtracts a naive one."""

    def __sub__(self, other: Any) -> Any:
        plain = datetime.combine(self.date(), self.timetz())
        return plain - (as_utc(other) if isinstance(other, datetime) else other)
