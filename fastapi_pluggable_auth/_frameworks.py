"""Every private name of FastAPI, Starlette and Tortoise that the package uses.

Each function says what for, and what to do when the name goes. `Model._meta` is not among them: there is no
other way to the columns of a model, and all that extends Tortoise goes by it, its own contrib packages too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from tortoise import Model

M = TypeVar("M", bound=Model)


def model_of_row(model: type[M], row: Mapping[str, Any]) -> M:
    """A saved model of what a row has in the columns of its table; the row may have others. For what is read
    by a statement that was built once. Without `_init_from_db`: `model.raw(sql)`, which has no parameters, or
    `model.filter(...)`, which builds its SQL each time."""
    return model._init_from_db(**row)
