"""Usernames in one spelling, in the manner of RFC 8265 section 3.3: `Ada` and `ada` are one."""

from __future__ import annotations

import unicodedata
from typing import Final

MAXIMUM_LENGTH: Final = 64

_PUNCTUATION: Final = frozenset("._-")


def fold_username(name: str) -> str:
    """The name as it is looked up: compatibility forms and case make no difference."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def normalise_username(name: str) -> str:
    """The folded name. Raises `ValueError` unless it consists of letters and digits, `.`, `_` and `-`: so no
    name is an address, has a space in it, or breaks a line."""
    folded = fold_username(name)
    if not 0 < len(folded) <= MAXIMUM_LENGTH:
        raise ValueError("not a valid length")
    if not all(map(_is_allowed, folded)):
        raise ValueError("not a valid username")
    return folded


def _is_allowed(character: str) -> bool:
    """Accents and vowel signs are letters too, where a script writes them apart."""
    return character.isalnum() or character in _PUNCTUATION or unicodedata.category(character) in {"Mn", "Mc"}
