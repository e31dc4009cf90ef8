"""What a program sends: random, recognisable, and stored as a digest."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

PREFIX: Final = "pat_"
"""Lets scanners find a token in code and logs."""

_TOKEN: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


def generate_secret() -> str:
    """256 random bits: enough for a fast digest at rest."""
    return PREFIX + secrets.token_urlsafe(32)


def is_secret(text: str) -> bool:
    """Whether a text has the form of a personal access token."""
    return _TOKEN.fullmatch(text) is not None


def digest_of(secret: str) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()
