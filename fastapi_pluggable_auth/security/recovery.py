"""Recovery codes (ASVS 6.5): the second factor of someone whose authenticator is lost."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Final

NUMBER_OF_CODES: Final = 10
PATTERN: Final = r"[A-Za-z2-7]{4}(?:[- ]?[A-Za-z2-7]{4}){5}"
"""Six groups of four base32 characters; case, dashes and blanks do not matter."""

_CODE: Final = re.compile(PATTERN)


def generate_recovery_codes() -> list[str]:
    """Ten codes of 120 random bits each: enough for a fast digest at rest (ASVS 6.5.2)."""
    return [_generate() for _ in range(NUMBER_OF_CODES)]


def is_recovery_code(text: str) -> bool:
    """Whether a code is meant as a recovery code rather than as a time-based one."""
    return _CODE.fullmatch(text) is not None


def recovery_digest(code: str) -> str:
    """SHA-256, in hex, of the code in its one spelling."""
    return hashlib.sha256(re.sub("[- ]", "", code).lower().encode()).hexdigest()


def _generate() -> str:
    letters = base64.b32encode(secrets.token_bytes(15)).decode().lower()
    return "-".join(letters[start : start + 4] for start in range(0, 24, 4))
