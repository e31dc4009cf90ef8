"""Who asks: a person with a browser, or a program."""

from __future__ import annotations

from typing import Final

from fastapi import Request

_PREFETCHED: Final = frozenset({"sec-purpose", "purpose", "x-purpose"})
"""What says that nobody has asked for the page yet (Fetch section 3.8, and what came before it)."""


def is_browser(request: Request) -> bool:
    """Whether a person is looking: API clients do not ask for HTML."""
    return "text/html" in _all_of(request, "accept")


def asks_as_program(request: Request) -> bool:
    """Whether nothing in the headers is a browser's or a previewer's. What opens links in mails without being
    asked to (scanners, previews, prefetching) mostly looks like a browser."""
    headers = request.headers
    return not (
        is_browser(request)
        or "mozilla/" in _all_of(request, "user-agent")
        or any(name.startswith("sec-fetch-") or name in _PREFETCHED for name in headers)
    )


def wants_page(request: Request) -> bool:
    """Whether to answer with a page: to a browser that opens an address, and to what looks like one. A
    script's own request is answered with JSON."""
    if is_browser(request) or asks_as_program(request):
        return is_browser(request)
    accepted = _all_of(request, "accept")
    by_script = request.headers.get("sec-fetch-dest") == "empty"
    return not by_script and (not accepted or "*/*" in accepted)


def _all_of(request: Request, name: str) -> str:
    """A header, in lower case; sent twice, both count."""
    return ",".join(request.headers.getlist(name)).lower()
