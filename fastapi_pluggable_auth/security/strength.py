"""Whether a secret can be guessed: it was published, is short, or was typed rather than drawn."""

from __future__ import annotations

import re
import unicodedata
import zlib
from typing import Final

from ..config import DEFAULT_SECRET, MINIMUM_SECRET_BYTES

LEAST_UNPREDICTABLE: Final = 24
"""Bytes that remain of a secret once what repeats or follows from what stands before is taken out. 32 random
characters of any alphabet, hexadecimal too, leave more."""

LONGEST_STEP: Final = 4
"""So far apart the characters of a pattern such as `a1b2c3` may stand."""

_OURS: Final = (
    DEFAULT_SECRET,
    "paste-the-output-of-openssl-rand-base64-48",
    "a secret of at least 32 random bytes",
)
"""What our documentation has had in the place of a secret; a test collects it."""

_OF_OTHERS: Final = (
    *("secret", "SECRET_KEY", "my-secret", "my-secret-key", "your-secret", "your-secret-key", "jwt-secret"),
    *("your-jwt-secret", "your-jwt-secret-key", "your-secret-key-here", "your-super-secret-key"),
    *(
        "change-this",
        "change-it",
        "change-this-secret",
        "change-me-in-production",
        "replace-me",
        "placeholder",
    ),
    *("insert-secret-here", "password", "default", "example", "none", "null", "todo", "xxx"),
    "your-256-bit-secret",
    "a-string-secret-at-least-256-bits-long",
    "super-secret-jwt-token-with-at-least-32-characters-long",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
)
"""Of FastAPI's tutorial, jwt.io, RFC 7515 and others."""

_PHRASES: Final = (
    "change(?:me|this|it)|replace(?:me|this|with|it)|placeholder|insecure|paste(?:the|your)|openssl(?:rand)?"
    "|(?:base64|hex)(?:32|48|64)|(?:your|my|the|super|very|top|jwt|auth|app|our)*secret(?:key|token|here)*"
    "|pleasechange|donotuse|inproduction|forproduction|qwerty(?:uiop)?|asdf(?:ghjkl)?|zxcv(?:bnm)?|password"
)
"""What placeholders are made of. A long sentence of one's own is not a placeholder, and starts an app."""


def _folded(secret: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", secret).casefold())


_PUBLISHED: Final = frozenset(map(_folded, (*_OURS, *_OF_OTHERS)))
_KNOWN: Final = re.compile("|".join((*filter(lambda text: len(text) > 24, _PUBLISHED), _PHRASES)))


def is_published(secret: str) -> bool:
    """Whether it is empty, or a placeholder of documentation, ours or well-known, in any spelling."""
    return not any(each.isprintable() and not each.isspace() for each in secret) or (
        _folded(secret) in _PUBLISHED
    )


def weakness(secret: str) -> str | None:
    """What is wrong with a secret, as the end of a sentence that begins with its name."""
    if is_published(secret):
        return "still is the placeholder of some documentation: anyone can use it"
    if len(secret.encode()) < MINIMUM_SECRET_BYTES:
        return f"is shorter than {MINIMUM_SECRET_BYTES} bytes and can be guessed"
    if not _is_unpredictable(secret):
        return "repeats itself or follows a pattern, and can be guessed"
    return None


def _is_unpredictable(secret: str) -> bool:
    folded = _folded(secret)
    rest = _KNOWN.sub("", folded)
    return _information(secret.encode()) >= LEAST_UNPREDICTABLE and (
        rest == folded or _information(rest.encode()) >= LEAST_UNPREDICTABLE
    )


def _information(text: bytes) -> int:
    """About how many bytes of it do not follow from the others: what deflate (RFC 1951) leaves of the text,
    or of the steps from character to character, which are all alike in a sequence."""
    steps = (
        bytes((later - earlier) % 256 for earlier, later in zip(text, text[step:], strict=False))
        for step in range(1, LONGEST_STEP + 1)
    )
    return min(_deflated(text), *map(_deflated, steps))


def _deflated(text: bytes) -> int:
    packer = zlib.compressobj(9, wbits=-15)
    return len(packer.compress(text) + packer.flush())
