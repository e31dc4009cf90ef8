"""The access token of a request, in its header `Authorization` (RFC 6750 section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence


def bearer_tokens(headers: Sequence[str]) -> list[str]:
    """The tokens of the scheme `Bearer`, also empty ones. Other schemes, such as the `Basic` of a proxy with
    a password, say nothing about who is signed in to the app."""
    parts = [header.partition(" ") for header in headers]
    return [token.strip() for scheme, _, token in parts if scheme.lower() == "bearer"]
