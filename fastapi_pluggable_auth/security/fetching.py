"""Fetching a document from an address that a stranger names: over TLS, from the public internet, small, soon,
led on to nowhere."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import httpx

from .outgoing import bounded
from .public_addresses import is_public
from .tls import https_context

TIMEOUT: Final = 5.0
"""Seconds, all in all."""
CONNECT_TIMEOUT: Final = 2.0
"""Seconds for one of the addresses of a host."""
MAXIMUM_BYTES: Final = 5 * 1024
_PASSING: Final = frozenset({403, 408, 425, 429})
"""With those from 500 on: what hosts answer that are busy, or take us for a robot."""

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[tuple[str, int]]]]
"""The IP addresses and ports behind a host name and a port. Raises `OSError`."""


class FetchError(Exception):
    """There is no such document; says why."""


class HostDownError(FetchError):
    """The host does not answer now, or not as usual."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A JSON object, and what its host says of how long it is good."""

    document: dict[str, Any]
    cache_control: str


async def resolve(host: str, port: int) -> list[tuple[str, int]]:
    """As the system does. In threads of its own, as the names of strangers may take long to resolve."""
    look = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_resolving(), look)
    return [*dict.fromkeys((str(address[0]), int(address[1])) for *_, address in found)]


@cache
def _resolving() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, thread_name_prefix="resolving")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetcher:
    """How documents are fetched. The host is looked up once, by `resolver`; each address must be one that
    `may_reach` takes, and it is connected to as it was found, so that no other answer for the name counts.
    `trust` gives what verifies the host's certificate."""

    resolver: Resolver = resolve
    may_reach: Callable[[str], bool] = is_public
    trust: Callable[[], Awaitable[ssl.SSLContext]] = https_context

    async def fetch(self, url: str) -> Fetched:
        """The JSON object at an address with https. Raises `FetchError`, and `HostDownError` for what may
        pass."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._fetch(url)
        except (ValueError, httpx.InvalidURL) as error:
            raise FetchError("not an address") from error
        except TimeoutError:
            raise HostDownError(f"no answer within {TIMEOUT:.0f} seconds") from None

    async def _fetch(self, url: str) -> Fetched:
        parts = urlsplit(url)
        host = parts.hostname
        if parts.scheme != "https" or not host or "@" in parts.netloc:
            raise FetchError("not an address with https")
        try:
            found = await self.resolver(host, parts.port or 443)
        except (OSError, UnicodeError) as error:
            raise HostDownError(f"{host} cannot be resolved") from error
        if not found or not all(self.may_reach(address) for address, _ in found):
            raise FetchError(f"{host} is not on the public internet")
        # No proxy of the environment: it would resolve the name again.
        async with httpx.AsyncClient(
            verify=await self.trust(),
            timeout=httpx.Timeout(TIMEOUT, connect=CONNECT_TIMEOUT),
            trust_env=False,
            follow_redirects=False,
        ) as client:
            for address, port in found:
                where = f"[{address}]" if ":" in address else address
                request = client.build_request(
                    "GET",
                    f"https://{where}:{port}{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}",
                    headers={
                        "Host": parts.netloc,
                        "Accept": "application/json",
                        "Accept-Encoding": "identity",
                        "User-Agent": "fastapi-pluggable-auth",
                    },
                    extensions={"sni_hostname": host},  # which the certificate must be for
                )
                try:
                    answer = await client.send(request, stream=True)
                    try:
                        return await _read(answer)
                    finally:
                        await answer.aclose()
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    problem = str(error) or type(error).__name__
                except (httpx.HTTPError, OSError) as error:  # of TLS, once a connection is open
                    raise HostDownError(str(error) or type(error).__name__) from error
        raise HostDownError(problem)


async def _read(answer: httpx.Response) -> Fetched:
    status = answer.status_code
    if status >= 500 or status in _PASSING:
        raise HostDownError(f"status {status}")
    if status != 200:
        raise FetchError(f"status {status}" + (", which leads elsewhere" if answer.is_redirect else ""))
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise FetchError(f"not JSON, but {kind[:80] or 'of no type'}")
    try:
        said = json.loads(await bounded(answer.aiter_raw(), MAXIMUM_BYTES))
    except (ValueError, RecursionError):
        raise FetchError(f"not JSON of {MAXIMUM_BYTES} bytes at most") from None
    if not isinstance(said, dict):
        raise FetchError("not a JSON object")
    return Fetched(said, answer.headers.get("Cache-Control", ""))
