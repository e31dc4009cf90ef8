"""Moments: UTC in every database, whatever Tortoise and the process take for the local time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from tortoise.context import TortoiseContext
from tortoise.exceptions import ConfigurationError
from tortoise.fields import DatetimeField

from fastapi_pluggable_auth.models import AbstractUser, MomentField, Tables, User

from .conftest import Database

EAST = timezone(timedelta(hours=8))
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Day(datetime):
    """As the libraries for calendars and those that stop the clock have it."""


@pytest.fixture
def any_adapter() -> Iterator[None]:
    """The recipe of Python's documentation, which some apps follow."""
    sqlite3.register_adapter(datetime, lambda moment: moment.replace(tzinfo=None).isoformat())
    yield
    sqlite3.register_adapter(datetime, lambda moment: moment.isoformat(" "))


async def text_of(context: TortoiseContext, dialect: str, column: str) -> str:
    """What is in the row, as the database spells it."""
    cast = "CHAR" if dialect == "mysql" else "VARCHAR"
    table = "`user`" if dialect == "mysql" else '"user"'
    sql = f"SELECT CAST({column} AS {cast}) AS stored FROM {table}"
    (row,) = await context.connections.get(dialect).execute_query_dict(sql)
    return str(row["stored"])


STORED = {
    "sqlite": "2026-01-31 12:00:00.000000+00:00",
    "mysql": "2026-01-31 12:00:00.000000",
}


@pytest.mark.parametrize(
    "given",
    [
        NOON,
        NOON.replace(tzinfo=None),
        NOON.astimezone(EAST),
        "2026-01-31T12:00:00Z",
        "2026-01-31 20:00:00+08:00",
        "20260131T120000",
        int(NOON.timestamp()),
        Day.fromtimestamp(NOON.timestamp(), EAST),
    ],
    ids=["utc", "naive", "east", "text", "text of the east", "short text", "seconds", "a subclass"],
)
async def test_a_moment_is_stored_in_one_form_however_it_was_given(
    tortoise: TortoiseContext, database: Database, given: object, any_adapter: None
) -> None:
    user = await User.create(email="ada@example.com", hashed_password="-", last_login_at=given)
    assert user.last_login_at == NOON
    dialect = database.dialect
    stored = await text_of(tortoise, dialect, "last_login_at")
    assert stored == STORED.get(dialect, stored)
    await User.filter(id=user.id).update(last_login_at=given)
    assert await text_of(tortoise, dialect, "last_login_at") == stored
    await User.bulk_create([User(email="bob@example.com", hashed_password="-", last_login_at=given)])
    await User.bulk_update([user], ["last_login_at"])
    found = await User.filter(last_login_at=given, last_login_at__lte=given, last_login_at__in=[given])
    assert [each.last_login_at for each in found] == [NOON, NOON]
    values = await User.all().values_list("last_login_at", "created_at")
    assert all(moment.tzinfo is UTC for row in values for moment in row)
    assert await User.filter(last_login_at__gt=given).count() == 0
    if dialect != "sqlite":  # where Tortoise has no such filter
        assert await User.filter(last_login_at__year=2026).count() == 2


def test_every_moment_has_the_column_of_moments() -> None:
    moments = [
        column
        for model in Tables()
        for column in model._meta.fields_map.values()
        if isinstance(column, DatetimeField)
    ]
    assert len(moments) > 20
    assert all(isinstance(column, MomentField) for column in moments)


def test_an_own_user_model_keeps_the_columns_of_moments() -> None:
    with pytest.raises(ConfigurationError, match=r"Customer.created_at must be a MomentField"):
        type("Customer", (AbstractUser,), {"__module__": __name__, "created_at": DatetimeField()})
