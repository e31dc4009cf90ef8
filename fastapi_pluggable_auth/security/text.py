"""What a text may hold."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


def is_unicode(text: str) -> bool:
    """Whether PostgreSQL can store it (no NUL) and UTF-8 encode it (no lone surrogates)."""
    return _UNSTORABLE.search(text) is None


def is_single_line(text: str) -> bool:
    """Whether it has no control characters and line separators, which would break mail headers and logs."""
    return not any(unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text)
