"""Asking servers of others: which addresses, and how much of what they answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from ..config import AuthSettings, is_local


def may_reach(settings: AuthSettings, url: str) -> bool:
    """Whether an address has https; a local app may have the server on this machine as well. Raises
    `ValueError` for what is not an address."""
    scheme = urlsplit(url).scheme
    return scheme == "https" or (scheme == "http" and settings.is_local and is_local(url))


async def bounded(chunks: AsyncIterator[bytes], most: int) -> bytes:
    """All of an answer. Raises `ValueError` for one of more bytes."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise ValueError("an answer without end")
    return bytes(body)
