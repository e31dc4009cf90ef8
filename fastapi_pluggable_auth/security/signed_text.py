"""A text that a client keeps for the app and cannot change: HMAC-SHA256 (RFC 2104). It is readable."""

from __future__ import annotations

import base64
import hmac

from .keys import KeySet, SignatureError


def sign_text(keys: KeySet, use: str, text: str) -> str:
    """The text with its signature, in letters, digits, `-`, `_` and one `.`, good for this use alone."""
    payload = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    return f"{payload}.{_signature(keys.derive(use), payload)}"


def open_text(keys: KeySet, use: str, signed: str) -> str:
    """The text that was signed for this use, also with an earlier key; raises `SignatureError`."""
    payload, _, signature = signed.partition(".")
    if not any(
        hmac.compare_digest(_signature(key, payload).encode(), signature.encode("utf-8", "replace"))
        for key in keys.derive_each(use)
    ):
        raise SignatureError
    return base64.urlsafe_b64decode(f"{payload}==").decode()


def _signature(key: bytes, payload: str) -> str:
    return hmac.new(key, payload.encode("utf-8", "replace"), "sha256").hexdigest()
