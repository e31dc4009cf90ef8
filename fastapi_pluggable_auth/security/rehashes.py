"""Which password a stored hash is of: a login that replaces an outdated hash changes no password."""

from __future__ import annotations

import hashlib
from typing import Final

_LENGTH: Final = 32


def password_id(hashed: str, note: str | None) -> str:
    """What another password changes, and another hash of the same one does not: a digest of the first hash.
    The note is that of `rehash_note`; one of an earlier hash says nothing."""
    digest = _digest(hashed)
    return note[_LENGTH:] if note is not None and note.startswith(digest) else digest


def rehash_note(hashed: str, password: str) -> str:
    """What is stored beside a hash that replaces another one of the same password, which has this id. It
    names the hash, so that it dies with it, whatever writes the next one."""
    return _digest(hashed) + password


def _digest(hashed: str) -> str:
    return hashlib.sha256(hashed.encode()).hexdigest()[:_LENGTH]
