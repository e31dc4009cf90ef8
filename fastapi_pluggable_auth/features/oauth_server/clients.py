"""The clients of the OAuth server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ...auth import Auth
from ...security.plaintext import Plaintext
from .models import AbstractOAuthClient


@dataclass(frozen=True, slots=True)
class NewClient:
    """A client with its secret, which is shown once; None for a public one."""

    client: AbstractOAuthClient
    secret: str | None = field(repr=False)


async def find_client(auth: Auth, client_id: str) -> AbstractOAuthClient | None:
    """The client of this id, unless it is disabled: one that the operator registered or, where the id is an
    https address, the one that its document describes. None where there is none.

    Raises `AuthError(OAUTH_CLIENT_UNAVAILABLE)` where its document cannot be had now, and none is kept."""
    raise NotImplementedError


async def authenticate_client(
    auth: Auth, authorization: Sequence[str], client_id: str | None, client_secret: Plaintext | None
) -> AbstractOAuthClient:
    """The client that asks for tokens, by the headers `Authorization` of the request and its form: public, by
    `client_secret_basic` or by `client_secret_post` (RFC 6749 section 2.3), never by two of them. Raises
    `AuthError`: `ProtocolError.INVALID_CLIENT`, INVALID_REQUEST."""
    raise NotImplementedError


async def create_client(
    auth: Auth,
    name: str,
    redirect_uris: Sequence[str],
    scopes: Collection[str] | None = None,
    *,
    confidential: bool = False,
) -> NewClient:
    """Registers a client. Raises `AuthError(OAUTH_CLIENT_REFUSED)`, which says what is wrong."""
    raise NotImplementedError


async def rotate_secret(auth: Auth, client_id: str) -> NewClient:
    """A new secret in the place of the old one. Raises `AuthError`: OAUTH_CLIENT_NOT_FOUND, and
    OAUTH_CLIENT_REFUSED for a public client."""
    raise NotImplementedError


async def delete_client(auth: Auth, client_id: str) -> None:
    """Deletes a client, and with it all that users have allowed it. Raises
    `AuthError(OAUTH_CLIENT_NOT_FOUND)`."""
    raise NotImplementedError


async def list_clients(auth: Auth) -> list[AbstractOAuthClient]:
    """All clients, the newest first."""
    raise NotImplementedError


def is_trusted(auth: Auth, client: AbstractOAuthClient) -> bool:
    """Whether consent to this client is remembered: the operator registered it, or named its host."""
    raise NotImplementedError
