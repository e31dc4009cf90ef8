"""What a text may hold."""

from __future__ import annotations

import unicodedata


def is_unicode(text: str) -> bool:
    """Whether PostgreSQL can store it (no NUL) and UTF-8 encode it (no lone surrogates)."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def is_single_line(text: str) -> bool:
    """Whether it has no control characters and line separators, which would break mail headers and logs."""
    return not any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text)
