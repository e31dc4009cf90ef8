"""Languages: which a reader asks for, and in which order they are tried."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

FALLBACK: Final = "en"
"""Every shipped text exists in it."""

# Of no more subtags than RFC 5646 has tags with: a lookup takes the square of the length.
_RANGE: Final = re.compile(
    r"\s*(?P<tag>\*|[a-z]{1,8}(?:-[a-z0-9]{1,8}){0,9})\s*(?:;\s*q=(?P<weight>[01](?:\.\d{0,3})?)\s*)?",
    re.IGNORECASE,
)
MAXIMUM_RANGES: Final = 20
"""Browsers send a handful; a longer header is not read to its end."""

_TRADITIONAL: Final = frozenset({"hant", "tw", "hk", "mo"})
"""Subtags of Chinese that is not written in simplified characters."""

_RIGHT_TO_LEFT: Final = frozenset({"ar", "ckb", "dv", "fa", "he", "ps", "ur", "yi"})


def preferred(accept_language: str, available: Collection[str]) -> str | None:
    """The best of the available languages for a header `Accept-Language` (RFC 9110 section 12.5.4); None
    where there is none. Never raises."""
    ranges = [
        match
        for part in accept_language.split(",", MAXIMUM_RANGES)[:MAXIMUM_RANGES]
        if (match := _RANGE.fullmatch(part))
    ]
    for wanted in sorted(ranges, key=lambda match: -float(match["weight"] or 1)):
        if float(wanted["weight"] or 1) > 0:
            found = nearest(wanted["tag"], available)
            if found is not None:
                return found
    return None


def nearest(tag: str, available: Collection[str]) -> str | None:
    """The language of this tag: looked up as in RFC 4647 section 3.4 or, where that finds none, as it is
    spoken elsewhere: `pt-BR` for `pt` and `pt-PT`, `zh-CN` for `zh-Hans`, but not for `zh-Hant`."""
    names = {name.lower(): name for name in available}
    for shorter in shortened(tag.lower()):
        if shorter in names:
            return names[shorter]
    return next((names[name] for name in sorted(names) if _spoken(name) == _spoken(tag.lower())), None)


def fallbacks(language: str | None, default: str, available: Collection[str] = ()) -> list[str]:
    """The languages to try for a reader, the best first: `pt-BR`, `pt`, the nearest of the available ones,
    the default, English."""
    tried = [*shortened(language), nearest(language, available)] if language else []
    return list(dict.fromkeys(each for each in (*tried, *shortened(default), FALLBACK) if each))


def shortened(tag: str) -> Iterator[str]:
    """The tag, and what is left when its subtags are taken off one by one."""
    while tag:
        yield tag
        tag = tag.rpartition("-")[0]


def direction_of(language: str) -> str:
    """How it is written, as the attribute `dir` of HTML has it."""
    return "rtl" if language.lower().split("-")[0] in _RIGHT_TO_LEFT else "ltr"


def _spoken(tag: str) -> tuple[str, str]:
    """The language itself, and the characters that it is written in where readers know one kind only."""
    language, *subtags = tag.split("-")
    if language == "zh":
        return language, "hans" if _TRADITIONAL.isdisjoint(subtags) else "hant"
    return language, next((subtag for subtag in subtags if len(subtag) == 4 and subtag.isalpha()), "")
