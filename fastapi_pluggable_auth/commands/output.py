"""What commands print: a line for people, or JSON with stable names and moments in UTC (RFC 3339)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from ..features.looks import Look
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


def print_facts(facts: Mapping[str, object]) -> None:
    """A line for each."""
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {printable(_text(value))}")


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(value) or "-"
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: "-"}[value]
    return str(value)


def print_looks(looks: Iterable[Look]) -> bool:
    """A line for each thing that was looked at; whether one is not as it should be."""
    failed = False
    for look in looks:
        failed |= look.problem is not None and not look.uncertain
        if look.problem is None:
            print(f"ok    {look.subject}")
        else:
            print(f"{'note' if look.uncertain else 'FAIL'}  {look.subject}: {printable(look.problem)}")
    return failed
