"""The password policy (ASVS 6.2): any characters, but none of the common ones."""

from __future__ import annotations

from functools import cache
from typing import Final

from ..errors import AuthError, ErrorCode

MINIMUM_LENGTH: Final = 8
MAXIMUM_LENGTH: Final = 1024
"""In characters (code points)."""


@cache
def _common_passwords() -> frozenset[str]:
    # Imported on first use: the list takes as long to load as the rest of the package.
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= MINIMUM_LENGTH)


def require_uncommon(password: str) -> None:
    """Raises `AuthError(PASSWORD_TOO_COMMON)` for one of the most common passwords (ASVS 6.2.4)."""
    if password.lower() in _common_passwords():
        raise AuthError(ErrorCode.PASSWORD_TOO_COMMON)
