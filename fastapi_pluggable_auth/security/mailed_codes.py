"""Codes and links in mails that the app makes again from what waits for them, so that none is stored."""

from __future__ import annotations

import base64
import hmac
from typing import Final

from .keys import KeySet, SignatureError

DIGITS: Final = 6
_USE: Final = "mailed code"
_LINK_USE: Final = "mailed code link"
_ID_BYTES: Final = 32
_MAC_BYTES: Final = 16


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


def link_token(keys: KeySet, waiting: str) -> str:
    """64 characters that stand for what waits under this id, a SHA-256 in hex."""
    value = bytes.fromhex(waiting)
    return base64.urlsafe_b64encode(value + _mac(keys.derive(_LINK_USE), value)).decode()


def waiting_for(keys: KeySet, token: str) -> str:
    """The id that a link stands for. Raises `SignatureError`."""
    try:
        value = base64.urlsafe_b64decode(token.encode("ascii"))
    except ValueError as error:
        raise SignatureError from error
    waiting, mac = value[:_ID_BYTES], value[_ID_BYTES:]
    if not any(hmac.compare_digest(_mac(key, waiting), mac) for key in keys.derive_each(_LINK_USE)):
        raise SignatureError
    return waiting.hex()


def _mac(key: bytes, value: bytes) -> bytes:
    return hmac.digest(key, value, "sha256")[:_MAC_BYTES]
