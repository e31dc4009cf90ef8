"""What a user model of the host must be like."""

from __future__ import annotations

from typing import Final

from tortoise import Model, fields

from .user import AbstractUser, User

_KEPT: Final = AbstractUser._meta.fields_map
"""The columns of the package, as every user model inherits them."""

_PROPERTIES: Final = [name for name, value in vars(AbstractUser).items() if isinstance(value, property)]


def require_user_model(model: type[AbstractUser]) -> None:
    """Raises `ValueError` where accounts could not live in this model."""
    name = model.__name__
    if model._meta.abstract:
        raise ValueError(f"{name} is abstract: pass the class that inherits from it.")
    if model is not User and (parent := _concrete_parent(model)) is not None:
        raise ValueError(
            f"{name} inherits from {parent.__name__}, which has a table already: inherit from AbstractUser."
        )
    if not isinstance(model._meta.pk, fields.UUIDField) or model._meta.pk_attr != "id":
        raise ValueError(
            f"{name} must keep `id`, a UUID, as its primary key: the package's tables refer to it."
        )
    for column, kept in _KEPT.items():
        if not isinstance(model._meta.fields_map.get(column), type(kept)):
            like = type(kept).__name__
            raise ValueError(
                f"{name}.{column} is a column of the package and must stay {like}: choose another name."
            )
    for attribute in _PROPERTIES:
        own = attribute in model._meta.fields_map or getattr(model, attribute) is not getattr(
            AbstractUser, attribute
        )
        if own:
            raise ValueError(f"{name}.{attribute} is a property of the package: choose another name.")
    if not model._meta.fields_map["email"].unique:
        raise ValueError(f"{name}.email must be unique, as users log in by it.")
    username = model._meta.fields_map.get("username")
    if username is not None and not (username.unique and username.field_type is str):
        raise ValueError(
            f"{name}.username must be unique, and text, as users log in by it: see UsernameField."
        )


def _concrete_parent(model: type[Model]) -> type[Model] | None:
    """Tortoise would make a table for each of the two."""
    parents = (parent for parent in model.__mro__[1:] if issubclass(parent, Model) and parent is not Model)
    return next((parent for parent in parents if not parent._meta.abstract), None)
