"""What a text may hold."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def is_unicode(text: str) -> bool:
    """Whether PostgreSQL can store it (no NUL) and UTF-8 encode it (no lone surrogates)."""
    return _UNSTORABLE.search(text) is None


def without_blanks(text: str) -> str:
    """Without white space, also of a kind that cannot be seen: what comes along where a code is copied."""
    return "".join(character for character in text if not _is_blank(character))


def without_blanks_around(text: str) -> str:
    """Without such at its ends."""
    start, end = 0, len(text)
    while start < end and _is_blank(text[start]):
        start += 1
    while start < end and _is_blank(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_blank(character: str) -> bool:
    """White space, zero-width characters, byte order and direction marks."""
    return character.isspace() or unicodedata.category(character) == "Cf"


def is_single_line(text: str) -> bool:
    """Whether it has no control characters and line separators, which would break mail headers and logs."""
    return not any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text)
