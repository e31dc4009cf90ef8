"""Languages: which a reader asks for, and in which order they are tried."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

FALLBACK: Final = "en"
"""Every shipped template exists in it."""

_RANGE: Final = re.compile(
    r"\s*(?P<tag>\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*)\s*(?:;\s*q=(?P<weight>[01](?:\.\d{0,3})?)\s*)?",
    re.IGNORECASE,
)
MAXIMUM_RANGES: Final = 20
"""Browsers send a handful; a longer header is not read to its end."""


def preferred(accept_language: str, available: Collection[str]) -> str | None:
    """The best of the available languages for a header `Accept-Language` (RFC 9110 section 12.5.4), looked up
    as in RFC 4647 section 3.4; None where there is none. Never raises."""
    names = {name.lower(): name for name in available}
    ranges = [
        match
        for part in accept_language.split(",", MAXIMUM_RANGES)[:MAXIMUM_RANGES]
        if (match := _RANGE.fullmatch(part))
    ]
    for wanted in sorted(ranges, key=lambda match: -float(match["weight"] or 1)):
        if float(wanted["weight"] or 1) > 0:
            for tag in _shorter(wanted["tag"].lower()):
                if tag in names:
                    return names[tag]
    return None


def fallbacks(language: str | None, default: str) -> list[str]:
    """The languages to try for a reader, the best first: `pt-BR`, `pt`, the default, English."""
    return list(dict.fromkeys([*(_shorter(language) if language else ()), *_shorter(default), FALLBACK]))


def _shorter(tag: str) -> Iterator[str]:
    """The tag, and what is left when its subtags are taken off one by one."""
    while tag:
        yield tag
        tag = tag.rpartition("-")[0]
