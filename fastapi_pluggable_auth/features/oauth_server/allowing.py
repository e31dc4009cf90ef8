"""What a user allows a client: the grant, and the code that its client gets tokens by."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from ...auth import Auth, transactional
from ...errors import AuthError, ErrorCode, Refused
from ...flows.authentication import Authentication, observed
from ...flows.locking import locked_account
from ...flows.notices import notify
from ...models import AbstractUser, exact
from .models import AbstractOAuthClient, OAuthClient, OAuthGrant, OAuthToken
from .names import ApplicationAuthorised, BeforeConsent, OAuthError, OAuthEventKind, OAuthMail
from .openid import sentences, words_of

Basis: TypeAlias = Callable[[], Awaitable[bool]] | datetime
"""A decision of now: spends what has waited for it, False where that is done. Or when the user has decided
before."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a client gets its tokens by: a code or a device code (`kind`), with what it is bound to."""

    kind: str
    digest: str = field(repr=False)
    expires_at: datetime
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)


class DeniedError(Exception):
    """A handler of the app refuses it, or has left no scope."""


async def allow(
    auth: Auth,
    authentication: Authentication,
    client: AbstractOAuthClient,
    asked: tuple[frozenset[str], frozenset[str]],
    code: Code,
    basis: Basis,
    host: str,
) -> None:
    """Lets a client have what it has `asked` for, scopes and resources, by this code. What the user has
    decided now is reported to the owner, with the host that vouches for the client. Raises `DeniedError`, and
    `AuthError`: OAUTH_REQUEST_EXPIRED, INVALID_TOKEN."""
    user, (scopes, resources) = authentication.user, asked
    async with observed(auth, OAuthEventKind.APPLICATION_AUTHORISED, authentication) as observation:
        wanted = set(scopes)
        try:
            await auth.hooks.fire(BeforeConsent, user, client.client_id, wanted)
        except Refused as error:
            raise DeniedError from error
        scopes = scopes & wanted
        if not scopes:
            raise DeniedError
        grant_id = await _grant(auth, user, client, (scopes, resources), code, basis, host)
        if isinstance(basis, datetime):
            observation.kind = None
    if not isinstance(basis, datetime):
        await auth.hooks.fire(ApplicationAuthorised, user, grant_id, client.client_id, scopes)


@transactional
async def _grant(
    auth: Auth,
    user: AbstractUser,
    client: AbstractOAuthClient,
    allowed: tuple[frozenset[str], frozenset[str]],
    code: Code,
    basis: Basis,
    host: str,
) -> UUID:
    """Stores a grant, which ends with its code unless that is used; a new one on an earlier decision lasts no
    longer than that. Raises `AuthError`: OAUTH_REQUEST_EXPIRED, also where the client was disabled or deleted
    meanwhile, and INVALID_TOKEN where all access was ended."""
    now, at = await _locked_client(auth, client.id), auth.clock()
    if now is None or now.disabled_at is not None:
        raise AuthError(OAuthError.OAUTH_REQUEST_EXPIRED)
    owner = await locked_account(auth, user.id)
    if owner is None or not owner.is_active or owner.access_epoch != user.access_epoch:
        raise AuthError(ErrorCode.INVALID_TOKEN)
    if not isinstance(basis, datetime) and not await basis():
        raise AuthError(OAuthError.OAUTH_REQUEST_EXPIRED)
    scopes, resources = allowed
    same: dict[str, Any] = {
        "user_id": user.id,
        "scopes": scopes,
        "resources": resources,
        "expires_at": code.expires_at,
        "created_at": at,
    }
    grant = await auth.tables.of(OAuthGrant).create(
        client_id=client.id, authorized_at=basis if isinstance(basis, datetime) else at, **same
    )
    await auth.tables.of(OAuthToken).create(
        grant_id=grant.id, kind=code.kind, digest=code.digest, details=json.dumps(code.details), **same
    )
    if not isinstance(basis, datetime):
        said = ", ".join(sentences(auth, scopes, words_of(auth, user)).values())
        await notify(auth, OAuthMail.APPLICATION_AUTHORISED, user, name=now.name, host=host, scopes=said)
    return grant.id


async def _locked_client(auth: Auth, client_id: UUID) -> AbstractOAuthClient | None:
    """The client as it is now, which nobody disables or deletes until the transaction ends."""
    rows = auth.tables.of(OAuthClient)
    await rows.filter(id=client_id).update(last_used_at=auth.clock())
    return await exact(rows.all(), id=client_id)
