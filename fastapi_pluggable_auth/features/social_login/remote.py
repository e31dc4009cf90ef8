"""Requests to providers: bounded in size and time, none is led on to another address."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from ...auth import Auth
from ...config import is_local
from ...database import deadline_paused
from ...errors import AuthError
from ...security.tls import https_context
from .credentials import credentials_of
from .id_tokens import has_key
from .names import SocialError
from .providers import Provider

logger = logging.getLogger(__name__)

TIMEOUT: Final = 10.0
"""Seconds for one request, all in all."""
MAXIMUM_BYTES: Final = 512 * 1024
KEPT: Final = 3600.0
"""Seconds that addresses and keys are good without another look."""
AGAIN: Final = 60.0
"""Seconds between two looks for a key that is not there: anybody may send tokens with another id."""


@dataclass(slots=True)
class _Known:
    """What a provider publishes, and when it was read."""

    document: Mapping[str, Any]
    at: float
    keys: Mapping[str, Any] = field(default_factory=dict)
    keys_at: float | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """What a provider gives for a code."""

    access_token: str = field(repr=False)
    id_token: str | None = field(default=None, repr=False)


class Remote:
    """The providers of one app, over the network."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._known: dict[str, _Known] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def document(self, provider: Provider) -> Mapping[str, Any]:
        """The addresses of a provider (OpenID Connect Discovery section 4). Raises `AuthError`:
        PROVIDER_UNAVAILABLE, SOCIAL_REFUSED for one that says to be another."""
        if provider.issuer is None:
            return {
                "authorization_endpoint": provider.authorization_endpoint,
                "token_endpoint": provider.token_endpoint,
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
            }
        return (await self._look(provider)).document

    async def keys(self, provider: Provider, key_id: str | None) -> Mapping[str, Any]:
        """Its keys: read again where this one is not among them, at most once a minute. Raises
        `AuthError`."""
        known = await self._look(provider)
        now = asyncio.get_running_loop().time()
        age = None if known.keys_at is None else now - known.keys_at
        missing = not has_key(known.keys, key_id)
        if age is None or age > KEPT or (missing and age > AGAIN):
            known.keys_at = now
            known.keys = await self._get(provider, self._address(provider, known.document, "jwks_uri"))
        return known.keys

    async def grant(self, provider: Provider, fields: Mapping[str, str]) -> Granted:
        """What it gives for a code (RFC 6749 section 4.1.3). Raises `AuthError`: PROVIDER_UNAVAILABLE,
        SOCIAL_REFUSED."""
        document = await self.document(provider)
        address = self._address(provider, document, "token_endpoint")
        client_id, secret = credentials_of(self._auth, provider)
        headers, body = {"Accept": "application/json"}, {**fields, "client_id": client_id}
        methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        if secret and "client_secret_basic" in methods and provider.make_secret is None:
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif secret:
            body["client_secret"] = secret
        answer = await self._send(provider, "POST", address, headers=headers, data=body)
        access_token, id_token = answer.get("access_token"), answer.get("id_token")
        if not isinstance(access_token, str) or not isinstance(id_token, str | None):
            raise _refused(provider, f"token endpoint: {answer.get('error', 'no token')!r:.80}")
        return Granted(access_token, id_token)

    async def fetch(self, provider: Provider, url: str, access_token: str) -> Any:
        """What is at an address of the provider for this user."""
        return await self._get(provider, url, {"Authorization": f"Bearer {access_token}"})

    async def _look(self, provider: Provider) -> _Known:
        """One request at a time for each provider."""
        issuer, loop = provider.issuer or "", asyncio.get_running_loop()
        async with self._turns.setdefault(issuer, asyncio.Lock()):
            known = self._known.get(issuer)
            if known is None or loop.time() - known.at > KEPT:
                document = await self._get(provider, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
                said = document.get("issuer")
                if said != issuer and not (provider.issuer_of is not None and "{tenantid}" in str(said)):
                    raise _refused(provider, f"says to be {said!r:.80}")
                known = self._known[issuer] = _Known(document, loop.time())
            return known

    def _address(self, provider: Provider, document: Mapping[str, Any], name: str) -> str:
        address = document.get(name)
        if not isinstance(address, str):
            raise _refused(provider, f"has no {name}")
        return address

    async def _get(self, provider: Provider, url: str, headers: Mapping[str, str] | None = None) -> Any:
        accept = {"Accept": "application/json", **(headers or {})}
        return await self._send(provider, "GET", url, headers=accept)

    async def _send(
        self,
        provider: Provider,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        data: Mapping[str, str] | None = None,
    ) -> Any:
        if not self._may_reach(url):
            raise _refused(provider, f"{url!r:.80} is not an address with https")
        body = bytearray()
        try:
            with deadline_paused():
                async with (
                    asyncio.timeout(TIMEOUT),
                    httpx.AsyncClient(
                        verify=await https_context(), timeout=TIMEOUT, follow_redirects=False
                    ) as client,
                    client.stream(method, url, headers={**headers}, data=data) as answer,
                ):
                    async for chunk in answer.aiter_bytes():
                        body += chunk
                        if len(body) > MAXIMUM_BYTES:
                            raise ValueError("an answer without end")
            if answer.status_code >= 500:
                raise ValueError(f"status {answer.status_code}")
            said = json.loads(body)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, RecursionError) as error:
            logger.warning("The provider %s did not answer: %s", provider.name, type(error).__name__)
            raise AuthError(SocialError.PROVIDER_UNAVAILABLE, retry_after=5) from error
        if answer.status_code >= 400 and method == "GET":
            raise _refused(provider, f"status {answer.status_code}")
        if not isinstance(said, dict | list):
            raise _refused(provider, "no object")
        return said

    def _may_reach(self, url: str) -> bool:
        """An app on this machine may have its provider there as well."""
        parts = urlsplit(url)
        if parts.scheme == "https":
            return True
        return parts.scheme == "http" and self._auth.settings.is_local and is_local(url)


def _refused(provider: Provider, why: str) -> AuthError:
    logger.warning("An answer of the provider %s was refused: %s.", provider.name, why)
    return AuthError(SocialError.SOCIAL_REFUSED)
