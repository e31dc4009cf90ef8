"""The columns that a host app adds to the user, as far as its schemas name them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from tortoise.exceptions import IntegrityError, ValidationError

from ..auth import Auth
from ..errors import AuthError, ErrorCode
from ..security.usernames import normalise_username


def stored(auth: Auth, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values that the user has a column for. None stands for no value in a column that cannot be
    empty. Raises `AuthError(VALIDATION_ERROR)` for what is no username, and for numbers out of range."""
    fields = auth.tables.user._meta.fields_map
    kept = {
        name: value
        for name, value in values.items()
        if name in auth.tables.user._meta.fields_db_projection and (value is not None or fields[name].null)
    }
    for name, value in kept.items():
        bounds = fields[name].constraints
        if isinstance(value, int) and not bounds.get("ge", value) <= value <= bounds.get("le", value):
            raise AuthError(ErrorCode.VALIDATION_ERROR)
    if kept.get("username") is not None:
        try:
            kept["username"] = normalise_username(kept["username"])
        except ValueError as error:
            raise AuthError(ErrorCode.VALIDATION_ERROR) from error
    return kept


async def require_free(auth: Auth, columns: Mapping[str, Any], *, owner: UUID | None = None) -> None:
    """Raises `AuthError` for a value that another account has and that has to be unique (USERNAME_TAKEN,
    VALUE_REFUSED), or that refers to nothing (VALUE_REFUSED)."""
    users = auth.tables.user
    for name, value in columns.items():
        field = users._meta.fields_map[name]
        if value is None:
            continue
        if field.unique:
            taken = users.filter(**{name: value})
            if await (taken if owner is None else taken.exclude(id=owner)).exists():
                username = name == "username"
                raise AuthError(ErrorCode.USERNAME_TAKEN if username else ErrorCode.VALUE_REFUSED)
        related: Any = field.reference
        if related is not None:
            key = related.to_field_instance.model_field_name
            if not await related.related_model.exists(**{key: value}):
                raise AuthError(ErrorCode.VALUE_REFUSED)


@asynccontextmanager
async def storing(
    auth: Auth, columns: Mapping[str, Any], *, owner: UUID | None = None
) -> AsyncIterator[None]:
    """Wraps what stores the values. Raises `AuthError` like `require_free`, also after a race, and
    VALIDATION_ERROR for what does not fit its column; `IntegrityError` for what has another cause."""
    await require_free(auth, columns, owner=owner)
    try:
        yield
    except ValidationError as error:
        raise AuthError(ErrorCode.VALIDATION_ERROR) from error
    except IntegrityError:
        await require_free(auth, columns, owner=owner)
        raise
