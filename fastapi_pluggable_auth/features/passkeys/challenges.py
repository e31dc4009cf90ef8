"""Challenges: random values that the app knows again, so that nothing is stored until one is spent."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from ...auth import Auth
from ...errors import AuthError
from ...flows.pending import Unstored
from ...security.keys import key_set
from .names import PasskeyError

LIFETIME: Final = timedelta(minutes=5)

_RANDOM: Final = 32
_EXPIRY: Final = 8
_MAC: Final = 32
_HEAD: Final = _RANDOM + _EXPIRY


class Purpose(StrEnum):
    """What a challenge is good for, and nothing else."""

    SIGN_IN = "sign_in"
    SECOND_FACTOR = "second_factor"
    REAUTHENTICATION = "reauthentication"
    VERIFICATION = "verification"
    SIGN_UP = "sign_up"
    ADDITION = "addition"
    ADDITION_OF_SECOND_FACTOR = "addition_of_second_factor"
    UPGRADE = "upgrade"


@dataclass(frozen=True, slots=True)
class Challenge:
    """One that is good. `carried` is what it was made with; `spent` is what `take` spends, once."""

    value: bytes = field(repr=False)
    carried: bytes
    spent: Unstored


def new_challenge(auth: Auth, purpose: Purpose, context: str, carried: bytes = b"") -> bytes:
    """A challenge with 32 random bytes. It is good for five minutes, in this context alone: the browser, the
    session or the account that it is made for."""
    expires = int((auth.clock() + LIFETIME).timestamp()).to_bytes(_EXPIRY)
    head = secrets.token_bytes(_RANDOM) + expires + carried
    key = key_set(auth.settings).derive(_use(purpose))
    return head + _mac(key, context, head)


def open_challenge(auth: Auth, purpose: Purpose, contexts: Iterable[str], value: bytes) -> Challenge:
    """The challenge, where it was made for this purpose in one of these contexts. Raises
    `AuthError(PASSKEY_EXPIRED)` for any other, and for one that is too old."""
    head, mac = value[:-_MAC], value[-_MAC:]
    if len(head) < _HEAD:
        raise AuthError(PasskeyError.PASSKEY_EXPIRED)
    ours = False
    for key in key_set(auth.settings).derive_each(_use(purpose)):
        for context in contexts:
            ours |= hmac.compare_digest(_mac(key, context, head), mac)
    if not ours:
        raise AuthError(PasskeyError.PASSKEY_EXPIRED)
    expires_at = datetime.fromtimestamp(int.from_bytes(head[_RANDOM:_HEAD]), UTC)
    if auth.clock() >= expires_at:
        raise AuthError(PasskeyError.PASSKEY_EXPIRED)
    return Challenge(value, head[_HEAD:], Unstored("passkey_challenge", value, expires_at))


def _use(purpose: Purpose) -> str:
    return f"passkey challenge {purpose}"


def _mac(key: bytes, context: str, head: bytes) -> bytes:
    # The context comes last, after what is as long as the value says.
    return hmac.digest(key, len(head).to_bytes(4) + head + context.encode(), "sha256")
