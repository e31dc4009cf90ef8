"""Addresses and origins as settings have them."""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def is_local(url: str) -> bool:
    """Whether an address is one of this machine only."""
    return urlsplit(url).hostname in LOOPBACK_HOSTS


def origin_of(url: str) -> str:
    """Scheme, host and port as a browser spells them in `Origin` (RFC 6454 section 6.2)."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def _web_origin(text: str) -> str:
    if urlsplit(text).scheme not in DEFAULT_PORTS:
        raise ValueError(f"{text}: not an origin such as https://app.example.com")
    return _any_origin(text)


def _any_origin(text: str) -> str:
    """`null` is not one: any page sends that, in a frame that it sandboxes."""
    parts = urlsplit(text)
    if not parts.scheme or not parts.hostname or parts.username is not None or "*" in text:
        raise ValueError(f"{text}: not an origin such as https://app.example.com or capacitor://localhost")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{text}: an origin has no path")
    return origin_of(text)


def _with_token(url: str) -> str:
    if url and "{token}" not in url:
        raise ValueError("write {token} where the page of the link takes its token")
    return url


def _place(text: str) -> str:
    how = "write a path such as /dashboard, or an address such as https://example.com/"
    return _address(text, {*DEFAULT_PORTS}, how)


def _page_address(text: str) -> str:
    """It stands in a header of the pages, where the characters that are refused would end it."""
    how = "write a path such as /static/logo.svg, or an address with https://"
    return _address(text, {"https"}, how, refused="\"'<>;,")


def _address(text: str, schemes: Container[str], how: str, *, refused: str = "") -> str:
    """`//host` is an address of another host, and so are backslashes to browsers."""
    parts = urlsplit(text)
    readable = text.isascii() and text.isprintable() and not {" ", "\\", *refused}.intersection(text)
    on_this_host = text.startswith("/") and not text.startswith("//")
    elsewhere = parts.scheme in schemes and parts.hostname and parts.username is None
    if not readable or not (on_this_host or elsewhere):
        raise ValueError(f"{text}: {how}")
    return text


WebOrigin = Annotated[str, AfterValidator(_web_origin)]
"""The origin of a web page."""

AnyOrigin = Annotated[str, AfterValidator(_any_origin)]
"""Also of another scheme, by which an app serves pages to itself."""

Place = Annotated[str, AfterValidator(_place)]
"""A path of this app, or an address of the web."""
PageAddress = Annotated[str, AfterValidator(_page_address)]
"""A path of the same host, or an address with TLS, in the form in which a browser sends it."""

LinkPage = Annotated[str, AfterValidator(_with_token)]
"""The address of a page for mailed links."""
