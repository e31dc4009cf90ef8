"""Looking rows up, and checking that they are those that were asked for.

A pooler between the app and the database may answer a query with the rows of another one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from tortoise import Model
from tortoise.exceptions import ValidationError
from tortoise.queryset import QuerySet

from ..failures import WrongRowError

M = TypeVar("M", bound=Model)


def every(model: type[M]) -> QuerySet[M]:
    """All rows, also those that a `Manager` of the host hides: what is unique is so among all of them."""
    return QuerySet(model)


async def exact(rows: QuerySet[M], **asked: Any) -> M | None:
    """The one row whose columns have these values, or None. Raises `WrongRowError` for any other.

    Collations fold letters, and MariaDB ignores blanks at the end, so that one row would have as many names
    as there are numbers of blanks: a row with such another spelling counts as none.
    """
    try:
        row = await rows.get_or_none(**asked)
    except ValidationError:  # longer than the column
        return None
    if row is None:
        return None
    different = [name for name, value in asked.items() if getattr(row, name) != _stored(row, name, value)]
    if all(_is_other_spelling(row, name, asked[name]) for name in different):
        return None if different else row
    raise WrongRowError(row._meta.db_table)


def matching(rows: Sequence[M], **asked: Any) -> Sequence[M]:
    """The rows, which were looked up by these values. Raises `WrongRowError` where one has others."""
    for row in rows:
        if any(getattr(row, name) != _stored(row, name, value) for name, value in asked.items()):
            raise WrongRowError(row._meta.db_table)
    return rows


def among(rows: Sequence[M], keys: Collection[Any]) -> Sequence[M]:
    """The rows, which were looked up by these primary keys. Raises `WrongRowError` where one has another."""
    if {row.pk for row in rows} <= {*keys}:
        return rows
    raise WrongRowError(next(iter(rows))._meta.db_table)


def _stored(row: Model, name: str, value: Any) -> Any:
    """The value as a row has it."""
    field = row._meta.fields_map[name]
    return field.to_db_value(value, row) if isinstance(value, str) else field.to_python_value(value)


def _is_other_spelling(row: Model, name: str, asked: Any) -> bool:
    """Whether a collation may take the text for the same."""
    found = getattr(row, name)
    if not (isinstance(asked, str) and isinstance(found, str)):
        return False
    folds = row._meta.db.capabilities.dialect == "mysql"  # also accents
    return folds or found.rstrip().casefold() == asked.rstrip().casefold()
