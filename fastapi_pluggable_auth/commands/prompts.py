"""What a command asks on a terminal."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable

from ..security.plaintext import Plaintext
from .faults import CommandError


def add_password_stdin(add_argument: Callable[..., argparse.Action]) -> None:
    """Adds the option that `new_password` is given, to a parser or a group of one."""
    add_argument(
        "--password-stdin", action="store_true", help="read the password from the first line of stdin"
    )


def new_password(*, from_stdin: bool, otherwise: str = "--password-stdin") -> Plaintext:
    """Never an argument, which every user of the machine could read in the list of processes. Raises
    `CommandError`, which says what to pass `otherwise` where there is no terminal."""
    if from_stdin:
        return Plaintext(sys.stdin.readline().rstrip("\r\n"))
    if not sys.stdin.isatty():
        raise CommandError(f"There is no terminal to ask on: pass {otherwise}.")
    password = getpass.getpass()
    if getpass.getpass("Again: ") != password:
        raise CommandError("The two passwords differ.")
    return Plaintext(password)


def confirm(question: str) -> None:
    """Raises `CommandError` unless the answer is yes."""
    if not sys.stdin.isatty():
        raise CommandError("There is no terminal to ask on: pass --yes.")
    try:
        answer = input(question)
    except EOFError:
        answer = ""
    if answer.strip().lower() != "y":
        raise CommandError("Nothing was deleted.")
