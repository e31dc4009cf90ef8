"""Redirect URIs: which a client may have, and which of them an authorization request asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from ...config.urls import LOOPBACK_HOSTS
from ...config.urls import is_local as is_loopback

MAXIMUM_LENGTH: Final = 2048

_ADDRESS: Final = re.compile(r"[A-Za-z0-9._~:/?\[\]@!$&'()+,;=%-]+")
"""RFC 3986 section 2, without `#` and `*`: a fragment is not sent (RFC 6749 section 3.1.2), and what looks
like a wildcard is not one."""
_PRIVATE_SCHEME: Final = re.compile(r"[a-z][a-z0-9+-]*(?:\.[a-z0-9+-]+)+:/[^\s]*")
"""A domain in reverse order (RFC 8252 section 7.1)."""
_LOOPBACK: Final = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]|localhost))(?::([0-9]{1,5}))?(?![0-9:])(.*)")


def redirect_problem(uri: str) -> str | None:
    """Why a client may not have this redirect URI, None where it may: https, `http` on this machine, or the
    private scheme of an app (RFC 8252 section 7)."""
    if len(uri) > MAXIMUM_LENGTH or not _ADDRESS.fullmatch(uri):
        return "is not an address: write it in full, without a fragment, a blank or a *"
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not an address: check its host and its port"
    if "@" in parts.netloc:
        return "has a user name in front of its host: leave that out"
    if parts.scheme not in ("https", "http"):
        return None if _PRIVATE_SCHEME.fullmatch(uri) else "has a scheme that is not a reversed domain name"
    if not host or port == 0:
        return "names no host"
    if parts.scheme == "http" and host not in LOOPBACK_HOSTS:
        return "is http, which only an address of the user's own machine may be: use https"
    if {".", ".."} & {*re.sub("%2e", ".", parts.path, flags=re.I).split("/")}:
        return "has . or .. in its path: write where that leads"
    return None


def is_local(uri: str) -> bool:
    """Whether it leads to a program on the user's own machine, by a port or by the scheme of an app, either
    of which any program there may take (RFC 8252 section 8.6)."""
    return not uri.startswith("https:") or is_loopback(uri)


def shown_host(uri: str) -> str:
    """What it leads to, for people: the host, or the scheme of an app, which may have anything after it."""
    parts = urlsplit(uri)
    return (parts.hostname if parts.scheme in ("https", "http") else None) or parts.scheme


def matches(registered: Iterable[str], asked: str, *, localhost: bool = False) -> bool:
    """Whether a redirect URI is one of those registered: the same letter by letter, but for the port on the
    user's own machine (RFC 8252 section 7.3). With `localhost`, the port of that is free too where none is
    registered: Claude Code names `http://localhost/callback` in its document, and listens at any port."""
    return any(each == asked or _differ_by_port(each, asked, localhost) for each in registered)


def _differ_by_port(registered: str, asked: str, localhost: bool) -> bool:
    known, wanted = _LOOPBACK.fullmatch(registered), _LOOPBACK.fullmatch(asked)
    if known is None or wanted is None or not 0 < int(wanted[2] or 80) < 65536:
        return False
    free = not known[1].endswith("localhost") or (localhost and known[2] is None)
    return free and known.group(1, 3) == wanted.group(1, 3)
