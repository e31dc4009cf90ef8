"""Names of roles, permissions and scopes, in the grammar of an OAuth scope (RFC 6749 section 3.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

PATTERN: Final = r"[\x21\x23-\x5b\x5d-\x7e]+"

_NAME: Final = re.compile(PATTERN)


def name_set(names: str | Iterable[str]) -> frozenset[str]:
    """The names; a text holds several, divided by spaces. Raises `ValueError` for what is not a name."""
    given = [name for name in names.split(" ") if name] if isinstance(names, str) else list(names)
    for name in given:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise ValueError(f'{name!r} is not a name: use printable ASCII without spaces, " and \\')
    return frozenset(given)
