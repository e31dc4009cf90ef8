"""The models of one app."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from functools import cache
from typing import Any, Generic

from tortoise import Model
from tortoise.fields.relational import ForeignKeyFieldInstance

from .audit import AbstractAuditEvent, AuditEvent
from .device import AbstractDevice, Device
from .mail import AbstractMail, Mail
from .own import require_user_model
from .personal_token import AbstractPersonalToken, PersonalToken
from .recovery_code import AbstractRecoveryCode, RecoveryCode
from .session import AbstractRefreshToken, AbstractSession, RefreshToken, Session
from .throttle import AbstractThrottle, Throttle
from .user import U, U_co, User


@dataclass(frozen=True, slots=True)
class Tables(Generic[U_co]):
    """The models that an app uses for its accounts; each refers to earlier ones only."""

    user: type[U_co] = User  # type: ignore[assignment]  # where no other is named
    session: type[AbstractSession] = Session
    refresh_token: type[AbstractRefreshToken] = RefreshToken
    mail: type[AbstractMail] = Mail
    recovery_code: type[AbstractRecoveryCode] = RecoveryCode
    personal_token: type[AbstractPersonalToken] = PersonalToken
    device: type[AbstractDevice] = Device
    throttle: type[AbstractThrottle] = Throttle
    audit_event: type[AbstractAuditEvent] = AuditEvent

    def __iter__(self) -> Iterator[type[Model]]:
        """One after the other."""
        return (getattr(self, field.name) for field in dataclass_fields(self))


def tables_for(user_model: type[U]) -> Tables[U]:
    """The models around a user model: those of this module, or for another user copies that refer to it. The
    host lists them in the module of its user: `__models__ = [*tables_for(User), Note]`. Raises `ValueError`
    where accounts could not live in this model."""
    require_user_model(user_model)
    tables: Tables[U] = _tables_for(user_model)
    return tables


@cache  # which knows nothing of type variables
def _tables_for(user_model: type[Any]) -> Tables[Any]:
    if user_model is User:
        return Tables()
    own: dict[type[Model], type[Model]] = {User: user_model}
    made: dict[str, Any] = {}
    for field, shipped in zip(dataclass_fields(Tables), Tables(), strict=True):
        made[field.name] = own[shipped] = own.get(shipped) or _copy_for(user_model, shipped, own)
    return Tables(**made)


def _copy_for(
    user_model: type[Any], shipped: type[Model], own: dict[type[Model], type[Model]]
) -> type[Model]:
    """The same table in the module of the user; its name leaves room for models of the host."""
    options = {"table": shipped._meta.db_table or shipped.__name__.lower(), "indexes": shipped._meta.indexes}
    attributes: dict[str, Any] = {
        "__module__": user_model.__module__,
        "__doc__": shipped.__doc__,
        "Meta": type("Meta", (), options),
    }
    for name in shipped._meta.fk_fields:
        foreign_key: Any = shipped._meta.fields_map[name]
        _, _, options = foreign_key.deconstruct()
        options["model_name"] = own[foreign_key.model_name]
        attributes[name] = ForeignKeyFieldInstance(**options)
    return type(f"Auth{shipped.__name__}", shipped.__bases__, attributes)
