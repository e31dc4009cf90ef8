"""What a client may be, however it is registered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .models import ADDRESSES_LENGTH
from .redirects import redirect_problem

NAME_LENGTH: Final = 64


class RefusedClientError(Exception):
    """A client is not valid; says why."""


def cleaned_name(value: object) -> str:
    """What people read, in one line: no direction marks and other characters that cannot be seen. Empty for
    what is not a text."""
    if not isinstance(value, str):
        return ""
    seen = "".join(each if each.isprintable() else " " for each in value)
    return " ".join(seen.split())[:NAME_LENGTH].rstrip()


def checked_redirect_uris(addresses: Iterable[str], *, skip: bool = False) -> frozenset[str]:
    """Those that are allowed: all of them, unless the others are to be skipped. Raises `RefusedClientError`,
    also for none."""
    kept, problem = set(), "it has no redirect URI"
    for address in addresses:
        if (found := redirect_problem(address)) is None:
            kept.add(address)
        else:
            problem = f"the redirect URI {address!r:.80} {found}"
            if not skip:
                raise RefusedClientError(problem)
    if not kept:
        raise RefusedClientError(problem)
    if sum(map(len, kept)) + len(kept) >= ADDRESSES_LENGTH:
        raise RefusedClientError("its redirect URIs are too many, or too long")
    return frozenset(kept)
