"""What HTTPS clients share."""

from __future__ import annotations

import asyncio
import ssl
from functools import cache

import httpx


async def https_context() -> ssl.SSLContext:
    """Verifies servers against the certificate authorities of the system's bundle."""
    return await asyncio.to_thread(_context)


@cache
def _context() -> ssl.SSLContext:
    """Loading the certificate authorities takes 20 ms: once, in a thread."""
    return httpx.create_ssl_context()
