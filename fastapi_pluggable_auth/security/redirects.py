"""Where a browser may be sent on to (ASVS 3.7.2)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

MAXIMUM_LENGTH: Final = 2048

_PATH: Final = re.compile(r"/(?![/\\])[!-\[\]-~]*")
"""Printable ASCII without blanks and backslashes, and no second slash that would make it a host."""
_HOSTILE: Final = re.compile(r"^//|[\\\x00-\x1f\x7f]")


def safe_next(value: str | None) -> str | None:
    """The path (with query) when it is one of this app's own, None for anything else: another host however
    it is spelled, a scheme, control characters, also where something decodes the path once more."""
    if value is None or len(value) > MAXIMUM_LENGTH or not _PATH.fullmatch(value):
        return None
    path = re.split(r"[?#]", value, maxsplit=1)[0]
    return None if _HOSTILE.search(unquote(path)) else value
