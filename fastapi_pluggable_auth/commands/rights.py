"""`users grant` and `users revoke`, and what the app knows of roles."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from ..auth import Auth
from ..features.administration.users import find_user
from ..flows.authorization import grant, revoke
from ..security.names import name_set
from .faults import UsageError

CHANGES: Final = {
    "grant": ("give roles and permissions", grant),
    "revoke": ("take roles and permissions", revoke),
}


def add_roles(parser: argparse.ArgumentParser) -> None:
    """Adds the option that names roles, as `options.roles`."""
    parser.add_argument(
        "--role", action="append", default=[], dest="roles", metavar="ROLE", help="a role; may be repeated"
    )


def add_to(command: Callable[..., argparse.ArgumentParser]) -> list[argparse.ArgumentParser]:
    """Adds both commands; returns their parsers."""
    added = []
    for name, (purpose, flow) in CHANGES.items():
        parser = command(name, purpose, partial(_change, flow))
        add_roles(parser)
        parser.add_argument(
            "--permission",
            action="append",
            default=[],
            dest="permissions",
            metavar="PERMISSION",
            help="a permission; may be repeated",
        )
        parser.add_argument("--superuser", action="store_true", help="every permission")
        added.append(parser)
    return added


async def _change(flow: Callable[..., Any], options: argparse.Namespace, auth: Auth[Any]) -> int:
    permissions = _names(options.permissions)
    if not (options.roles or permissions or options.superuser):
        raise UsageError("Nothing to change: pass --role, --permission or --superuser.")
    found = await find_user(auth, options.name)
    # One that the app had earlier can still be taken.
    roles = known_roles(auth, options.roles, found.roles if flow is revoke else ())
    user = await flow(auth, found.id, roles=roles, permissions=permissions, superuser=options.superuser)
    rights = [
        *(["superuser"] if user.is_superuser else []),
        *sorted(user.roles),
        *sorted(user.permissions),
    ]
    print(f"{user.id}  {user.email}  {' '.join(rights) or '-'}")
    return 0


def known_roles(auth: Auth[Any], names: Iterable[str], also: Iterable[str] = ()) -> frozenset[str]:
    """These roles. Raises `UsageError` for what is not a name and, where the app names its roles, for one
    that is neither among them nor among those `also` known."""
    roles = _names(names)
    if auth.roles and (unknown := roles - auth.roles.keys() - {*also}):
        known = ", ".join(sorted(auth.roles))
        raise UsageError(f"The app has no role {', '.join(sorted(unknown))}: its roles are {known}.")
    return roles


def _names(names: Iterable[str]) -> frozenset[str]:
    try:
        return name_set(names)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
