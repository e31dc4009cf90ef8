"""Tokens for a code, a device code or a refresh token, and their end (RFC 6749 sections 4.1.3 and 6, RFC
7009, and RFC 8628 section 3.4).

A refresh token is spent for a new pair. One that comes back within the leeway is a retry, and gets the same
pair again. Later, where nobody has shown that pair, the answer was lost, and the pair is replaced. In any
other case two have the tokens, and the grant ends (RFC 9700 section 4.14.2).

Whatever changes the tokens of a grant locks the grant first, but for the note that one was shown.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tortoise.exceptions import IntegrityError
from tortoise.expressions import Q

from ...auth import Auth, autonomous
from ...errors import AuthError
from ...events import EventKind, Observation
from ...models import AbstractUser, exact, matching
from ...security.plaintext import Plaintext
from .client_tokens import revoke_client_token
from .devices import refuse_waiting
from .ending import end_stolen
from .models import (
    ACCESS,
    CODE,
    DEVICE,
    REFRESH,
    AbstractOAuthClient,
    AbstractOAuthGrant,
    AbstractOAuthToken,
    OAuthGrant,
    OAuthToken,
    digest_of,
)
from .names import OAuthEventKind
from .openid import id_token, signs_in
from .protocol import ProtocolError
from .resources import resources_of_token
from .service_tokens import access_ends, digest_in, service_in, shown_token
from .settings import OAuthSettings
from .tokens import Place, new_refresh_token, new_secret, place_of, successors

_VERIFIER: Final = re.compile("[A-Za-z0-9._~-]{43,128}")
"""RFC 7636 section 4.1."""

_CODES: Final = frozenset({CODE, DEVICE})
_MOST: Final = 1000
"""How many spent ones are dropped at a time: databases limit the parameters of a statement."""
_LOOKS: Final = 5
"""How often a request that others overtake looks again at what has become of its token."""


@dataclass(frozen=True, slots=True)
class Issued:
    """The answer to a token request."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    scopes: frozenset[str]
    id_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Pair:
    """An access token and a refresh token, and what follows which of them."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    parent: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who asks, and what the access token is to be good for."""

    client: AbstractOAuthClient
    scopes: frozenset[str]
    resources: frozenset[str]


class _OvertakenError(Exception):
    """What was to be replaced was shown meanwhile: rolls the transaction back."""


class _StolenError(Exception):
    """Two have the token."""


async def exchange_code(
    auth: Auth,
    client: AbstractOAuthClient,
    code: Plaintext,
    redirect_uri: str | None,
    code_verifier: Plaintext,
    resources: Iterable[str] = (),
) -> Issued:
    """Tokens for a code, once; a replay ends what it gave (RFC 6749 section 4.1.2). The `redirect_uri` may be
    left out, as in OAuth 2.1. Raises `AuthError`: `ProtocolError.INVALID_GRANT`, INVALID_TARGET."""
    async with auth.events.observe(OAuthEventKind.OAUTH_TOKEN) as observation:
        token = await _find(auth, client, code.take(), CODE, observation)
        user = await _owner(auth, token)
        if token.spent_at is not None:
            await end_stolen(auth, token.grant_id, user)
            raise AuthError(ProtocolError.INVALID_GRANT)
        bound = json.loads(token.details or "{}")
        verified = _is_verified(bound["code_challenge"], code_verifier.take())
        if not verified or redirect_uri not in (None, bound["redirect_uri"]):
            raise AuthError(ProtocolError.INVALID_GRANT)
        asked = _Asked(client, token.scopes, resources_of_token(auth, resources, token.resources))
        issued = await _spend(auth, token, user, asked)
        return _signed_in(auth, client, user, issued, bound)


async def exchange_device_code(
    auth: Auth, client: AbstractOAuthClient, device_code: Plaintext, resources: Iterable[str] = ()
) -> Issued:
    """Tokens for the code of a device that its user has allowed, once, as for another code. Raises
    `AuthError`: `ProtocolError.INVALID_GRANT`, INVALID_TARGET, EXPIRED_TOKEN, and as `refuse_waiting`."""
    await refuse_waiting(auth, client, digest_of(device_code.look()))
    async with auth.events.observe(OAuthEventKind.OAUTH_TOKEN) as observation:
        token = await _find(auth, client, device_code.take(), DEVICE, observation)
        user = await _owner(auth, token)
        if token.spent_at is not None:
            await end_stolen(auth, token.grant_id, user)
            raise AuthError(ProtocolError.INVALID_GRANT)
        if token.expires_at <= auth.clock():
            raise AuthError(ProtocolError.EXPIRED_TOKEN)
        asked = _Asked(client, token.scopes, resources_of_token(auth, resources, token.resources))
        issued = await _spend(auth, token, user, asked)
        return _signed_in(auth, client, user, issued, json.loads(token.details or "{}"))


def _signed_in(
    auth: Auth, client: AbstractOAuthClient, user: AbstractUser, issued: Issued, bound: Mapping[str, Any]
) -> Issued:
    """The same with an ID token, where the user has signed in to the client."""
    if not signs_in(auth, issued.scopes):
        return issued
    shown = id_token(auth, client.client_id, user, issued.scopes, bound, issued.access_token)
    return replace(issued, id_token=shown)


async def refresh(
    auth: Auth,
    client: AbstractOAuthClient,
    token: Plaintext,
    scopes: frozenset[str] | None = None,
    resources: Iterable[str] = (),
) -> Issued:
    """Spends a refresh token for new ones; the access token may have fewer `scopes` and `resources`. Raises
    `AuthError`: `ProtocolError.INVALID_GRANT`, INVALID_SCOPE, INVALID_TARGET."""
    async with auth.events.observe(EventKind.TOKEN_REFRESH) as observation:
        spent = await _find(auth, client, token.look(), REFRESH, observation)
        user = await _owner(auth, spent)
        if scopes is not None and not scopes <= spent.scopes:
            raise AuthError(ProtocolError.INVALID_SCOPE)
        asked = _Asked(client, scopes or spent.scopes, resources_of_token(auth, resources, spent.resources))
        try:
            for _ in range(_LOOKS):
                try:
                    return await _rotate(auth, spent, token, asked, auth.clock())
                except _OvertakenError:
                    continue
        except _StolenError:
            await end_stolen(auth, spent.grant_id, user)
        except IntegrityError as error:  # the account was deleted meanwhile
            raise AuthError(ProtocolError.INVALID_GRANT) from error
        raise AuthError(ProtocolError.INVALID_GRANT)


async def revoke(auth: Auth, client: AbstractOAuthClient, token: Plaintext) -> None:
    """Ends one access token or, by its refresh token, a grant; what there is not has ended already (RFC 7009
    section 2.2). Raises `AuthError(ProtocolError.INVALID_GRANT)` for a token of another client."""
    rows, grants = auth.tables.of(OAuthToken), auth.tables.of(OAuthGrant)
    secret = token.take()
    digest = digest_in(auth, secret) or digest_of(secret)
    del secret
    if await revoke_client_token(auth, client, digest):
        return
    found = await exact(rows.all(), digest=digest)
    if found is None or found.kind in _CODES:
        return
    async with auth.events.observe(OAuthEventKind.OAUTH_TOKEN_REVOKED, user_id=found.user_id):
        grant = await exact(grants.all(), id=found.grant_id)
        if grant is not None and grant.client_id != client.id:
            raise AuthError(ProtocolError.INVALID_GRANT)
        if found.kind == ACCESS:
            await rows.filter(id=found.id).delete()
        else:
            await grants.filter(id=found.grant_id).delete()


async def _spend(auth: Auth, code: AbstractOAuthToken, user: AbstractUser, asked: _Asked) -> Issued:
    """Tokens for a code, unless another request was faster: that has them, and both lose them."""
    now = auth.clock()
    pair = _Pair(new_secret(ACCESS), new_refresh_token(auth, Place(code.grant_id, now)), code.digest)
    try:
        issued = await _exchange(auth, code, pair, asked, now)
    except IntegrityError as error:  # the account was deleted meanwhile
        raise AuthError(ProtocolError.INVALID_GRANT) from error
    if issued is None:
        await end_stolen(auth, code.grant_id, user)
        raise AuthError(ProtocolError.INVALID_GRANT)
    return issued


async def _find(
    auth: Auth, client: AbstractOAuthClient, secret: str, kind: str, observation: Observation
) -> AbstractOAuthToken:
    """The token of this kind. Raises `AuthError(ProtocolError.INVALID_GRANT)` where this client has none
    such. A code that was spent before is found whoever has it."""
    digest, place = digest_of(secret), place_of(auth, secret) if kind == REFRESH else None
    del secret  # an error tracker would send it with this frame
    token = await exact(auth.tables.of(OAuthToken).all(), digest=digest)
    if token is None and place is not None:
        await _end_dropped(auth, client, place)
    if token is None or token.kind != kind:
        raise AuthError(ProtocolError.INVALID_GRANT)
    observation.user_id = token.user_id
    grant = await exact(auth.tables.of(OAuthGrant).all(), id=token.grant_id)
    replayed = kind in _CODES and token.spent_at is not None
    if grant is None or not (grant.client_id == client.id or replayed):
        raise AuthError(ProtocolError.INVALID_GRANT)
    return token


async def _end_dropped(auth: Auth, client: AbstractOAuthClient, place: Place) -> None:
    """Ends the grant of a refresh token that was spent so long ago that it was dropped: a later one of the
    grant that was spent says so, unlike after a database was restored."""
    grant = await exact(auth.tables.of(OAuthGrant).all(), id=place.grant_id)
    if grant is None or grant.client_id != client.id:
        return
    later = auth.tables.of(OAuthToken).filter(
        grant_id=grant.id, kind=REFRESH, created_at__gt=place.created_at, spent_at__not_isnull=True
    )
    user = await exact(auth.tables.user.all(), id=grant.user_id)
    if user is not None and await later.exists():
        await end_stolen(auth, grant.id, user)


async def _drop_spent(auth: Auth, token: AbstractOAuthToken, now: datetime) -> None:
    """Deletes what is older than the token that is spent just now, which says as much of each of them: kept
    for as long as retries are answered, and access tokens of the same pair are good."""
    settings = auth.features.settings_of(OAuthSettings)
    shown = max(settings.oauth_access_token_expires, settings.oauth_service_token_expires)
    kept_for = max(auth.settings.spent_token_retention, shown + auth.settings.refresh_reuse_leeway)
    old, rows = now - kept_for, auth.tables.of(OAuthToken)
    earlier = rows.filter(grant_id=token.grant_id, kind=REFRESH, created_at__lt=token.created_at)
    spent = earlier.filter(Q(spent_at__lt=old) | Q(superseded=True, created_at__lt=old))
    # By their keys: MariaDB locks what lies between the rows of an index, where others store theirs.
    if ids := await spent.limit(_MOST).values_list("id", flat=True):
        await rows.filter(id__in=[*ids]).delete()


async def _owner(auth: Auth, token: AbstractOAuthToken) -> AbstractUser:
    user = await exact(auth.tables.user.all(), id=token.user_id)
    if user is None or not user.is_active:
        raise AuthError(ProtocolError.INVALID_GRANT)
    return user


def _is_verified(challenge: str, verifier: str) -> bool:
    """RFC 7636 section 4.6, by S256."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return _VERIFIER.fullmatch(verifier) is not None and hmac.compare_digest(digest, challenge)


async def _locked(auth: Auth, grant_id: UUID, now: datetime) -> AbstractOAuthGrant:
    """The grant as it is now, which no other request changes until the transaction ends. Raises
    `AuthError(ProtocolError.INVALID_GRANT)` where it has ended."""
    grants = auth.tables.of(OAuthGrant)
    await grants.filter(id=grant_id).update(last_used_at=now)
    grant = await exact(grants.all(), id=grant_id)
    if grant is None or grant.expires_at <= now:
        raise AuthError(ProtocolError.INVALID_GRANT)
    return grant


@autonomous
async def _exchange(
    auth: Auth, code: AbstractOAuthToken, pair: _Pair, asked: _Asked, now: datetime
) -> Issued | None:
    """None where another request was faster. A code that nobody uses in time ends with its grant."""
    rows = auth.tables.of(OAuthToken)
    grant = await _locked(auth, code.grant_id, now)
    if not await rows.filter(id=code.id, spent_at=None).update(spent_at=now):
        return None
    return await _issue(auth, grant, pair, asked, now)


@autonomous
async def _rotate(
    auth: Auth, spent: AbstractOAuthToken, secret: Plaintext, asked: _Asked, now: datetime
) -> Issued:
    """The pair that follows on a refresh token. Raises `AuthError(ProtocolError.INVALID_GRANT)`,
    `_StolenError` and `_OvertakenError`."""
    rows = auth.tables.of(OAuthToken)
    grant = await _locked(auth, spent.grant_id, now)
    token = await exact(rows.all(), id=spent.id)
    if token is None:
        raise AuthError(ProtocolError.INVALID_GRANT)
    if token.superseded:
        raise _StolenError
    if token.expires_at <= now:
        raise AuthError(ProtocolError.INVALID_GRANT)
    if token.spent_at is None:
        await rows.filter(id=token.id).update(spent_at=now)
        await _drop_spent(auth, token, now)
        return await _issue(auth, grant, _next(auth, token, secret, 0, now), asked, now)
    same = matching(await rows.filter(parent=token.digest, superseded=False), parent=token.digest)
    live = {each.kind: each for each in same}
    successor = live.get(REFRESH)
    if successor is None:
        raise AuthError(ProtocolError.INVALID_GRANT)
    raced = now - successor.created_at <= auth.settings.refresh_reuse_leeway
    if successor.spent_at is not None or (successor.used_at is not None and not raced):
        raise AuthError(ProtocolError.INVALID_GRANT) if raced else _StolenError
    if raced:
        access = live.get(ACCESS)
        again = _repeated(auth, successor, secret)
        if again is None or access is None or digest_of(again.access) != access.digest:
            raise AuthError(ProtocolError.INVALID_GRANT)
        return _issued(auth, asked.client, again, access, now)
    unseen = rows.filter(parent=token.digest, superseded=False, used_at=None, spent_at=None)
    if await unseen.update(superseded=True) < len(live):
        raise _OvertakenError
    pair = _next(auth, token, secret, successor.attempt + 1, now)
    return await _issue(auth, grant, pair, asked, now)


def _next(auth: Auth, spent: AbstractOAuthToken, secret: Plaintext, attempt: int, now: datetime) -> _Pair:
    access, fresh = next(successors(auth, secret.look(), attempt, Place(spent.grant_id, now)))
    return _Pair(access, fresh, spent.digest, attempt)


def _repeated(auth: Auth, successor: AbstractOAuthToken, secret: Plaintext) -> _Pair | None:
    """The pair with this refresh token, None where it was made with a key that the app has no more."""
    place = Place(successor.grant_id, successor.created_at)
    for access, fresh in successors(auth, secret.look(), successor.attempt, place):
        if digest_of(fresh) == successor.digest:
            return _Pair(access, fresh, str(successor.parent), successor.attempt)
    return None


async def _issue(auth: Auth, grant: AbstractOAuthGrant, pair: _Pair, asked: _Asked, now: datetime) -> Issued:
    """Stores a pair, and lets its grant live on. Belongs inside the transaction."""
    settings = auth.features.settings_of(OAuthSettings)
    latest = grant.authorized_at + settings.oauth_grant_max_age
    ends_first = min(access_ends(auth, asked.resources, now), latest)
    refresh_ends = min(now + settings.oauth_refresh_token_expires, latest)
    rows = auth.tables.of(OAuthToken)
    same: dict[str, Any] = {
        "user_id": grant.user_id,
        "grant_id": grant.id,
        "parent": pair.parent,
        "attempt": pair.attempt,
        # No service says that it was shown one: after the leeway, it counts as shown.
        "used_at": None if service_in(auth, asked.resources) is None else now,
        "created_at": now,
    }
    access = await rows.create(
        kind=ACCESS,
        digest=digest_of(pair.access),
        scopes=asked.scopes,
        resources=asked.resources,
        expires_at=ends_first,
        **same,
    )
    await rows.create(
        kind=REFRESH,
        digest=digest_of(pair.refresh),
        scopes=grant.scopes,
        resources=grant.resources,
        expires_at=refresh_ends,
        **same,
    )
    ends = max(ends_first, refresh_ends)
    await auth.tables.of(OAuthGrant).filter(id=grant.id).update(expires_at=ends)
    return _issued(auth, asked.client, pair, access, now)


def _issued(
    auth: Auth, client: AbstractOAuthClient, pair: _Pair, access: AbstractOAuthToken, now: datetime
) -> Issued:
    lifetime = max(access.expires_at - now, timedelta())
    token = shown_token(auth, access, pair.access, client.client_id, str(access.user_id))
    return Issued(token, pair.refresh, int(lifetime.total_seconds()), access.scopes)
