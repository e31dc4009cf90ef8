"""`purge`: deletes expired rows."""

from __future__ import annotations

import argparse

from ..auth import Auth
from ..flows.purge import purge
from .database import add_database, with_auth


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    add_database(parser)
    parser.set_defaults(run=lambda options: with_auth(options, _purge))


async def _purge(auth: Auth) -> int:
    for table, count in (await purge(auth)).items():
        print(f"{table}: {count} deleted")
    return 0
