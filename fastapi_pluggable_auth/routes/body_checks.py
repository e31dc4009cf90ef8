"""Whether the bodies that a host passes fit its user model: what would else fail at the first signup."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from uuid import UUID

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    PlainValidator,
    SecretBytes,
    SecretStr,
    WrapValidator,
)
from pydantic.fields import FieldInfo
from tortoise.fields import JSONField
from tortoise.fields.base import Field
from tortoise.fields.relational import (
    BackwardFKRelation,
    ForeignKeyFieldInstance,
    ManyToManyFieldInstance,
)

from ..models import AbstractUser, NamesField
from ..schemas import NotStored, ProfileUpdate, UserCreate, UserOut

OPEN_COLUMNS: Final = {"email", "display_name", "language"}
"""Columns of the package that clients may say of themselves (ASVS 15.3.3); the others keep accounts safe."""

_SCALARS: Final = (bool, int, float, Decimal, str, bytes, datetime, date, time, timedelta, UUID)
"""Types before those that they are kinds of."""

_ALSO: Final[dict[type, set[type]]] = {int: {bool}, float: {int}, Decimal: {int, float}}
"""What a column takes beside values of its type."""

_VALIDATORS: Final = (AfterValidator, BeforeValidator, PlainValidator, WrapValidator)
_RELATIONS: Final = (BackwardFKRelation, ForeignKeyFieldInstance, ManyToManyFieldInstance)
"""What is not a column; one-to-one relations are of these too."""

_SHIPPED: Final = AbstractUser._meta.fields_map


def require_fitting_bodies(
    user_model: type[AbstractUser],
    user_out: type[UserOut],
    user_create: type[UserCreate],
    profile_update: type[ProfileUpdate],
) -> None:
    """Raises `ValueError` where a signup could never store or show a user, where a field goes nowhere, or
    where a body names a column that only the package may write."""
    for body, shipped in ((user_create, UserCreate), (profile_update, ProfileUpdate)):
        _require_safe(body, shipped)
        _require_columns(body, user_model)
    _require_all_given(user_create, user_model)
    _require_readable(user_out, user_model)


def named_by(body: type[BaseModel]) -> frozenset[str]:
    """The columns that a body says something of."""
    return frozenset(body.model_fields) | frozenset(body.model_computed_fields)


def _require_safe(body: type[BaseModel], shipped: type[BaseModel]) -> None:
    misused = (_SHIPPED.keys() - OPEN_COLUMNS) & named_by(body)
    if misused:
        raise ValueError(
            f"{body.__name__} must not name {', '.join(sorted(misused))}: clients would say it of themselves"
        )
    if body.model_config.get("extra") == "allow":
        raise ValueError(f'{body.__name__} must not have extra="allow": clients could set any column')
    for name in ("email", "password"):
        if name in shipped.model_fields and not _keeps(body.model_fields[name], shipped.model_fields[name]):
            like = "NewPassword" if name == "password" else "Email"
            raise ValueError(
                f"{body.__name__}.{name} must keep the rules of the package: declare it with "
                f"fastapi_pluggable_auth.schemas.{like}, or not at all"
            )


def _keeps(own: FieldInfo, shipped: FieldInfo) -> bool:
    """Whether it has every rule of the package, and perhaps more."""
    types, rules = {*value_types(own.annotation)}, _rules_of(own)
    return types <= {str, NoneType} and str in types and all(rule in rules for rule in _rules_of(shipped))


def _rules_of(field: FieldInfo) -> list[Any]:
    """What is annotated: validators, bounds, marks. Also inside of `X | None`."""
    nested = [part for part in get_args(field.annotation) if get_origin(part) is Annotated]
    return [*field.metadata, *(rule for part in nested for rule in get_args(part)[1:])]


def _rewritten(body: type[BaseModel], name: str) -> bool:
    """Whether a function of the host may turn values of this field into those of another type."""
    decorated = body.__pydantic_decorators__.field_validators.values()
    if any({name, "*"} & {*each.info.fields} for each in decorated):
        return True
    return name in body.model_fields and any(
        isinstance(rule, _VALIDATORS) and not _is_ours(rule) for rule in _rules_of(body.model_fields[name])
    )


def _is_ours(validator: Any) -> bool:
    return str(getattr(validator.func, "__module__", "")).startswith(f"{UserCreate.__module__}")


def _require_columns(body: type[BaseModel], user_model: type[AbstractUser]) -> None:
    columns = _columns(user_model)
    stored = [(name, field.annotation) for name, field in body.model_fields.items()]
    stored += [(name, field.return_type) for name, field in body.model_computed_fields.items()]
    for name, annotation in stored:
        if name == "password":
            continue
        unstored = name in body.model_fields and is_not_stored(body.model_fields[name])
        if unstored and issubclass(body, ProfileUpdate):
            raise ValueError(f"{body.__name__}.{name} is NotStored, which is for fields of user_create alone")
        if unstored and name in columns:
            raise ValueError(
                f"{body.__name__}.{name} is NotStored, but {user_model.__name__} has such a column"
            )
        excluded = name in body.model_fields and body.model_fields[name].exclude
        if excluded and name in columns:
            raise ValueError(
                f"{body.__name__}.{name} has exclude=True, which keeps it from {user_model.__name__}.{name}"
            )
        if unstored or excluded:
            continue
        if name not in columns:
            raise ValueError(
                f"{user_model.__name__} has no column for {body.__name__}.{name}"
                + (
                    ""
                    if issubclass(body, ProfileUpdate)
                    else ": where it is for hooks alone, mark it NotStored"
                )
            )
        column = columns[name]
        if column is not None and not _rewritten(body, name) and not _takes(column, annotation):
            raise ValueError(
                f"{body.__name__}.{name} does not fit its column: {user_model.__name__}.{name} is "
                f"{type(column).__name__}"
            )


def is_not_stored(field: FieldInfo) -> bool:
    """Whether a field is for hooks alone."""
    return NotStored in _rules_of(field)


def _columns(user_model: type[AbstractUser]) -> dict[str, Field[Any] | None]:
    """The columns by the names that a body gives them. Those of foreign keys are known once Tortoise is
    initialised, of which type they are as well."""
    columns: dict[str, Field[Any] | None] = {}
    for name, field in user_model._meta.fields_map.items():
        if isinstance(field, ForeignKeyFieldInstance):
            columns.setdefault(f"{name}_id", None)
        elif not isinstance(field, _RELATIONS):
            columns[name] = field
    return columns


def _takes(column: Field[Any], annotation: Any) -> bool:
    """Whether a column takes what a body says, where that is known."""
    types = {*value_types(annotation)} - {NoneType}
    if SecretStr in types or SecretBytes in types:
        return False
    wanted = {*value_types(column.field_type)}
    if isinstance(column, JSONField) or not wanted <= {*_SCALARS}:
        return True
    allowed = wanted.union(*(_ALSO.get(each, ()) for each in wanted))
    return types - {object} <= allowed


def value_types(annotation: Any) -> Iterator[type]:
    """The types of the values, `object` where they are unknown."""
    origin = get_origin(annotation)
    if annotation is None or annotation is NoneType:
        yield NoneType
    elif origin is Annotated:
        yield from value_types(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from value_types(part)
    elif origin is Literal:
        for value in get_args(annotation):
            yield from value_types(type(value))
    elif real := getattr(annotation, "__supertype__", None) or getattr(annotation, "__value__", None):
        yield from value_types(real)  # of a NewType, or of a type alias
    elif isinstance(origin or annotation, type):
        yield from _types_of(origin or annotation)
    else:
        yield object


def _types_of(kind: type) -> Iterator[type]:
    if issubclass(kind, enum.Enum):
        for member in kind:
            yield from _types_of(type(member.value))
    elif issubclass(kind, SecretStr | SecretBytes):
        yield SecretStr if issubclass(kind, SecretStr) else SecretBytes
    elif issubclass(kind, dict | BaseModel):
        yield dict
    elif issubclass(kind, list | tuple | set | frozenset):
        yield list
    else:
        yield next((scalar for scalar in _SCALARS if issubclass(kind, scalar)), object)


def _require_all_given(user_create: type[UserCreate], user_model: type[AbstractUser]) -> None:
    missing = {
        name
        for name, field in user_model._meta.fields_map.items()
        if not (name in _SHIPPED and _SHIPPED[name].required)
        and not isinstance(field, BackwardFKRelation | ManyToManyFieldInstance)
        and field.required
        and not getattr(field, "auto_now_add", False)
        and not getattr(field, "auto_now", False)
        and not {name, f"{name}_id"} & _always_given(user_create)
    }
    if missing:
        raise ValueError(
            f"{user_model.__name__} needs a value for {', '.join(sorted(missing))}: give the column a "
            f"default or null=True, or pass a user_create that asks for it"
        )


def _always_given(body: type[BaseModel]) -> set[str]:
    """What is a value and not None, whatever a client sends."""
    given = {
        name
        for name, field in body.model_fields.items()
        if NoneType not in value_types(field.annotation)
        and (field.is_required() or field.get_default(call_default_factory=False) is not None)
    }
    factories = {name for name, field in body.model_fields.items() if field.default_factory is not None}
    computed = {
        name
        for name, field in body.model_computed_fields.items()
        if NoneType not in value_types(field.return_type)
    }
    return given | factories | computed


def _require_readable(user_out: type[UserOut], user_model: type[AbstractUser]) -> None:
    for name in user_out.model_fields:
        secret = user_model._withheld & {path[0] for path in _paths(user_out, name)}
        if secret:
            raise ValueError(f"{user_out.__name__} must not show {', '.join(sorted(map(str, secret)))}")
    validators = user_out.__pydantic_decorators__.model_validators.values()
    if any(each.info.mode != "after" for each in validators):  # which may make anything of a user
        return
    for name, field in user_out.model_fields.items():
        path = _path_read(user_out, name, user_model)
        read, where = str(path[0]), f"{user_out.__name__}.{name}"
        _require_attribute(where, field, user_model, read)
        column = _columns(user_model).get(read)
        if column is not None and len(path) == 1 and not _rewritten(user_out, name):
            _require_shown(where, field, user_model, column)


def _paths(user_out: type[UserOut], name: str) -> list[list[int | str]]:
    """Where Pydantic looks for a field, one after the other."""
    field, config = user_out.model_fields[name], user_out.model_config
    alias = field.validation_alias or field.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias] if alias else []
    paths: list[list[int | str]] = [each.path if isinstance(each, AliasPath) else [each] for each in choices]
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    return [*paths, [name]] if by_name or not paths else paths


def _path_read(user_out: type[UserOut], name: str, user_model: type[AbstractUser]) -> list[int | str]:
    """The first of them that users have, or the last."""
    paths = _paths(user_out, name)
    return next((path for path in paths if _has(user_model, str(path[0]))), paths[-1])


def _has(user_model: type[AbstractUser], name: str) -> bool:
    there = {*_columns(user_model), *user_model._meta.fields_map}
    return name in there or inspect.getattr_static(user_model, name, None) is not None


def _require_attribute(where: str, field: FieldInfo, user_model: type[AbstractUser], read: str) -> None:
    """Raises `ValueError` where users have no such attribute, or one that is not a value."""
    users = user_model.__name__
    if isinstance(user_model._meta.fields_map.get(read), _RELATIONS):
        raise ValueError(
            f"{where}: the relation {users}.{read} is not read along with a user: show a column of it"
        )
    attribute = inspect.getattr_static(user_model, read, None)
    compute = attribute.fget if isinstance(attribute, property) else None
    if inspect.iscoroutinefunction(compute or attribute):
        raise ValueError(f"{where}: {users}.{read} is async, and cannot be awaited for an answer")
    if inspect.isfunction(attribute):
        raise ValueError(f"{where}: {users}.{read} is a method: make it a property")
    if field.is_required() and not _has(user_model, read):
        cure = "" if where.endswith(f".{read}") else ": with an alias for answers, set populate_by_name=True"
        raise ValueError(f"{where}: {users} has no column and no property {read}{cure}")


def _require_shown(where: str, field: FieldInfo, user_model: type[AbstractUser], column: Field[Any]) -> None:
    """Raises `ValueError` where the field would not take what is in the column."""
    types, users = {*value_types(field.annotation)}, user_model.__name__
    if object in types:
        return
    if column.null and NoneType not in types:
        raise ValueError(f"{where} must be `| None`, as {users}.{column.model_field_name} may be empty")
    stored = {*value_types(column.field_type)}
    if isinstance(column, JSONField | NamesField) or not stored <= {*_SCALARS}:
        return
    never = {dict, list} if stored == {str} else {dict, list, str}
    if types - {NoneType} <= never:
        raise ValueError(
            f"{where} does not fit its column: {users}.{column.model_field_name} is {type(column).__name__}"
        )
