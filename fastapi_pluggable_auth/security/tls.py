"""What TLS clients share. Loading certificate authorities takes 20 ms: once each, in a thread."""

from __future__ import annotations

import asyncio
import ssl
from functools import cache
from pathlib import Path


async def https_context() -> ssl.SSLContext:
    """Verifies servers against the certificate authorities that httpx trusts."""
    return await asyncio.to_thread(_https_context)


async def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Verifies servers against the authorities in a file (PEM), or the system's. Raises `OSError`."""
    if ca_file is None:
        return await asyncio.to_thread(_system_context)
    # Read each time: the file may be renewed while the app runs.
    return await asyncio.to_thread(ssl.create_default_context, cafile=ca_file)


@cache
def _https_context() -> ssl.SSLContext:
    import httpx  # here, as an app that sends by SMTP has no need of it

    return httpx.create_ssl_context()


@cache
def _system_context() -> ssl.SSLContext:
    return ssl.create_default_context()
