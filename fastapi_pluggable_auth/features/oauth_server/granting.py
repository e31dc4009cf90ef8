"""Tokens for a code or a refresh token, and their end (RFC 6749 sections 4.1.3 and 6, RFC 7009)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...auth import Auth
from ...security.plaintext import Plaintext
from .models import AbstractOAuthClient


@dataclass(frozen=True, slots=True)
class Issued:
    """The answer to a token request."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    scopes: frozenset[str]


async def exchange_code(
    auth: Auth,
    client: AbstractOAuthClient,
    code: Plaintext,
    redirect_uri: str | None,
    code_verifier: Plaintext,
) -> Issued:
    """Tokens for a code, once; a replay ends what it gave. Raises `AuthError`:
    `ProtocolError.INVALID_GRANT`."""
    raise NotImplementedError


async def refresh(
    auth: Auth,
    client: AbstractOAuthClient,
    token: Plaintext,
    scopes: frozenset[str] | None,
    resource: str | None,
) -> Issued:
    """Spends a refresh token for new ones. Raises `AuthError`: `ProtocolError.INVALID_GRANT`, INVALID_SCOPE,
    INVALID_TARGET."""
    raise NotImplementedError


async def revoke(auth: Auth, client: AbstractOAuthClient, token: Plaintext) -> None:
    """Ends the grant of a refresh token, or one access token, of this client; nothing for any other."""
    raise NotImplementedError
