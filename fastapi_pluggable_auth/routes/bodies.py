"""The bodies of one app: those of the package, or the subclasses that the host passes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeAlias

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from tortoise.fields.relational import BackwardFKRelation, ManyToManyFieldInstance

from ..models import AbstractUser, NamesField
from ..schemas import (
    LoginData,
    NamedLoginData,
    NamedUserCreate,
    NamedUserOut,
    ProfileUpdate,
    UserCreate,
    UserOut,
)

Bodies: TypeAlias = Mapping[type[BaseModel], type[BaseModel]]
"""What stands in for a body of the package, in this app only."""

OPEN_COLUMNS: Final = {"email", "display_name", "language", "is_active", "is_verified"}
"""Columns of the package that a schema of the host may name; the others keep accounts safe."""


def bodies_of(
    user_model: type[AbstractUser],
    user_out: type[UserOut] | None,
    user_create: type[UserCreate] | None,
    profile_update: type[ProfileUpdate] | None,
) -> Bodies:
    """The bodies of an app with this user model. Raises `ValueError` where a signup could never store a user,
    or a body names a column that only the package may write."""
    username = user_model._meta.fields_map.get("username")
    if username is not None and not username.unique:
        raise ValueError(f"{user_model.__name__}.username must be unique, as users log in by it")
    for name in ("roles", "permissions"):
        if not isinstance(user_model._meta.fields_map[name], NamesField):
            raise ValueError(f"{user_model.__name__}.{name} is a column of the package: choose another name")
    named = username is not None
    create = user_create or (NamedUserCreate if named else UserCreate)
    update = profile_update or ProfileUpdate
    shipped = AbstractUser._meta.fields_map.keys()
    for body in (create, update):
        misused = (shipped - OPEN_COLUMNS) & body.model_fields.keys()
        if misused:
            raise ValueError(f"{body.__name__} must not name {', '.join(sorted(misused))}")
    missing = {
        name
        for name, field in user_model._meta.fields_map.items()
        if name not in shipped
        and not isinstance(field, BackwardFKRelation | ManyToManyFieldInstance)
        and field.required
        and not getattr(field, "auto_now_add", False)
        and not getattr(field, "auto_now", False)
        and not {name, field.source_field or f"{name}_id"} & _always_given(create)
    }
    if missing:
        raise ValueError(
            f"{user_model.__name__} needs a value for {', '.join(sorted(missing))}: give the column a "
            f"default or null=True, or pass a user_create that asks for it"
        )
    chosen: dict[type[BaseModel], type[BaseModel]] = {
        UserOut: user_out or (NamedUserOut if named else UserOut),
        UserCreate: create,
        ProfileUpdate: update,
        LoginData: NamedLoginData if named else LoginData,
    }
    return {body: own for body, own in chosen.items() if own is not body}


def profile_columns(bodies: Bodies) -> frozenset[str]:
    """What users of this app fill in themselves, when they sign up or later."""
    filled_in = (own_body(body, bodies).model_fields for body in (UserCreate, ProfileUpdate))
    return frozenset().union(*filled_in)


def _always_given(body: type[BaseModel]) -> set[str]:
    def given(field: FieldInfo) -> bool:
        return field.is_required() or field.get_default(call_default_factory=False) is not None

    return {name for name, field in body.model_fields.items() if given(field)}


def typed(endpoint: Callable[..., Any], bodies: Bodies) -> Callable[..., Any]:
    """The endpoint, declared with other bodies."""
    signature = inspect.signature(endpoint, eval_str=True)
    own = {name: own_body(parameter.annotation, bodies) for name, parameter in signature.parameters.items()}

    @wraps(endpoint)
    async def declared(*args: Any, **kwargs: Any) -> Any:
        return await endpoint(*args, **kwargs)

    parameters = [parameter.replace(annotation=own[name]) for name, parameter in signature.parameters.items()]
    declared.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by FastAPI
    return declared


def own_body(annotation: Any, bodies: Bodies) -> Any:
    """What stands in for a body of the package; anything else as it is."""
    return bodies.get(annotation, annotation) if isinstance(annotation, type) else annotation
