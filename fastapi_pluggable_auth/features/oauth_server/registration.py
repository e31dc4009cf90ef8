"""What a client may be, however it is registered."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .models import ADDRESSES_LENGTH
from .redirects import redirect_problem

NAME_LENGTH: Final = 64
HTTPS: Final = re.compile(r"https://[A-Za-z0-9._~:/?\[\]!$&'()*+,;=%-]+")
"""An address that is sent as it is written."""


class RefusedClientError(Exception):
    """A client is not valid; says why."""


def cleaned_name(value: object) -> str:
    """What people read, in one line: no direction marks and other characters that cannot be seen. Empty for
    what is not a text."""
    if not isinstance(value, str):
        return ""
    seen = "".join(each if each.isprintable() else " " for each in value)
    return " ".join(seen.split())[:NAME_LENGTH].rstrip()


def home_page(value: object) -> str | None:
    """The address of a client for people, None for what is not one of https."""
    return value if isinstance(value, str) and len(value) <= 255 and HTTPS.fullmatch(value) else None


def checked_redirect_uris(addresses: Iterable[str], *, skip: bool = False) -> frozenset[str]:
    """Those that are allowed: all of them, unless the others are to be skipped. Raises `RefusedClientError`,
    also for none."""
    given = [*addresses]
    kept = checked_addresses(given, skip=skip)
    if not kept:
        problems = [f"the redirect URI {each!r:.80} {redirect_problem(each)}" for each in given]
        raise RefusedClientError(problems[-1] if problems else "it has no redirect URI")
    return kept


def checked_addresses(addresses: Iterable[str], *, skip: bool = False) -> frozenset[str]:
    """The same for where a browser may be led after a logout: none may be there. Raises
    `RefusedClientError`."""
    kept = set()
    for address in addresses:
        if (found := redirect_problem(address)) is None:
            kept.add(address)
        elif not skip:
            raise RefusedClientError(f"the redirect URI {address!r:.80} {found}")
    if sum(map(len, kept)) + len(kept) >= ADDRESSES_LENGTH:
        raise RefusedClientError("its redirect URIs are too many, or too long")
    return frozenset(kept)
