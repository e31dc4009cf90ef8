"""Looking rows up."""

from __future__ import annotations

from typing import TypeVar

from tortoise import Model
from tortoise.exceptions import ValidationError
from tortoise.queryset import QuerySet

M = TypeVar("M", bound=Model)


def every(model: type[M]) -> QuerySet[M]:
    """All rows, also those that a `Manager` of the host hides: what is unique is so among all of them."""
    return QuerySet(model)


async def exact(rows: QuerySet[M], **texts: str) -> M | None:
    """The one row that has these texts, as their columns spell them, or None.

    What the database found is compared again: collations fold letters, and MariaDB ignores blanks at the end,
    so that one row would have as many names as there are numbers of blanks.
    """
    try:
        row = await rows.get_or_none(**texts)
    except ValidationError:  # longer than the column
        return None
    if row is None:
        return None
    fields = row._meta.fields_map
    same = all(getattr(row, name) == fields[name].to_db_value(text, row) for name, text in texts.items())
    return row if same else None
