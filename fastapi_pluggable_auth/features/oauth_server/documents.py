"""Clients that are known by the address of a document (OAuth Client ID Metadata Document)."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from ...auth import Auth
from ...database import deadline_paused
from ...errors import AuthError
from ...models import exact
from ...security.fetching import Fetched, Fetcher, FetchError, HostDownError
from .models import (
    AUTHORIZATION_CODE,
    CLIENT_ID_LENGTH,
    DEVICE_CODE,
    DOCUMENT,
    STALE,
    AbstractOAuthClient,
    OAuthClient,
    digest_of,
)
from .names import OAuthError
from .registration import (
    HTTPS,
    RefusedClientError,
    checked_addresses,
    checked_redirect_uris,
    cleaned_name,
    home_page,
)
from .settings import OAuthSettings

logger = logging.getLogger(__name__)

SHORTEST: Final = timedelta(minutes=5)
LONGEST: Final = timedelta(hours=24)
"""For how long a document may be good without another look, whatever its host says."""
UNSAID: Final = timedelta(hours=1)
"""The same where it says nothing."""
WINDOW: Final = 60.0
"""Seconds in which so many are fetched by a process, and none twice that could not be had:"""
OF_ONE_HOST: Final = 20
OF_ALL: Final = 120

_MAX_AGE: Final = re.compile(r"(?:^|[\s,])(?:s-maxage|max-age)\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)
_NO_STORE: Final = re.compile(r"(?:^|[\s,])no-(?:store|cache)(?:$|[\s,=])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Described:
    """What a document says of its client."""

    name: str
    client_uri: str | None
    redirect_uris: frozenset[str]
    grant_types: frozenset[str]
    post_logout_redirect_uris: frozenset[str]


def is_address(client_id: str) -> bool:
    """Whether a client id may be the address of a document: https, with a path that is written out, and
    nothing that is not sent."""
    if len(client_id) > CLIENT_ID_LENGTH or not HTTPS.fullmatch(client_id):
        return False
    try:
        parts = urlsplit(client_id)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    steps = re.sub("%2e", ".", parts.path, flags=re.IGNORECASE).split("/")
    return named and parts.path not in ("", "/") and not {".", ".."} & {*steps}


def host_of(client_id: str) -> str:
    """The host of a client that is known by an address."""
    return urlsplit(client_id).hostname or ""


def is_named(auth: Auth, client_id: str) -> bool:
    """Whether the operator has named the host of this address in OAUTH_CLIENT_HOSTS."""
    named = auth.features.settings_of(OAuthSettings).oauth_client_hosts
    return host_of(client_id) in {each.lower() for each in named}


async def client_of_document(
    auth: Auth, client_id: str, kept: AbstractOAuthClient | None
) -> AbstractOAuthClient | None:
    """The client that the document at this address describes; None where there is no valid one, or none from
    there is taken. `kept` is its row, which is the cache. Raises `AuthError(OAUTH_CLIENT_UNAVAILABLE)` where
    the document cannot be had now and none is kept."""
    limited = auth.features.settings_of(OAuthSettings).oauth_client_hosts
    if not is_address(client_id) or (limited and not is_named(auth, client_id)):
        return None
    if kept is not None and _is_fresh(auth, kept):
        return kept
    documents = auth.service(Documents)
    async with documents.turn(client_id):
        # Those who have waited find what the first has fetched.
        kept = await exact(auth.tables.of(OAuthClient).all(), digest=digest_of(client_id))
        if kept is not None and _is_fresh(auth, kept):
            return kept
        try:
            with deadline_paused():
                fetched = await documents.fetch(client_id)
            described = describe(client_id, fetched.document)
        except HostDownError as error:
            logger.info("The document of the OAuth client %s cannot be had: %s.", client_id, error)
            return await _stale(auth, kept)
        except (FetchError, RefusedClientError) as error:
            logger.info("The document of the OAuth client %s is not valid: %s.", client_id, error)
            return None
        return await _keep(auth, client_id, described, lifetime(fetched.cache_control))


class Documents:
    """Fetches the documents of one app: one at a time from an address, and within a budget, so that nobody
    has the app knock at the doors of others."""

    def __init__(self, auth: Auth) -> None:
        self.fetcher = Fetcher()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._until = 0.0
        self._fetches: Counter[str] = Counter()
        self._failed: dict[str, str] = {}

    def turn(self, client_id: str) -> asyncio.Lock:
        """Held by the one that fetches from this address."""
        return self._turns.setdefault(client_id, asyncio.Lock())

    async def fetch(self, client_id: str) -> Fetched:
        """What is at this address. Raises `FetchError`."""
        host, now = host_of(client_id), asyncio.get_running_loop().time()
        if now >= self._until:
            self._until = now + WINDOW
            self._fetches.clear()
            self._failed.clear()
        if (why := self._failed.get(client_id)) is not None:
            raise HostDownError(f"{why}, just now")
        if self._fetches[host] >= OF_ONE_HOST or self._fetches.total() >= OF_ALL:
            raise HostDownError("too many documents were fetched in the last minute")
        self._fetches[host] += 1
        try:
            return await self.fetcher.fetch(client_id)
        except HostDownError as error:
            self._failed[client_id] = str(error)
            raise


def lifetime(cache_control: str) -> timedelta:
    """For how long a document is good without another look (RFC 9111 section 5.2.2), within our bounds."""
    if _NO_STORE.search(cache_control):
        return SHORTEST
    said = _MAX_AGE.search(cache_control)
    asked = UNSAID if said is None else timedelta(seconds=int(said[1]))
    return max(SHORTEST, min(asked, LONGEST))


def describe(client_id: str, document: Mapping[str, Any]) -> Described:
    """The client of a document (RFC 7591 section 2). Grant types and ways to authenticate that this server
    lacks are left out, as it may by that section: Claude's lists `jwt-bearer`, that of ChatGPT
    `private_key_jwt`. Raises `RefusedClientError` for one that is of another address, has a shared secret, or
    leaves nothing that can be done."""
    if document.get("client_id") != client_id:
        raise RefusedClientError(f"its client_id is {document.get('client_id')!r:.80}")
    method = document.get("token_endpoint_auth_method")
    if {"client_secret", "client_secret_expires_at"} & document.keys() or _is_shared(method):
        raise RefusedClientError("a document is public, and has no client secret")
    for name, ours in (("grant_types", "authorization_code"), ("response_types", "code")):
        if ours not in _texts(document.get(name, [ours])):
            raise RefusedClientError(f"its {name} are without {ours}")
    addresses = checked_redirect_uris(_texts(document.get("redirect_uris")), skip=True)
    name = cleaned_name(document.get("client_name")) or host_of(client_id)
    known = frozenset({AUTHORIZATION_CODE, DEVICE_CODE})
    grant_types = known & {*_texts(document.get("grant_types", [AUTHORIZATION_CODE]))}
    after_logout = checked_addresses(_texts(document.get("post_logout_redirect_uris")), skip=True)
    home = home_page(document.get("client_uri"))
    return Described(name, home, addresses, grant_types, after_logout)


def _is_shared(method: object) -> bool:
    return isinstance(method, str) and method.startswith("client_secret_")


def _texts(value: object) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _is_fresh(auth: Auth, kept: AbstractOAuthClient) -> bool:
    return kept.fresh_until is not None and auth.clock() < kept.fresh_until


async def _stale(auth: Auth, kept: AbstractOAuthClient | None) -> AbstractOAuthClient:
    """What is kept, for a while: other requests, and other processes, need not try as well."""
    now = auth.clock()
    if kept is None or kept.fetched_at is None or now >= kept.fetched_at + STALE:
        raise AuthError(OAuthError.OAUTH_CLIENT_UNAVAILABLE, retry_after=int(WINDOW))
    kept.fresh_until = min(now + SHORTEST, kept.fetched_at + STALE)
    await auth.tables.of(OAuthClient).filter(id=kept.id).update(fresh_until=kept.fresh_until)
    return kept


async def _keep(
    auth: Auth, client_id: str, described: Described, fresh_for: timedelta
) -> AbstractOAuthClient | None:
    table, now, digest = auth.tables.of(OAuthClient), auth.clock(), digest_of(client_id)
    columns = {
        "name": described.name,
        "client_uri": described.client_uri,
        "redirect_uris": described.redirect_uris,
        "grant_types": described.grant_types,
        "post_logout_redirect_uris": described.post_logout_redirect_uris,
        "fetched_at": now,
        "fresh_until": now + fresh_for,
    }
    if not await table.filter(digest=digest, origin=DOCUMENT).update(**columns):
        row = table(client_id=client_id, digest=digest, origin=DOCUMENT, created_at=now, **columns)
        await table.bulk_create([row], ignore_conflicts=True)
    return await exact(table.all(), digest=digest)
