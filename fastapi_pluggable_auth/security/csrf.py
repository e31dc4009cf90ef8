"""Whether a page of the app itself made a request (ASVS 3.5.1): where it comes from, and what only such a
page can send."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Sequence
from typing import Final

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 section 9.2.1: nothing is changed by them, so nobody gains from forging them."""

_FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


def is_same_origin(fetch_site: Sequence[str]) -> bool:
    """Whether the values of `Sec-Fetch-Site` say that a page of the very origin made the request."""
    return list(fetch_site) == ["same-origin"]


def from_trusted_page(fetch_site: Sequence[str], origins: Sequence[str], trusted: Collection[str]) -> bool:
    """Whether the values of `Sec-Fetch-Site` or `Origin` name the app's own or a trusted origin. A browser
    sends at least one of them, and no script changes them; a request with neither is not a page's."""
    if is_same_origin(fetch_site):
        return True
    return len(origins) == 1 and origins[0] in trusted


def needs_preflight(content_type: str, requested_with: str | None) -> bool:
    """Whether no page of another origin can send this without asking first (Fetch section 4.8): JSON, or a
    header of one's own."""
    media_type = _media_type(content_type)
    json = media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
    return json or requested_with is not None


def is_form(content_type: str) -> bool:
    """Whether this is what a plain HTML form sends."""
    return _media_type(content_type) in _FORMS


def make_form_token(key: bytes, binding: str) -> str:
    """The value of a form's hidden field, good for the browser that `binding` names. No two are alike."""
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_signature(key, nonce, binding)}"


def is_form_token(key: bytes, binding: str, token: str) -> bool:
    """Whether the token was made with this key for this browser."""
    nonce, _, signature = token.partition(".")
    expected = _signature(key, nonce, binding)
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace"))


def _signature(key: bytes, nonce: str, binding: str) -> str:
    message = f"{nonce}\0{binding}".encode("utf-8", "replace")
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
