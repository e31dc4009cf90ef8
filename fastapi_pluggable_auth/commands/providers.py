"""`providers`: looks at the providers of social login."""

from __future__ import annotations

import argparse
import asyncio
import logging

from ..auth import Auth
from .faults import CommandError
from .modules import add_app, auth_of_app
from .options import add_command
from .output import print_looks


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    checking = add_command(commands, "check", "ask each provider of the app whether users can sign in there")
    add_app(checking)
    checking.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    auth = auth_of_app(options.app)
    if auth is None:
        raise CommandError("Pass --app, such as --app main:app: the providers are those of an app.")
    if "social_login" not in auth.features:
        raise CommandError(f"{options.app} has no social login: name SocialLogin(...) among its features.")
    # What is found is printed here.
    logging.getLogger("fastapi_pluggable_auth.features.social_login").addHandler(logging.NullHandler())
    return asyncio.run(_look(auth))


async def _look(auth: Auth) -> int:
    from ..features.social_login.app_providers import providers_of
    from ..features.social_login.probing import look_at  # here, as it needs an extra

    try:
        probes = await asyncio.gather(*(look_at(auth, each) for each in providers_of(auth).values()))
    finally:
        await auth.close()
    failed = False
    for probe in probes:
        print(f"{probe.provider.name}: the redirect address to paste there is {probe.redirect_uri}")
        failed |= print_looks(probe.looks)
    return 1 if failed else 0
