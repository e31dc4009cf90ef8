"""Values of options, and what is said of those that are not good: one sentence, with status 2."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Answers a wrong call in one sentence, which names the help. Options are written in full: else
    `--password X` would stand for `--password-stdin`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2."""
        self.exit(2, f"{self.prog}: {message.removesuffix('.')}. See {self.prog} --help.\n")

    def refuse(self, left: Sequence[str]) -> NoReturn:
        """Names the options that there are not, and no value, as that may be a password."""
        names = [re.sub("(?<=^-[^-]).+|=.*", "", each, flags=re.S) for each in left if each.startswith("-")]
        self.error(
            f"there is no option {' '.join(names)}" if names else "there are more values than it takes"
        )


def add_command(commands: Any, name: str, purpose: str) -> Parser:
    """A subcommand with a word on what it does, of `add_subparsers`."""
    added: Parser = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
    added.set_defaults(parser=added)
    return added


def positive(text: str) -> int:
    """A number from 1 on."""
    return _from(1, text)


def count(text: str) -> int:
    """A number from 0 on."""
    return _from(0, text)


def _from(least: int, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} on")
    return int(text)
