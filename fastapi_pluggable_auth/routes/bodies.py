"""The bodies of one app: those of the package, or the subclasses that the host passes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeAlias

from pydantic import BaseModel

from ..models import AbstractUser
from ..schemas import (
    Body,
    LoginData,
    NamedLoginData,
    NamedUserCreate,
    NamedUserOut,
    ProfileUpdate,
    UserCreate,
    UserOut,
)
from .body_checks import named_by, require_fitting_bodies

Bodies: TypeAlias = Mapping[type[BaseModel], type[BaseModel]]
"""What stands in for a body of the package, in this app only."""


def bodies_of(
    user_model: type[AbstractUser],
    user_out: type[UserOut] | None,
    user_create: type[UserCreate] | None,
    profile_update: type[ProfileUpdate] | None,
) -> Bodies:
    """The bodies of an app with this user model. Raises `ValueError` where they do not fit it."""
    named = "username" in user_model._meta.fields_map
    out = user_out or (NamedUserOut if named else UserOut)
    create = user_create or (NamedUserCreate if named else UserCreate)
    update = profile_update or ProfileUpdate
    require_fitting_bodies(user_model, out, create, update)
    chosen: dict[type[BaseModel], type[BaseModel]] = {
        UserOut: out,
        UserCreate: create,
        ProfileUpdate: update,
        LoginData: NamedLoginData if named else LoginData,
    }
    return {body: own for body, own in chosen.items() if own is not body}


def profile_columns(bodies: Bodies) -> frozenset[str]:
    """What users of this app fill in themselves, when they sign up or later."""
    return named_by(own_body(UserCreate, bodies)) | named_by(own_body(ProfileUpdate, bodies))


def columns_of(body: BaseModel, *, given: bool = False) -> dict[str, Any]:
    """What a body says of columns, or only what the client has `given`. Aliases are for clients, and what a
    serializer adds no client may say."""
    values = body.model_dump(
        by_alias=False, exclude={"email", "password"}, exclude_unset=given, warnings=False
    )
    return {name: value for name, value in values.items() if name in named_by(type(body))}


def with_bodies(endpoint: Callable[..., Any], bodies: Bodies) -> Callable[..., Any]:
    """The endpoint, declared with other bodies."""
    signature = inspect.signature(endpoint, eval_str=True)
    own = {name: own_body(parameter.annotation, bodies) for name, parameter in signature.parameters.items()}

    @wraps(endpoint)
    async def declared(*args: Any, **kwargs: Any) -> Any:
        return await endpoint(*args, **kwargs)

    parameters = [parameter.replace(annotation=own[name]) for name, parameter in signature.parameters.items()]
    declared.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by FastAPI
    return declared


class Following(Body):
    """A body that has fields of another one, as the host has it."""

    @classmethod
    def in_app(cls, bodies: Bodies) -> type[BaseModel]:
        """This body in an app with these."""
        raise NotImplementedError


def own_body(annotation: Any, bodies: Bodies) -> Any:
    """What stands in for a body of the package; anything else as it is."""
    if isinstance(annotation, type) and issubclass(annotation, Following):
        return annotation.in_app(bodies)
    return bodies.get(annotation, annotation) if isinstance(annotation, type) else annotation
