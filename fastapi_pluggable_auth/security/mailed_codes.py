"""Codes in mails: six digits that the app makes again from what waits for them, so that none is stored."""

from __future__ import annotations

import hmac
from typing import Final

from .keys import KeySet

DIGITS: Final = 6
_USE: Final = "mailed code"


def code_for(keys: KeySet, waiting: str) -> str:
    """The code for what waits under this id. Nobody learns it from the id without the key."""
    return _code(keys.derive(_USE), waiting)


def is_code_for(keys: KeySet, waiting: str, code: str) -> bool:
    """Whether this is the code, also where it was made with an earlier key."""
    shown = code.encode("utf-8", "replace")
    return any(hmac.compare_digest(_code(key, waiting).encode(), shown) for key in keys.derive_each(_USE))


def _code(key: bytes, waiting: str) -> str:
    number = int.from_bytes(hmac.digest(key, waiting.encode(), "sha256"))
    return str(number % 10**DIGITS).zfill(DIGITS)
