"""Access tokens by which clients act for themselves (RFC 6749 section 4.4): never in the name of a user."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tortoise.exceptions import IntegrityError

from ...auth import Auth
from ...errors import AuthError
from ...models import exact
from ...security.plaintext import Plaintext
from .clients import is_operators, require_grant_type, scopes_asked
from .models import (
    CLIENT_CREDENTIALS,
    AbstractOAuthClient,
    AbstractOAuthClientToken,
    OAuthClient,
    OAuthClientToken,
    digest_of,
)
from .names import OAuthEventKind
from .protocol import ProtocolError
from .resources import all_resources, resources_of_token, scopes_of
from .service_tokens import access_ends, shown_token

_PREFIX: Final = "oct_"
_FORM: Final = re.compile("oct_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class IssuedToClient:
    """The answer to a client that asks for itself."""

    access_token: str = field(repr=False)
    expires_in: int
    scopes: frozenset[str]


def is_client_token(token: str) -> bool:
    """Whether a token has the form of one by which a client acts for itself."""
    return _FORM.fullmatch(token) is not None


async def issue_to_client(
    auth: Auth, client: AbstractOAuthClient, scope: str, resources: Iterable[str] = ()
) -> IssuedToClient:
    """An access token for a client with a secret that the operator has registered for this, with all of its
    scopes where it names none. Raises `AuthError`: `ProtocolError.UNAUTHORIZED_CLIENT`, INVALID_SCOPE,
    INVALID_TARGET, and INVALID_CLIENT where it was deleted meanwhile."""
    async with auth.events.observe(OAuthEventKind.OAUTH_TOKEN):
        require_grant_type(client, CLIENT_CREDENTIALS)
        if not is_operators(client):
            raise AuthError(ProtocolError.UNAUTHORIZED_CLIENT)
        scopes = scopes_asked(auth, client, scope)
        if not scopes <= scopes_of(auth).keys():  # openid and the like, which are about a user
            raise AuthError(ProtocolError.INVALID_SCOPE)
        places = resources_of_token(auth, resources, all_resources(auth))
        now, secret = auth.clock(), Plaintext(_PREFIX + secrets.token_urlsafe(32))
        ends = access_ends(auth, places, now)
        try:
            row = await auth.tables.of(OAuthClientToken).create(
                client_id=client.id,
                digest=digest_of(secret.look()),
                scopes=scopes,
                resources=places,
                expires_at=ends,
                created_at=now,
            )
        except IntegrityError as error:
            raise AuthError(ProtocolError.INVALID_CLIENT) from error
        return IssuedToClient(
            shown_token(auth, row, secret.take(), client.client_id, client.client_id),
            int((ends - now).total_seconds()),
            scopes,
        )


async def row_of_client_token(
    auth: Auth, digest: str
) -> tuple[AbstractOAuthClientToken, AbstractOAuthClient] | None:
    """A token that is good, and its client; None where it has ended, or the client is disabled."""
    row = await exact(auth.tables.of(OAuthClientToken).all(), digest=digest)
    if row is None or row.expires_at <= auth.clock():
        return None
    client = await exact(auth.tables.of(OAuthClient).all(), id=row.client_id)
    return None if client is None or client.disabled_at is not None else (row, client)


async def revoke_client_token(auth: Auth, client: AbstractOAuthClient, digest: str) -> bool:
    """Ends one; False where there is none. Raises `AuthError(ProtocolError.INVALID_GRANT)` for one of another
    client."""
    rows = auth.tables.of(OAuthClientToken)
    row = await exact(rows.all(), digest=digest)
    if row is None:
        return False
    async with auth.events.observe(OAuthEventKind.OAUTH_TOKEN_REVOKED):
        if row.client_id != client.id:
            raise AuthError(ProtocolError.INVALID_GRANT)
        await rows.filter(id=row.id).delete()
    return True
