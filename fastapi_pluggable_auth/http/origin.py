"""Where a request comes from."""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import HTTPConnection

from ..auth import Auth
from ..events import Origin, actor, origin
from ..security.proxies import client_address

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\xa0-\xff]")


def note_origin(request: HTTPConnection, auth: Auth) -> None:
    """From here on, the events of this request say where it comes from."""
    origin.set(lambda: origin_of(request, auth))
    actor.set(None)


def origin_of(request: HTTPConnection, auth: Auth) -> Origin:
    """Its address, behind trusted proxies, and its User-Agent."""
    peer = request.client.host if request.client else ""
    forwarded = request.headers.getlist("x-forwarded-for")
    address = client_address(peer, forwarded, auth.settings.trusted_proxies)
    return Origin(_printable(address, 45), _printable(request.headers.get("user-agent", ""), 255))


def _printable(text: str, length: int) -> str:
    return _UNPRINTABLE.sub("?", text)[:length]
