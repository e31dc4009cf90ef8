"""Remembers what FastAPI finds out about endpoints: each test builds an app of the same ones, and to read
their signatures again is most of what that takes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

from fastapi import routing
from fastapi.dependencies import utils


def remember() -> None:
    """From here on, of endpoints and bodies that are names of a module: others come and go with their app."""
    utils.get_dependant = routing.get_dependant = _remembering(  # type: ignore[assignment]  # for the tests
        utils.get_dependant, lambda asked: asked["call"], _own
    )
    routing.create_model_field = _remembering(  # type: ignore[assignment]
        routing.create_model_field, lambda asked: asked["type_"], lambda field: field
    )


def _remembering(
    make: Callable[..., Any], subject: Callable[[dict[str, Any]], Any], own: Callable[[Any], Any]
) -> Callable[..., Any]:
    made: dict[object, Any] = {}

    def remembered(**asked: Any) -> Any:
        if not _is_named(subject(asked)):
            return make(**asked)
        key = repr(sorted((name, value) for name, value in asked.items() if name not in ("call", "type_")))
        found = made.get((subject(asked), key))
        if found is None:
            found = made[subject(asked), key] = make(**asked)
        return own(found)

    return remembered


def _own(dependant: Any) -> Any:
    """A copy that a route may add its own dependencies to."""
    dependant = copy.copy(dependant)
    dependant.dependencies = [*dependant.dependencies]
    return dependant


def _is_named(it: Any) -> bool:
    module = sys.modules.get(getattr(it, "__module__", None) or "")
    return module is not None and getattr(module, getattr(it, "__qualname__", ""), None) is it
