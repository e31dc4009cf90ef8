"""Tokens that a provider gives the app for a user: kept sealed, and renewed by one request at a time."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from tortoise.expressions import Q

from ...auth import Auth, autonomous
from ...errors import AuthError
from ...models import AbstractUser, matching
from ...security.encryption import UnreadableSecretError, open_sealed, seal_text
from ...security.keys import key_set
from ...security.plaintext import Plaintext
from .app_providers import providers_of
from .models import Identity
from .names import SocialError
from .providers import Provider
from .remote import PAUSE, TIMEOUT, Granted, Remote, SpentError

logger = logging.getLogger(__name__)

BEFORE: Final = 60
"""Seconds that a token must still be good for."""
TURN: Final = timedelta(seconds=2 * TIMEOUT)
"""How long one request may take for new tokens: the addresses of the provider, and the tokens."""
LOOKS: Final = 0.1
"""Seconds between two looks for what another request gets."""

_USE: Final = "provider tokens"


@dataclass(frozen=True, slots=True)
class _Kept:
    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: int | None


def sealed(auth: Auth, identity_id: UUID, granted: Granted, former: str | None = None) -> str:
    """What to store for this identity. A provider that gives no new refresh token lets the one of the
    `former` tokens be good."""
    refresh_token = None if granted.refresh_token is None else granted.refresh_token.look()
    if refresh_token is None and former is not None:
        before = _opened(auth, identity_id, former)
        refresh_token = None if before is None else before.refresh_token
    lifetime, now = granted.expires_in, int(auth.clock().timestamp())
    kept = [granted.access_token.look(), refresh_token, None if lifetime is None else now + lifetime]
    return seal_text(key_set(auth.settings), _USE, json.dumps(kept), str(identity_id))


def _opened(auth: Auth, identity_id: UUID, stored: str) -> _Kept | None:
    try:
        return _Kept(*json.loads(open_sealed(key_set(auth.settings), _USE, stored, str(identity_id))))
    except UnreadableSecretError:
        logger.warning("No configured key opens the tokens of a provider: the user has to sign in there.")
        return None


async def provider_token(auth: Auth, user: AbstractUser, name: str) -> str:
    """An access token of this provider for the user, good for another minute: of the identity that was used
    last. One that ends is renewed, by one request at a time in all workers.

    Raises `AuthError`: PROVIDER_TOKEN_NEEDED where the user has to sign in at the provider again,
    PROVIDER_UNAVAILABLE, SOCIAL_REFUSED; `LookupError` in an app without the provider, and `ValueError` for
    one without `store_tokens`.
    """
    provider = providers_of(auth).get(name)
    if provider is None:
        raise LookupError(f"This app has no provider {name!r}.")
    if not provider.store_tokens:
        raise ValueError(f"The tokens of {provider.label} are not kept: give it store_tokens=True.")
    loop = asyncio.get_running_loop()
    until = loop.time() + TIMEOUT
    while True:
        identity, kept = await _newest(auth, user, name)
        if kept.expires_at is None or auth.clock().timestamp() + BEFORE < kept.expires_at:
            return kept.access_token
        if kept.refresh_token is None:
            raise AuthError(SocialError.PROVIDER_TOKEN_NEEDED)
        if await _take_turn(auth, identity, auth.clock()):
            return await _renewed(auth, provider, identity, Plaintext(kept.refresh_token))
        if loop.time() >= until:
            raise AuthError(SocialError.PROVIDER_UNAVAILABLE, retry_after=int(PAUSE))
        await asyncio.sleep(LOOKS)


async def _newest(auth: Auth, user: AbstractUser, provider: str) -> tuple[Identity, _Kept]:
    own = auth.tables.of(Identity).filter(user_id=user.id, provider=provider, held_since=None)
    found = await own.filter(tokens__not_isnull=True).order_by("-last_used_at", "id").limit(1)
    for identity in matching(found, user_id=user.id, provider=provider):
        if (kept := _opened(auth, identity.id, identity.tokens or "")) is not None:
            return identity, kept
    raise AuthError(SocialError.PROVIDER_TOKEN_NEEDED)


async def _renewed(auth: Auth, provider: Provider, identity: Identity, refresh_token: Plaintext) -> str:
    try:
        granted = await auth.service(Remote).renew(provider, refresh_token)
    except SpentError as error:
        await _put(auth, identity, None)
        raise AuthError(SocialError.PROVIDER_TOKEN_NEEDED) from error
    except AuthError:
        await _put(auth, identity, identity.tokens)
        raise
    await _put(auth, identity, sealed(auth, identity.id, granted, identity.tokens))
    return granted.access_token.take()


@autonomous
async def _take_turn(auth: Auth, identity: Identity, now: datetime) -> int:
    """Whether this request is the one that gets new tokens."""
    same = auth.tables.of(Identity).filter(id=identity.id, user_id=identity.user_id, tokens=identity.tokens)
    nobody = same.filter(Q(renewing_until=None) | Q(renewing_until__lt=now))
    return await nobody.update(renewing_until=now + TURN)


@autonomous
async def _put(auth: Auth, identity: Identity, tokens: str | None) -> int:
    """The turn is over. What a sign-in has stored meanwhile stays."""
    same = auth.tables.of(Identity).filter(id=identity.id, user_id=identity.user_id, tokens=identity.tokens)
    return await same.update(tokens=tokens, renewing_until=None)
