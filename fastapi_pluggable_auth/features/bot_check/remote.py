"""Asking a service about a token: bounded in time and size, led on to no other address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

import httpx

from ...config import AuthSettings
from ...database import deadline_paused
from ...security.outgoing import bounded, may_reach
from ...security.plaintext import Plaintext
from ...security.tls import https_context
from .services import SiteVerify

TIMEOUT: Final = 3.0
"""Seconds, all in all."""
MAXIMUM_BYTES: Final = 64 * 1024

_NOT_ABOUT_THE_TOKEN: Final = frozenset(
    {"internal-error", "missing-input-secret", "invalid-input-secret", "sitekey-secret-mismatch"}
)
"""Errors of a service that say nothing of the client."""


class DownError(Exception):
    """The service did not answer the question; says why."""


async def ask(
    settings: AuthSettings, service: SiteVerify, secret: str, token: Plaintext, address: str
) -> Mapping[str, Any] | None:
    """What the service says of a good token, None of one that is not. Raises `DownError`."""
    if not may_reach(settings, service.url):
        raise DownError("its address has no https")
    try:
        with deadline_paused():
            async with (
                asyncio.timeout(TIMEOUT),
                httpx.AsyncClient(
                    verify=await https_context(), timeout=TIMEOUT, follow_redirects=False
                ) as client,
            ):
                status, said = await _answer(client, _built(client, service.url, secret, token, address))
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, RecursionError) as error:
        raise DownError(type(error).__name__) from None
    if not isinstance(said, dict):
        raise DownError(f"status {status}, no object")
    if said.get("success") is True and status == 200:
        return said
    errors = said.get("error-codes")
    for code in errors if isinstance(errors, list) else ():
        if isinstance(code, str) and code in _NOT_ABOUT_THE_TOKEN:
            raise DownError(code)
    return None


def _built(client: httpx.AsyncClient, url: str, secret: str, token: Plaintext, address: str) -> httpx.Request:
    """No frame that waits has the token."""
    body = {"secret": secret, "response": token.take(), **({"remoteip": address} if address else {})}
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    return client.build_request("POST", url, headers=headers, data=body)


async def _answer(client: httpx.AsyncClient, request: httpx.Request) -> tuple[int, Any]:
    answer = await client.send(request, stream=True)
    try:
        status = answer.status_code
        if not 200 <= status < 300 and (status < 400 or status >= 500 or status == 429):
            raise DownError(f"status {status}")
        try:
            # As it comes: what is packed may be without end.
            body = await bounded(answer.aiter_raw(), MAXIMUM_BYTES)
        except ValueError as error:
            raise DownError(str(error)) from None
    finally:
        await answer.aclose()
    return status, json.loads(body)
