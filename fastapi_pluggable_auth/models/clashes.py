"""Whether the tables of the package are the only ones of their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tortoise import Model

from .._frameworks import modules_of
from .tables import Tables

_LEAVE_OUT: Final = "leave fastapi_pluggable_auth.models out of Tortoise's modules"
_CURE: Final = (
    'make your model the account, or give one of them another name: see "Your app has users already" in '
    "docs/own-user.md"
)


def require_own_tables(tables: Tables, apps: Any) -> None:
    """Raises `RuntimeError` where Tortoise was given another model with the table, or under one label the
    name, of one of these. `apps` are those of an initialised Tortoise."""
    models = [model for label in apps.values() for model in label.values()]
    # The package's own models beside those for a user of the host do no harm, where the tables are there.
    _require_places(tables, (model for model in models if not _is_shipped(model)))
    for ours in tables:
        theirs = next(_hidden(ours, apps), None)
        if theirs is not None:
            raise RuntimeError(
                f"{_named(theirs)} and {_named(ours)} are both {ours.__name__!r} under the label "
                f"{ours._meta.app!r}, where Tortoise keeps one of them: {_CURE}."
            )


def require_own_tables_to_make(tables: Tables, apps: Any | None) -> None:
    """The same where Tortoise could not make the tables; without `apps`, of all that it was given."""
    if apps is not None:
        _require_places(tables, (model for label in apps.values() for model in label.values()))
    else:
        known = (model for model in _all_below(Model) if model._meta.app and not model._meta.abstract)
        _require_places(tables, known)


def _require_places(tables: Tables, models: Iterable[type[Model]]) -> None:
    own = {_place(model): model for model in tables}
    for theirs in models:
        ours = own.get(_place(theirs))
        if ours is not None and ours is not theirs:
            raise RuntimeError(
                f"{_named(theirs)} and {_named(ours)} are both the table {ours._meta.db_table!r}: "
                f"{_LEAVE_OUT if _is_shipped(theirs) else _CURE}."
            )


def _place(model: type[Model]) -> tuple[str | None, str | None, str]:
    meta = model._meta
    return meta.default_connection, meta.schema, (meta.db_table or model.__name__).lower()


def _hidden(ours: type[Model], apps: Any) -> Iterator[type[Model]]:
    """The others of its name and label."""
    label: Mapping[str, type[Model]] = dict(apps.items()).get(ours._meta.app) or {}
    kept = label.get(ours.__name__)
    if kept is None:
        return
    if kept is not ours:
        yield kept
    given = {str(getattr(module, "__name__", module)) for module in modules_of(apps, ours._meta.app)}
    for model in _all_below(Model):
        same = (model.__name__, model._meta.app) == (ours.__name__, ours._meta.app)
        if same and model is not ours and model.__module__ in given and not model._meta.abstract:
            yield model


def _all_below(model: type[Model]) -> Iterator[type[Model]]:
    for below in model.__subclasses__():
        yield below
        yield from _all_below(below)


def _is_shipped(model: type[Model]) -> bool:
    """Also those of the package's features."""
    return model.__module__.partition(".")[0] == __name__.partition(".")[0]


def _named(model: type[Model]) -> str:
    return f"{model.__module__}.{model.__name__}"
