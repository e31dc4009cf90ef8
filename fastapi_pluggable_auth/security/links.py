"""The tokens of mailed links: 74 characters of letters, digits, `-` and `_` (RFC 4648 section 5).

A JSON Web Token makes a link so long that mail programs break it. Only this app reads these, so one MAC
serves every signature algorithm: HMAC-SHA256 cut to 128 bits (RFC 2104 section 5), with a key for each use.
The length is chosen so that the last character is a letter: programs that find links in a text take a sign at
the end for punctuation.
"""

from __future__ import annotations

import base64
import hmac
import struct
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from .keys import KeySet, SignatureError

MAC_BYTES: Final = 16
_PAYLOAD: Final = struct.Struct(">B16sHI16s")
"""The form; the user; the end, in milliseconds since the epoch; what the link is bound to."""
_LENGTH: Final = 74
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

TO_STATE: Final = 1
"""Bound to the digest of a state."""
TO_MOMENT: Final = 2
"""Bound to the moment at which it was made."""


class SignedLink(NamedTuple):
    """What a token says, in 16 bytes each for the user and for what it is bound to."""

    form: int
    user_id: UUID
    expires_at: datetime
    bound: bytes


def sign_link(keys: KeySet, use: str, link: SignedLink) -> str:
    """A token that is good for this use alone."""
    high, low = divmod((link.expires_at - _EPOCH) // timedelta(milliseconds=1), 2**32)
    payload = _PAYLOAD.pack(link.form, link.user_id.bytes, high, low, link.bound)
    token = payload + _mac(keys.derive(_info(use)), payload)
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def open_link(keys: KeySet, use: str, text: str) -> SignedLink:
    """What a token of this use says, whatever the time; raises `SignatureError`."""
    try:
        token = base64.urlsafe_b64decode(text.encode("ascii") + b"==") if len(text) == _LENGTH else b""
    except ValueError as error:
        raise SignatureError from error
    # One spelling is good: the decoder skips signs that it does not know, and the last one has spare bits.
    if base64.urlsafe_b64encode(token).rstrip(b"=").decode() != text:
        raise SignatureError
    payload, mac = token[:-MAC_BYTES], token[-MAC_BYTES:]
    if not any(hmac.compare_digest(mac, _mac(key, payload)) for key in keys.derive_each(_info(use))):
        raise SignatureError
    form, user, high, low, bound = _PAYLOAD.unpack(payload)
    return SignedLink(form, UUID(bytes=user), _EPOCH + timedelta(milliseconds=high * 2**32 + low), bound)


def moment_as_bytes(moment: datetime) -> bytes:
    """What a link is bound to that is to lose to whatever happens just after this."""
    return ((moment - _EPOCH) // timedelta(microseconds=1)).to_bytes(16, "big")


def moment_of(link: SignedLink) -> datetime:
    """The moment that a link is bound to."""
    return _EPOCH + timedelta(microseconds=int.from_bytes(link.bound, "big"))


def _info(use: str) -> str:
    return f"mailed link\0{use}"


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")[:MAC_BYTES]
