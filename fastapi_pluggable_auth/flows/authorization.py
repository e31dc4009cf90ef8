"""Roles and permissions of a user, given and taken. They take effect with the next request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

from tortoise.exceptions import ValidationError

from ..auth import Auth
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..models import AbstractUser, exact
from ..security.names import name_set
from .acting import end_fallen
from .ends import End, end_access

TRIES: Final = 20
"""How often a change begins again because another one was faster."""


async def grant(
    auth: Auth,
    user_id: UUID,
    *,
    roles: str | Iterable[str] = (),
    permissions: str | Iterable[str] = (),
    superuser: bool = False,
) -> AbstractUser:
    """Gives a user roles and permissions beside those there are, and returns the user as it is now. An
    administrator who lacks one of them stops acting as the user.

    Raises `AuthError`: USER_NOT_FOUND; UNKNOWN_ROLE where the app names its roles and this is not one;
    VALIDATION_ERROR for what is not a name, and for more than the column has room for.
    """
    more_roles, more_permissions = _names(roles), _names(permissions)

    def given(user: AbstractUser) -> dict[str, Any]:
        return {
            "roles": user.roles | more_roles,
            "permissions": user.permissions | more_permissions,
            "is_superuser": user.is_superuser or superuser,
        }

    async with auth.events.observe(EventKind.AUTHORIZATION_CHANGE, user_id=user_id):
        known_roles(auth, more_roles)
        user = await _change(auth, user_id, given)
        await end_fallen(auth, user)
        return user


def known_roles(auth: Auth, roles: str | Iterable[str]) -> frozenset[str]:
    """The names of roles that users may have. Raises `AuthError`: UNKNOWN_ROLE where the app names its roles
    and this is not one, VALIDATION_ERROR for what is not a name."""
    names = _names(roles)
    if auth.roles and not names <= auth.roles.keys():
        raise AuthError(ErrorCode.UNKNOWN_ROLE)
    return names


async def revoke(
    auth: Auth,
    user_id: UUID,
    *,
    roles: str | Iterable[str] = (),
    permissions: str | Iterable[str] = (),
    superuser: bool = False,
) -> AbstractUser:
    """Takes roles and permissions from a user, and returns the user as it is now; what the user does not have
    changes nothing. With `superuser` it is no longer one. A user who loses rights stops acting as others.

    Raises `AuthError`: USER_NOT_FOUND; VALIDATION_ERROR for what is not a name.
    """
    fewer_roles, fewer_permissions = _names(roles), _names(permissions)

    def left(user: AbstractUser) -> dict[str, Any]:
        return {
            "roles": user.roles - fewer_roles,
            "permissions": user.permissions - fewer_permissions,
            "is_superuser": user.is_superuser and not superuser,
        }

    async with auth.events.observe(EventKind.AUTHORIZATION_CHANGE, user_id=user_id):
        user = await _change(auth, user_id, left)
        await end_access(auth, user_id, End.RIGHTS_TAKEN)
        return user


async def _change(
    auth: Auth, user_id: UUID, changed: Callable[[AbstractUser], dict[str, Any]]
) -> AbstractUser:
    """Writes only where nothing has changed since it was read: of two changes at once none is lost."""
    users = auth.tables.user
    for _ in range(TRIES):
        user = await exact(users.all(), id=user_id)
        if user is None:
            raise AuthError(ErrorCode.USER_NOT_FOUND)
        after = changed(user)
        before = {name: getattr(user, name) for name in after}
        if after == before:
            return user
        try:
            written = await users.filter(id=user_id, **before).update(**after)
        except ValidationError as error:
            raise AuthError(ErrorCode.VALIDATION_ERROR) from error
        if written:
            return user.update_from_dict(after)
    raise AuthError(ErrorCode.OVERLOADED, retry_after=1)


def _names(names: str | Iterable[str]) -> frozenset[str]:
    try:
        return name_set(names)
    except ValueError as error:
        raise AuthError(ErrorCode.VALIDATION_ERROR) from error
