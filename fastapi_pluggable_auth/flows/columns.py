"""The columns that a host app adds to the user, where its schemas name them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from enum import Enum
from math import isfinite
from types import MappingProxyType
from typing import Any
from uuid import UUID

from tortoise.exceptions import IntegrityError, ValidationError
from tortoise.fields import DecimalField
from tortoise.fields.base import Field

from ..auth import Auth
from ..errors import AuthError, ErrorCode
from ..models import AbstractUser, every
from ..security.usernames import normalise_username


def column_values(auth: Auth, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that the user has a column for. None stands for no value in a column that cannot be
    empty. Raises `AuthError(VALIDATION_ERROR)` for what does not fit its column."""
    users, kept = auth.tables.user, dict[str, Any]()
    for name, value in values.items():
        field = users._meta.fields_map.get(name)
        if field is None or name not in users._meta.fields_db_projection:
            continue
        if value is not None:
            kept[name] = _fitting(auth, name, _username(value) if name == "username" else value)
        elif field.null:
            kept[name] = None
    return kept


def require_all(auth: Auth, values: Mapping[str, Any]) -> None:
    """Raises `AuthError(VALIDATION_ERROR)` for a column of the host that needs a value and has none."""
    users = auth.tables.user._meta
    for name in sorted(users.fields_db_projection.keys() - AbstractUser._meta.fields_map.keys()):
        column = users.fields_map[name]
        automatic = getattr(column, "auto_now_add", False) or getattr(column, "auto_now", False)
        if column.required and not automatic and values.get(name) is None:
            raise AuthError(ErrorCode.VALIDATION_ERROR, field=name)


def extra_values(auth: Auth, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those that the user has no column for, to be read only."""
    columns = auth.tables.user._meta.fields_db_projection
    return MappingProxyType({name: value for name, value in values.items() if name not in columns})


def _username(name: str) -> str:
    try:
        return normalise_username(name)
    except ValueError as error:
        raise AuthError(ErrorCode.VALIDATION_ERROR, field="username") from error


def _fitting(auth: Auth, name: str, value: Any) -> Any:
    field = auth.tables.user._meta.fields_map[name]
    value, bounds = _plain(field, value), field.constraints
    try:
        if isinstance(value, int) and not bounds.get("ge", value) <= value <= bounds.get("le", value):
            raise ValueError("out of bounds")
        if isinstance(value, float | Decimal) and not isfinite(value):  # which not every database takes
            raise ValueError("not finite")
        if isinstance(field, DecimalField):
            value = _rounded(field, Decimal(value))
        field.to_db_value(value, auth.tables.user)
    except (ValidationError, ValueError, TypeError, ArithmeticError) as error:
        raise AuthError(ErrorCode.VALIDATION_ERROR, field=name) from error
    return value


def _plain(field: Field[Any], value: Any) -> Any:
    """As the column has it, also in memory: answers show what was stored."""
    if isinstance(value, Enum) and not issubclass(field.field_type, Enum):
        value = value.value
    return str(value) if field.field_type is str and not isinstance(value, str) else value


def _rounded(field: DecimalField[Any], value: Decimal) -> Decimal:
    rounded = value.quantize(field.quant)
    if rounded.adjusted() >= field.max_digits - field.decimal_places:
        raise ValueError("too many digits")
    return rounded


async def require_free(auth: Auth, columns: Mapping[str, Any], *, owner: UUID | None = None) -> None:
    """Raises `AuthError` for a value that another account has and that has to be unique (USERNAME_TAKEN,
    VALUE_REFUSED), or that refers to nothing (VALUE_REFUSED)."""
    for name in await taken_columns(auth, columns, owner=owner):
        code = ErrorCode.USERNAME_TAKEN if name == "username" else ErrorCode.VALUE_REFUSED
        raise AuthError(code, field=name)
    await require_known_references(auth, columns)


async def taken_columns(auth: Auth, columns: Mapping[str, Any], *, owner: UUID | None = None) -> list[str]:
    """Those whose value has to be unique and belongs to another account. Each is looked up, whatever became
    of those before it."""
    users, found = every(auth.tables.user), []
    for name, value in columns.items():
        if value is None or not users.model._meta.fields_map[name].unique:
            continue
        taken = users.filter(**{name: value})
        if await (taken if owner is None else taken.exclude(id=owner)).exists():
            found.append(name)
    return found


async def require_known_references(auth: Auth, columns: Mapping[str, Any]) -> None:
    """Raises `AuthError(VALUE_REFUSED)` for a value that refers to nothing."""
    for name, value in columns.items():
        related: Any = auth.tables.user._meta.fields_map[name].reference
        if value is not None and related is not None:
            key = related.to_field_instance.model_field_name
            if not await related.related_model.exists(**{key: value}):
                raise AuthError(ErrorCode.VALUE_REFUSED, field=name)


@asynccontextmanager
async def conflicts_refused(
    auth: Auth, columns: Mapping[str, Any], *, owner: UUID | None = None
) -> AsyncIterator[None]:
    """Wraps what stores these values, after `require_free`; raises the same where another request was faster,
    and `IntegrityError` for what has another cause."""
    try:
        yield
    except IntegrityError:
        await require_free(auth, columns, owner=owner)
        raise
