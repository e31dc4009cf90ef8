"""What a device shows to be known again: a random value that is kept as a digest."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Final

DEVICE_LIFETIME: Final = timedelta(days=90)
"""How long a device is known after the last sign-in on it."""

DEVICE: Final = "device"
"""What a trusted device is called in `amr` and in the factors of a session: it has spared one."""


def generate_device() -> str:
    """256 random bits: enough for a fast digest at rest."""
    return secrets.token_urlsafe(32)


def device_digest(value: str) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(value.encode()).hexdigest()
