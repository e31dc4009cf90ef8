"""What commands print: a line for people, or JSON with stable names and moments in UTC (RFC 3339)."""

from __future__ import annotations

import argparse
from datetime import datetime
from uuid import UUID

from ..security.clock import as_utc


def add_json(parser: argparse.ArgumentParser, form: str = "an object a line") -> None:
    """Adds the option that asks for it."""
    parser.add_argument("--json", action="store_true", help=form)


def plain(value: object) -> object:
    """The value as JSON has it."""
    if isinstance(value, datetime):
        return as_utc(value).isoformat()
    if isinstance(value, frozenset):
        return sorted(value)
    return str(value) if isinstance(value, UUID) else value


def printable(text: str) -> str:
    """A stored name starts no new line and no terminal sequence."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )
