"""Identifiers in the order of time: UUIDs of version 7 (RFC 9562 section 5.7), for any clock.

What is stored in this order stands side by side in an index, however many rows there are.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION_AND_VARIANT: Final = 7 << 76 | 0b10 << 62


def time_ordered_id(moment: datetime) -> UUID:
    """A new identifier: later ones are greater, to the microsecond; 62 bits of it are random."""
    return UUID(int=_first(moment) | secrets.randbits(62))


def first_id_at(moment: datetime) -> UUID:
    """Whatever was made before this moment is smaller, and nothing since then."""
    return UUID(int=_first(moment))


def _first(moment: datetime) -> int:
    """48 bits of milliseconds, and 12 of their fraction (section 6.2, method 3)."""
    milliseconds, microseconds = divmod((moment - _EPOCH) // timedelta(microseconds=1), 1000)
    return milliseconds << 80 | (microseconds * 4096 // 1000) << 64 | _VERSION_AND_VARIANT
