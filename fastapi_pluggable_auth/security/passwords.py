"""The password policy (ASVS 6.2): any characters, but none of the common ones and nothing about the owner."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Final

from ..errors import AuthError, ErrorCode
from .guessing import common_passwords
from .text import is_unicode

MINIMUM_LENGTH: Final = 8
MAXIMUM_LENGTH: Final = 1024
"""In characters (code points), in NFC."""
MAXIMUM_TYPED_LENGTH: Final = 4 * MAXIMUM_LENGTH
"""As it is typed: no character of NFC is more than four apart. To normalise takes the square of the time."""

_SEPARATORS: Final = re.compile(r"[\W_]+")
_DIGITS: Final = "0123456789"


@cache
def _common_passwords() -> frozenset[str]:
    return common_passwords(MINIMUM_LENGTH)


def spellings(password: str) -> tuple[str, ...]:
    """The password in NFC, which is what is hashed (RFC 8265 section 4.2), and as it was typed where that is
    another: as systems that do not normalise have hashed it."""
    normal = normalise_password(password)
    return (normal,) if normal == password else (normal, password)


def normalise_password(password: str) -> str:
    """In NFC: the same letters from another keyboard are the same password. One that is too long for any
    account stays as it is."""
    if len(password) > MAXIMUM_TYPED_LENGTH:
        return password
    return unicodedata.normalize("NFC", password)


def is_storable(password: str) -> bool:
    """Whether it has the right length, in NFC, and is proper text, as the schemas see to for requests."""
    if len(password) > MAXIMUM_TYPED_LENGTH or not is_unicode(password):
        return False
    return MINIMUM_LENGTH <= len(normalise_password(password)) <= MAXIMUM_LENGTH


def require_uncommon(password: str, context: Iterable[str] = ()) -> None:
    """Raises `AuthError`: PASSWORD_TOO_COMMON for one of the most common passwords (ASVS 6.2.4),
    PASSWORD_TOO_PERSONAL for a word of the context and little more (ASVS 6.2.11)."""
    password = normalise_password(password)
    if password.lower() in _common_passwords():
        raise AuthError(ErrorCode.PASSWORD_TOO_COMMON)
    plain = _plain(password)
    cores = {plain, plain.strip(_DIGITS)} - {""}
    if any(_repeats(core, word) for core in cores for word in filter(None, map(_plain, context))):
        raise AuthError(ErrorCode.PASSWORD_TOO_PERSONAL)


def context_of(email: str, *words: str | None) -> list[str]:
    """The words that a password for this account must not consist of."""
    local, _, domain = email.partition("@")
    return [email, local, domain, domain.partition(".")[0], *filter(None, words)]


def _plain(text: str) -> str:
    """Letters and digits in one case, as `Ada.Lovelace-1` and `adalovelace1` are one to a guesser."""
    return _SEPARATORS.sub("", text).lower()


def _repeats(core: str, word: str) -> bool:
    """Whether the core is the word, once or again and again, the last time perhaps cut short."""
    return len(core) >= len(word) and (word * (len(core) // len(word) + 1)).startswith(core)
