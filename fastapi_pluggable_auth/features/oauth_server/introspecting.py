"""What a service that gets a token asks about it (RFC 7662)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from ...auth import Auth
from ...errors import AuthError
from ...models import exact
from ...security.plaintext import Plaintext
from .client_tokens import is_client_token, row_of_client_token
from .clients import is_operators
from .models import AbstractOAuthClient, OAuthClient, digest_of
from .protocol import ProtocolError
from .resources import issuer_of
from .service_tokens import digest_in, service_in
from .tokens import is_access_token, row_of_digest


async def introspect(auth: Auth, asking: AbstractOAuthClient, token: Plaintext) -> dict[str, Any]:
    """What an access token is good for: of a user or of a client, for this app or for another service. Only
    `active`, which is False, for all else, expired and ended ones too (RFC 7662 section 2.2). That a service
    asks is a use of the token. Raises `AuthError(ProtocolError.UNAUTHORIZED_CLIENT)` unless the operator has
    registered the client that asks, with a secret."""
    if not is_operators(asking):
        raise AuthError(ProtocolError.UNAUTHORIZED_CLIENT)
    secret = token.take()
    ours = is_access_token(secret) or is_client_token(secret)
    digest = digest_of(secret) if ours else digest_in(auth, secret)
    del secret
    found = None if digest is None else await _found(auth, digest)
    # What makes the digest of a signed one is shown to nobody, and the other way round.
    if found is None or ours is not (service_in(auth, found["resources"]) is None):
        return {"active": False}
    resources: frozenset[str] = found.pop("resources")
    return {
        "active": True,
        **found,
        "aud": next(iter(resources)) if len(resources) == 1 else sorted(resources),
        "iss": issuer_of(auth.settings),
        "jti": digest,
        "token_type": "Bearer",
    }


async def _found(auth: Auth, digest: str) -> dict[str, Any] | None:
    of_client = await row_of_client_token(auth, digest)
    if of_client is not None:
        row, client = of_client
        return _said(client, client.client_id, row.scopes, row.resources, row.created_at, row.expires_at)
    try:
        found = await row_of_digest(auth, digest)
    except AuthError as error:
        if error.code.status != 401:
            raise
        return None
    client_of_user = await exact(auth.tables.of(OAuthClient).all(), id=found["client"])
    if client_of_user is None or client_of_user.disabled_at is not None:
        return None
    subject = str(found["user"].id)
    moments = found["created_at"], found["expires_at"]
    return _said(client_of_user, subject, found["scopes"], found["resources"], *moments)


def _said(
    client: AbstractOAuthClient,
    subject: str,
    scopes: Collection[str],
    resources: frozenset[str],
    created_at: datetime,
    expires_at: datetime,
) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "sub": subject,
        "scope": " ".join(sorted(scopes)),
        "resources": resources,
        "iat": int(created_at.timestamp()),
        "exp": int(expires_at.timestamp()),
    }
