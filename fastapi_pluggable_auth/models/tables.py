"""The models of one app."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from tortoise import Model

from ..database import read_where_written
from . import shipped
from .device import AbstractDevice, Device
from .mail import AbstractMail, Mail
from .own import require_user_model
from .pending import AbstractPending, Pending
from .session import AbstractRefreshToken, AbstractSession, RefreshToken, Session
from .throttle import AbstractThrottle, Throttle
from .user import U, U_co, User

M = TypeVar("M", bound=Model)

_OURS: Final[tuple[type[Model], ...]] = (
    User,
    Session,
    RefreshToken,
    Mail,
    Device,
    Pending,
    Throttle,
    *shipped.TABLES,
)
"""Each refers to earlier ones only."""

_AS_THEY_ARE: Final[Mapping[type[Model], type[Model]]] = {model: model for model in _OURS}


class BringsTables(Protocol):
    """What is read of a feature here: its tables."""

    @property
    def tables(self) -> Collection[type[Model]]:
        """Its models."""


class Tables(Generic[U_co]):
    """The models that an app uses for its accounts, by those of the package and of its features; each refers
    to earlier ones only."""

    def __init__(self, models: Mapping[type[Model], type[Model]] = _AS_THEY_ARE) -> None:
        read_where_written(*models.values())  # also those of features of others
        self._models = models
        self.user: type[U_co] = cast(Any, self.of(User))
        self.session: type[AbstractSession] = self.of(Session)
        self.refresh_token: type[AbstractRefreshToken] = self.of(RefreshToken)
        self.mail: type[AbstractMail] = self.of(Mail)
        self.device: type[AbstractDevice] = self.of(Device)
        self.pending: type[AbstractPending] = self.of(Pending)
        self.throttle: type[AbstractThrottle] = self.of(Throttle)

    def of(self, model: type[M]) -> type[M]:
        """What the app has for a table of the package or of one of its features: that, or for another user
        model a copy with the same columns. Raises `LookupError` for any other model."""
        try:
            return cast(type[M], self._models[model])
        except KeyError:
            raise LookupError(
                f"{model.__name__} is not a table of this app: pass the feature that has it to "
                f"include_auth(features=[...]), and for your own user model to tables_for(User, ...)."
            ) from None

    def __iter__(self) -> Iterator[type[Model]]:
        """One after the other."""
        return iter(self._models.values())


def tables_for(user_model: type[U], *features: BringsTables) -> Tables[U]:
    """The models around a user model: those of this module and of these features, or for another user copies
    that refer to it. The host lists them in the module of its user: `__models__ = [*tables_for(User), Note]`.
    Raises `ValueError` where accounts could not live in this model."""
    require_user_model(user_model)
    theirs = [table for feature in features for table in feature.tables]
    tables: Tables[U] = _tables_for(user_model, tuple(dict.fromkeys((*_OURS, *theirs))))
    return tables


@cache  # which knows nothing of type variables
def _tables_for(user_model: type[Any], wanted: tuple[type[Model], ...]) -> Tables[Any]:
    own: dict[type[Model], type[Model]] = {User: user_model}
    for model in wanted:
        needs_copy = user_model is not User and (
            # A process may have apps under several labels.
            model in _OURS or any(own.get(target, target) is not target for target in _targets(model))
        )
        if model is not User:
            own[model] = _copy(user_model, model, own) if needs_copy else model
    return Tables(own)


_copies: Final[dict[tuple[type[Model], type[Model]], type[Model]]] = {}
"""By user model and table: however many features an app names, and in whatever order, it has one of each."""


def _copy(user_model: type[Any], model: type[Model], own: Mapping[type[Model], type[Model]]) -> type[Model]:
    """The same table in the module of the user; its name leaves room for models of the host."""
    if (user_model, model) in _copies:
        return _copies[user_model, model]
    meta = model._meta
    options = {
        "abstract": False,  # as is the class whose `Meta` a table without one has
        "table": meta.db_table or model.__name__.lower(),
        "manager": type(meta.manager)(),  # which knows its model
    }
    attributes: dict[str, Any] = {
        **{name: value for name, value in vars(model).items() if _is_behaviour(model, name)},
        # Else it would share those of its bases, which know one model each.
        **{name: deepcopy(meta.fields_map[name]) for name in _columns_of(model)},
        "__module__": user_model.__module__,
        "__doc__": model.__doc__,
        "Meta": type("Meta", (getattr(model, "Meta", object),), options),
    }
    for name, relation in _relations(model):
        _, _, arguments = relation.deconstruct()
        arguments["model_name"] = own.get(relation.model_name, relation.model_name)
        attributes[name] = type(relation)(**arguments)
    made = type(f"Auth{model.__name__}", model.__bases__, attributes)
    _copies[user_model, model] = made
    return made


def _relations(model: type[Model]) -> Iterator[tuple[str, Any]]:
    for name in (*model._meta.fk_fields, *model._meta.o2o_fields):
        yield name, model._meta.fields_map[name]


def _targets(model: type[Model]) -> Iterator[type[Model]]:
    """The models that it refers to by their classes."""
    return (field.model_name for _, field in _relations(model) if isinstance(field.model_name, type))


def _columns_of(model: type[Model]) -> list[str]:
    """All but the keys of its relations, which Tortoise makes."""
    keys = {relation.source_field or f"{name}_id" for name, relation in _relations(model)}
    return [name for name in model._meta.fields_db_projection if name not in keys]


_MADE: Final = {"Meta", "PydanticMeta", "_meta"}
"""What each model has its own of."""


def _is_behaviour(model: type[Model], name: str) -> bool:
    """Whether an attribute of the class is what somebody has written there, and no column."""
    return not (name.startswith("__") or name in _MADE or name in model._meta.fields_map)
