"""Passwords that were published in breaches (ASVS 6.2.12), asked for without telling the password."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import Final

import httpx

from ..config import AuthSettings
from ..errors import AuthError, ErrorCode
from .outgoing import bounded
from .plaintext import Plaintext
from .tls import https_context

logger = logging.getLogger(__name__)

TIMEOUT: Final = 2.0
"""Seconds for the whole question; then the password passes, as a service that is down must stop nobody."""
PREFIX_LENGTH: Final = 5
MAXIMUM_ANSWER_BYTES: Final = 1024 * 1024


async def require_unbreached(settings: AuthSettings, password: Plaintext) -> None:
    """Raises `AuthError(PASSWORD_BREACHED)`. Asks a range service (k-anonymity): only the first five hex
    digits of the password's SHA-1 leave, and all suffixes that share them come back."""
    digest = hashlib.sha1(password.look().encode(), usedforsecurity=False).hexdigest().upper()
    try:
        async with asyncio.timeout(TIMEOUT):
            suffixes = await _range(settings.breach_url, digest[:PREFIX_LENGTH])
    except (httpx.HTTPError, TimeoutError, ValueError) as error:
        logger.warning("The breach service did not answer: %s", type(error).__name__)
        return
    if digest[PREFIX_LENGTH:] in suffixes:
        raise AuthError(ErrorCode.PASSWORD_BREACHED)


async def _range(url: str, prefix: str) -> frozenset[str]:
    async with (
        httpx.AsyncClient(verify=await https_context(), timeout=TIMEOUT) as client,
        client.stream("GET", f"{url.rstrip('/')}/{prefix}", headers={"Add-Padding": "true"}) as answer,
    ):
        answer.raise_for_status()
        body = await bounded(answer.aiter_bytes(), MAXIMUM_ANSWER_BYTES)
    lines = (line.partition(":") for line in body.decode("ascii").splitlines())
    # Padding has a count of 0.
    return frozenset(suffix.upper() for suffix, _, count in lines if count.strip() not in ("", "0"))
