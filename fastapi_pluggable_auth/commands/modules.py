"""What a command imports from the folder that it is run in: the app, and its Tortoise configuration."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from ..auth import Auth
from ..lookup import STATE_ATTRIBUTE
from .faults import CommandError


def add_app(parser: argparse.ArgumentParser) -> None:
    """Adds the option that names the app."""
    parser.add_argument(
        "--app",
        metavar="MODULE:NAME",
        help="the app, such as main:app, for its settings, roles, user model and features",
    )


def auth_of_app(name: str | None) -> Auth[Any] | None:
    """The `Auth` of the app of this name, such as `main:app`, and None for none. Raises `CommandError`."""
    if name is None:
        return None
    module_name, _, variable = name.partition(":")
    if not (variable.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise CommandError(f"{name!r} is not the name of an app, such as main:app.")
    app = getattr(imported(module_name, "the app must be a variable of it, such as {}:app"), variable, None)
    auth: Auth[Any] | None = getattr(getattr(app, "state", None), STATE_ATTRIBUTE, None)
    if auth is None:
        raise CommandError(f"{name} is not an app that include_auth was called for.")
    return auth


def imported(name: str, cure: str) -> ModuleType:
    """The module of this name. Raises `CommandError`; the cure is for one that is asked for in a module."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        parent = name.rpartition(".")[0]
        if error.name == name and parent in sys.modules and not hasattr(sys.modules[parent], "__path__"):
            raise CommandError(
                f"{parent} is a module: {cure.format(parent)}, and no attribute of one."
            ) from error
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise CommandError(
                f"There is no module {name} here: run the command in the folder of the app ({folder} is not)."
            ) from error
        raise CommandError(f"{name} cannot be imported: {error}. Install it.") from error
    except Exception as error:
        raise CommandError(f"{name} cannot be imported ({type(error).__name__}: {error}).") from error
