"""The `fastapi-pluggable-auth` command."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Final

from .commands import check, demo, keys, mail, oauth, providers, purge, status, users, words
from .commands.faults import CommandError
from .commands.options import Parser, add_command

NAME: Final = "fastapi-pluggable-auth"
"""Of the command, and of the package."""

COMMANDS: Final[dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]]] = {
    "demo": ("serve a demo of the whole product on a SQLite file", demo.add_to),
    "check": ("say what is unsafe or missing in the settings", check.add_to),
    "status": ("say how mails, limits and migrations stand", status.add_to),
    "mail": ("show, retry, send and preview mails", mail.add_to),
    "users": ("create, list, change and delete accounts", users.add_to),
    "providers": ("ask the providers of social login whether users can sign in", providers.add_to),
    "oauth": ("register clients of the OAuth server, and look at it as they do", oauth.add_to),
    "keys": ("change the keys that sign tokens, seal two-factor secrets", keys.add_to),
    "words": ("write the file with all words of a language, to translate", words.add_to),
    "purge": ("delete expired rows, as a running app does every hour", purge.add_to),
}


def command_line() -> Parser:
    """The parser of all commands."""
    parser = Parser(prog=NAME, description="Accounts for FastAPI.")
    parser.add_argument("--version", action="version", version=f"{NAME} {version(NAME)}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (purpose, add_to) in COMMANDS.items():
        add_to(add_command(commands, name, purpose))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    options, left = command_line().parse_known_args(arguments)
    if left:
        parser: Parser = options.parser
        parser.refuse(left)
    run: Callable[[argparse.Namespace], int] = options.run
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name may have letters that the terminal has not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except CommandError as error:
        sys.stderr.write(f"{error}\n")
        return error.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has read enough
        _discard_output()
        return 141
    except OSError as error:
        _discard_output()
        sys.stderr.write(f"{error}\n")
        return 1


def _discard_output() -> None:
    """Python would try to write the rest at its end."""
    with suppress(OSError, ValueError), open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
