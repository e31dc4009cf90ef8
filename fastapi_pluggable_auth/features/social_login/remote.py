"""Requests to providers: bounded in size and time, none is led on to another address."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from ...auth import Auth
from ...database import deadline_paused
from ...errors import AuthError
from ...security.outgoing import bounded, may_reach
from ...security.plaintext import Plaintext
from ...security.tls import https_context
from .app_providers import credentials_of
from .id_tokens import has_key
from .names import SocialError
from .providers import Provider

logger = logging.getLogger(__name__)

TIMEOUT: Final = 10.0
"""Seconds for one request, all in all."""
MAXIMUM_BYTES: Final = 512 * 1024
PAUSE: Final = 5.0
"""Seconds without another try at an address that did not answer."""
KEPT: Final = 3600.0
"""Seconds that addresses and keys are good without another look."""
AGAIN: Final = 60.0
"""Seconds between two looks for a key that is not there: anybody may send tokens with another id."""

_CHARACTERS: Final = re.compile("[!-~]+")
"""Of addresses (RFC 3986 section 2), and a few more."""


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

    access_token: Plaintext
    id_token: Plaintext | None = None
    refresh_token: Plaintext | None = None
    expires_in: int | None = None
    """Seconds that the access token is good for, where the provider says so."""


class SpentError(AuthError):
    """What was shown to the provider is no longer good (section 5.2 of RFC 6749)."""


_SPENT: Final = frozenset({"invalid_grant", "bad_refresh_token"})  # as GitHub calls it


@dataclass(frozen=True, slots=True)
class Answer:
    """What an address has answered, and when, by its own clock (`Date`, RFC 9110 section 6.6.1)."""

    status: int
    said: Any
    date: str | None


class ProviderError(AuthError):
    """A provider does not answer, or not as it should: `why` is for the operator, and in no answer."""

    def __init__(self, code: SocialError, why: str) -> None:
        again = int(PAUSE) if code is SocialError.PROVIDER_UNAVAILABLE else None
        super().__init__(code, retry_after=again)
        self.why = why


class Remote:
    """The providers of one app, over the network."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._known: dict[str, _Known] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._failed: dict[str, float] = {}

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
        async with self._turn(provider):
            now = asyncio.get_running_loop().time()
            age = None if known.keys_at is None else now - known.keys_at
            if age is None or age > KEPT or (age > AGAIN and not has_key(known.keys, key_id)):
                address = self.address(provider, known.document, "jwks_uri")
                known.keys = await self._get_once(provider, address)
                known.keys_at = now
        return known.keys

    async def grant(
        self, provider: Provider, code: Plaintext, verifier: Plaintext, redirect_uri: str
    ) -> Granted:
        """What it gives for a code (RFC 6749 section 4.1.3). Raises `AuthError`: PROVIDER_UNAVAILABLE,
        SOCIAL_REFUSED."""
        answer = await self.ask_for_tokens(provider, code, verifier, redirect_uri)
        return self._granted(provider, answer)

    async def renew(self, provider: Provider, refresh_token: Plaintext) -> Granted:
        """New tokens for a refresh token (section 6). Raises `SpentError` for one that is no longer good, and
        `AuthError`: PROVIDER_UNAVAILABLE, SOCIAL_REFUSED."""
        answer = await self._ask_for_tokens(
            provider, lambda: {"grant_type": "refresh_token", "refresh_token": refresh_token.take()}
        )
        if str(answer.said.get("error")) in _SPENT:
            raise SpentError(SocialError.SOCIAL_REFUSED)
        return self._granted(provider, answer)

    def _granted(self, provider: Provider, asked: Answer) -> Granted:
        answer: dict[str, Any] = asked.said
        tokens = {
            name: answer.pop(name, None) or None for name in ("access_token", "id_token", "refresh_token")
        }
        if asked.status >= 400:  # RFC 6749 section 5.2
            tokens = dict.fromkeys(tokens)
        for name, said in tokens.items():
            if not isinstance(said, str) and (said is not None or name == "access_token"):
                raise _refused(provider, f"token endpoint: {answer.get('error', 'no token')!r:.80}")
        given = {name: Plaintext(said) for name, said in tokens.items() if said is not None}
        tokens.clear()
        return Granted(**given, expires_in=_seconds(answer.get("expires_in")))

    async def ask_for_tokens(
        self, provider: Provider, code: Plaintext, verifier: Plaintext, redirect_uri: str
    ) -> Answer:
        """What its token endpoint answers, an object in any case. Raises as `grant` does."""
        return await self._ask_for_tokens(
            provider,
            lambda: {
                "grant_type": "authorization_code",
                "code": code.take(),
                "redirect_uri": redirect_uri,
                "code_verifier": verifier.take(),
            },
        )

    async def _ask_for_tokens(self, provider: Provider, made: Callable[[], dict[str, str]]) -> Answer:
        document = await self.document(provider)
        return await self._send(
            provider,
            "POST",
            self.address(provider, document, "token_endpoint"),
            lambda: self._request_for_tokens(provider, document, made()),
        )

    def _request_for_tokens(
        self, provider: Provider, document: Mapping[str, Any], body: dict[str, str]
    ) -> tuple[dict[str, str], dict[str, str] | None]:
        """Headers and body."""
        client_id, secret = credentials_of(self._auth, provider)
        headers = {"Accept": "application/json"}
        body["client_id"] = client_id
        methods = document.get("token_endpoint_auth_methods_supported")
        basic = not isinstance(methods, list) or "client_secret_basic" in methods  # which is the default
        in_body = provider.secret_in_body or provider.make_secret is not None
        if secret and basic and not in_body:
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif secret:
            body["client_secret"] = secret
        return headers, body

    async def fetch(self, provider: Provider, url: str, access_token: Plaintext) -> Any:
        """What is at an address of the provider for this user."""
        accept = {"Accept": "application/json"}
        answer = await self._send(
            provider, "GET", url, lambda: ({**accept, "Authorization": f"Bearer {access_token.take()}"}, None)
        )
        return answer.said

    async def _look(self, provider: Provider) -> _Known:
        """One request at a time for each provider."""
        issuer, loop = provider.issuer or "", asyncio.get_running_loop()
        async with self._turn(provider):
            known = self._known.get(issuer)
            if known is None or loop.time() - known.at > KEPT:
                address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
                document = await self._get_once(provider, address)
                said = document.get("issuer")
                if said != issuer and not (provider.issuer_of is not None and "{tenantid}" in str(said)):
                    raise _refused(provider, f"says to be {said!r:.80}")
                known = self._known[issuer] = _Known(document, loop.time())
            return known

    def _turn(self, provider: Provider) -> asyncio.Lock:
        return self._turns.setdefault(provider.issuer or "", asyncio.Lock())

    def address(self, provider: Provider, document: Mapping[str, Any], name: str) -> str:
        """An address that the provider publishes. Raises `AuthError(SOCIAL_REFUSED)`."""
        address = document.get(name)
        if not isinstance(address, str) or not self._may_reach(address):
            raise _refused(provider, f"{name} is {address!r:.80}")
        return address

    async def _get_once(self, provider: Provider, url: str) -> dict[str, Any]:
        """What it publishes there. Those who have waited for their turn while it did not answer do not try
        for themselves."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._failed.get(url, -PAUSE) < PAUSE:
            raise ProviderError(SocialError.PROVIDER_UNAVAILABLE, "it did not just now")
        try:
            answer = await self._send(provider, "GET", url, lambda: ({"Accept": "application/json"}, None))
        except AuthError:
            self._failed[url] = loop.time()
            raise
        if not isinstance(answer.said, dict):
            raise _refused(provider, f"no object at {url!r:.80}")
        return answer.said

    async def _send(
        self,
        provider: Provider,
        method: str,
        url: str,
        made: Callable[[], tuple[dict[str, str], dict[str, str] | None]],
    ) -> Answer:
        """`made` gives headers and body when they are sent: no frame that waits shows them."""
        if not self._may_reach(url):
            raise _refused(provider, f"{url!r:.80} is not an address with https")
        try:
            with deadline_paused():
                async with (
                    asyncio.timeout(TIMEOUT),
                    httpx.AsyncClient(
                        verify=await https_context(), timeout=TIMEOUT, follow_redirects=False
                    ) as client,
                ):
                    answer = await self._answer(client, _built(client, method, url, made))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError, RecursionError) as error:
            logger.warning("The provider %s did not answer: %s", provider.name, type(error).__name__)
            why = f"{error or type(error).__name__!s:.120}"
            raise ProviderError(SocialError.PROVIDER_UNAVAILABLE, why) from None
        status, said = answer.status, answer.said
        if 300 <= status < 400 or (status >= 400 and method == "GET"):
            raise _refused(provider, f"status {status}")
        if not isinstance(said, dict | list) or (method == "POST" and not isinstance(said, dict)):
            raise _refused(provider, "no object")
        return answer

    async def _answer(self, client: httpx.AsyncClient, request: httpx.Request) -> Answer:
        answer = await client.send(request, stream=True)
        try:
            if answer.status_code >= 500:
                raise ValueError(f"status {answer.status_code}")
            # As it comes: what is packed may be without end.
            body = await bounded(answer.aiter_raw(), MAXIMUM_BYTES)
        finally:
            await answer.aclose()
        return Answer(answer.status_code, json.loads(body), answer.headers.get("date"))

    def _may_reach(self, url: str) -> bool:
        """Whether it is an address, which providers too write as they like, and one that may be asked."""
        if not _CHARACTERS.fullmatch(url):
            return False
        try:
            parts = urlsplit(url)
            if not parts.hostname or parts.port == 0:
                return False
        except ValueError:
            return False
        return may_reach(self._auth.settings, url)


def _seconds(said: object) -> int | None:
    """Some write the number as a text."""
    if isinstance(said, str) and said.isascii() and said.isdigit():
        said = int(said[:9])
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 < said < 10**9 else None


def _built(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    made: Callable[[], tuple[dict[str, str], dict[str, str] | None]],
) -> httpx.Request:
    headers, body = made()
    return client.build_request(method, url, headers={**headers, "Accept-Encoding": "identity"}, data=body)


def _refused(provider: Provider, why: str) -> ProviderError:
    logger.warning("An answer of the provider %s was refused: %s.", provider.name, why)
    return ProviderError(SocialError.SOCIAL_REFUSED, why)
