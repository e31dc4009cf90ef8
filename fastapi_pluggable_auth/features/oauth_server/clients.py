"""The clients of the OAuth server."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote_plus, urlsplit

from tortoise.exceptions import IntegrityError

from ...auth import Auth
from ...errors import AuthError
from ...flows.authentication import is_use_due
from ...models import exact
from ...security.plaintext import Plaintext
from .documents import client_of_document, is_address, is_named
from .models import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEVICE_CODE,
    DOCUMENT,
    OPERATOR,
    REGISTERED,
    AbstractOAuthClient,
    OAuthClient,
    OAuthClientToken,
    OAuthGrant,
    digest_of,
)
from .names import OAuthError
from .openid import all_scopes_of, sign_in_scopes
from .protocol import ProtocolError
from .registration import RefusedClientError, checked_addresses, checked_redirect_uris, cleaned_name
from .resources import scopes_in, scopes_of

GRANT_TYPES: Final = frozenset({AUTHORIZATION_CODE, DEVICE_CODE, CLIENT_CREDENTIALS})
ID_PREFIX: Final = "c_"
SECRET_PREFIX: Final = "ocs_"  # noqa: S105
"""Lets scanners find a secret in code and logs."""


@dataclass(frozen=True, slots=True)
class NewClient:
    """A client with its secret, which is shown once; None for a public one."""

    client: AbstractOAuthClient
    secret: str | None = field(repr=False)


async def find_client(auth: Auth, client_id: str) -> AbstractOAuthClient | None:
    """The client of this id, unless it is disabled: one that the operator registered or, where the id is an
    https address, the one that its document describes. None where there is none.

    Raises `AuthError(OAUTH_CLIENT_UNAVAILABLE)` where its document cannot be had now, and none is kept."""
    if not client_id.isascii():
        return None
    client = await exact(auth.tables.of(OAuthClient).all(), digest=digest_of(client_id))
    if client is None:
        return await client_of_document(auth, client_id, None)
    if client.disabled_at is not None:
        return None
    return await client_of_document(auth, client_id, client) if client.origin == DOCUMENT else client


async def authenticate_client(
    auth: Auth, authorization: Sequence[str], client_id: str | None, client_secret: Plaintext | None
) -> AbstractOAuthClient:
    """The client that asks for tokens, by the headers `Authorization` of the request and its form: public, by
    `client_secret_basic` or by `client_secret_post` (RFC 6749 section 2.3), never by two of them. Raises
    `AuthError`: `ProtocolError.INVALID_CLIENT`, INVALID_REQUEST, and as `find_client`."""
    if len(authorization) > 1 or (authorization and client_secret is not None):
        raise AuthError(ProtocolError.INVALID_REQUEST)
    if authorization:
        named, client_secret = _basic(authorization[0])
        if client_id not in (None, named):
            raise AuthError(ProtocolError.INVALID_REQUEST)
        client_id = named
    secret = "" if client_secret is None else client_secret.take()
    digest = digest_of(secret) if secret else ""
    del secret
    client = await find_client(auth, client_id or "")
    # A public one that sends a secret has none that is right.
    if client is None or not hmac.compare_digest(client.secret_digest or "", digest):
        raise AuthError(ProtocolError.INVALID_CLIENT)
    return client


def is_operators(client: AbstractOAuthClient) -> bool:
    """Whether the operator has registered it, with a secret: one of the operator's own services."""
    return client.origin == OPERATOR and client.secret_digest is not None


def require_grant_type(client: AbstractOAuthClient, grant_type: str) -> None:
    """Raises `AuthError(ProtocolError.UNAUTHORIZED_CLIENT)` where it may not ask for tokens so."""
    if grant_type not in client.grant_types:
        raise AuthError(ProtocolError.UNAUTHORIZED_CLIENT)


async def note_use(auth: Auth, client: AbstractOAuthClient) -> None:
    """Records, once a minute, that a client has got tokens: anybody may send the id of a public one."""
    used_at, now = client.last_used_at, auth.clock()
    if is_use_due(used_at, now):
        await auth.tables.of(OAuthClient).filter(id=client.id, last_used_at=used_at).update(last_used_at=now)


async def create_client(
    auth: Auth,
    name: str,
    redirect_uris: Sequence[str],
    scopes: Collection[str] | None = None,
    *,
    confidential: bool = False,
    client_id: str | None = None,
    grant_types: Collection[str] = (AUTHORIZATION_CODE,),
    post_logout_redirect_uris: Sequence[str] = (),
) -> NewClient:
    """Registers a client. `scopes` are all that it may ask for, None those of the app. With the address of a
    document as its `client_id`, the document is never read: for one that its host does not give to servers.
    `grant_types` are AUTHORIZATION_CODE, DEVICE_CODE and CLIENT_CREDENTIALS. Raises
    `AuthError(OAUTH_CLIENT_REFUSED)`, which says what is wrong."""
    if client_id is not None and (confidential or not is_address(client_id)):
        why = "is public" if confidential else "is an https address with a path"
        raise _refused(f"A client id that is chosen {why}: leave it out, or change it.")
    if not (shown := cleaned_name(name)):
        raise _refused("A client needs a name, which its users read.")
    known = all_scopes_of(auth)
    unknown = {*(scopes or ())} - {*known}
    if scopes_of(auth) and unknown:  # none where a script does not know the app
        lacks, has = ", ".join(sorted(unknown)), ", ".join(sorted(known))
        raise _refused(f"The app has no scope {lacks}: it has {has}.")
    kinds = frozenset(grant_types)
    if not kinds or kinds - GRANT_TYPES:
        raise _refused(f"The grant types of a client are {', '.join(sorted(GRANT_TYPES))}.")
    if CLIENT_CREDENTIALS in kinds and not confidential:
        raise _refused("Only a client with a secret acts for itself: make it confidential.")
    by_code = AUTHORIZATION_CODE in kinds
    if redirect_uris and not by_code:
        raise _refused("Only a client that uses authorization_code has redirect URIs: leave them out.")
    try:
        addresses = checked_redirect_uris(redirect_uris) if by_code else frozenset()
        after_logout = checked_addresses(post_logout_redirect_uris)
    except RefusedClientError as error:
        raise _refused(f"The client is not valid: {error}.") from error
    secret = _new_secret() if confidential else None
    client_id = client_id or ID_PREFIX + secrets.token_urlsafe(16)
    columns: dict[str, Any] = {
        "client_id": client_id,
        "digest": digest_of(client_id),
        "name": shown,
        "redirect_uris": addresses,
        "post_logout_redirect_uris": after_logout,
        "grant_types": kinds,
        "scopes": None if scopes is None else frozenset(scopes),
        "secret_digest": None if secret is None else digest_of(secret),
        "origin": OPERATOR,
        "created_at": auth.clock(),
    }
    try:
        client = await auth.tables.of(OAuthClient).create(**columns)
    except IntegrityError as error:
        raise _refused(f"There is a client {client_id}: delete it first.") from error
    return NewClient(client, secret)


async def rotate_secret(auth: Auth, client_id: str) -> NewClient:
    """A new secret in the place of the old one, which is dead at once, with what the client got for itself by
    it. Raises `AuthError`:
    OAUTH_CLIENT_NOT_FOUND, and OAUTH_CLIENT_REFUSED for a public client."""
    client = await client_named(auth, client_id)
    if client.secret_digest is None:
        raise _refused("This client is public, and has no secret: make a new one that is confidential.")
    secret = _new_secret()
    client.secret_digest = digest_of(secret)
    await auth.tables.of(OAuthClient).filter(id=client.id).update(secret_digest=client.secret_digest)
    await auth.tables.of(OAuthClientToken).filter(client_id=client.id).delete()
    return NewClient(client, secret)


async def delete_client(auth: Auth, client_id: str) -> None:
    """Deletes a client, and with it all that users have allowed it. Raises
    `AuthError(OAUTH_CLIENT_NOT_FOUND)`."""
    client = await client_named(auth, client_id)
    if not await auth.tables.of(OAuthClient).filter(id=client.id).delete():
        raise AuthError(OAuthError.OAUTH_CLIENT_NOT_FOUND)


async def disable_client(auth: Auth, client_id: str) -> AbstractOAuthClient:
    """Refuses a client, also one with a document, and ends at once all that users have allowed it, and its
    own tokens. Raises
    `AuthError(OAUTH_CLIENT_NOT_FOUND)`."""
    client = await client_named(auth, client_id)
    client.disabled_at = client.disabled_at or auth.clock()
    await auth.tables.of(OAuthClient).filter(id=client.id).update(disabled_at=client.disabled_at)
    for table in (OAuthGrant, OAuthClientToken):
        await auth.tables.of(table).filter(client_id=client.id).delete()
    return client


async def enable_client(auth: Auth, client_id: str) -> AbstractOAuthClient:
    """Lets a client ask users again. Raises `AuthError(OAUTH_CLIENT_NOT_FOUND)`."""
    client = await client_named(auth, client_id)
    client.disabled_at = None
    await auth.tables.of(OAuthClient).filter(id=client.id).update(disabled_at=None)
    return client


async def list_clients(auth: Auth) -> list[AbstractOAuthClient]:
    """All clients, the newest first."""
    return [*await auth.tables.of(OAuthClient).all().order_by("-created_at", "client_id")]


async def client_named(auth: Auth, client_id: str) -> AbstractOAuthClient:
    """The client of this id as it is stored, disabled ones too. Raises
    `AuthError(OAUTH_CLIENT_NOT_FOUND)`."""
    client = await exact(auth.tables.of(OAuthClient).all(), digest=digest_of(client_id))
    if client is None:
        raise AuthError(OAuthError.OAUTH_CLIENT_NOT_FOUND)
    return client


def shown(client: AbstractOAuthClient) -> dict[str, Any]:
    """What operators and administrators see of it."""
    return {
        "id": client.id,
        "client_id": client.client_id,
        "name": client.name,
        "uri": client.client_uri,
        "redirect_uris": sorted(client.redirect_uris),
        "post_logout_redirect_uris": sorted(client.post_logout_redirect_uris),
        "grant_types": sorted(client.grant_types),
        "scopes": None if client.scopes is None else sorted(client.scopes),
        "confidential": client.secret_digest is not None,
        "origin": client.origin,
        "disabled": client.disabled_at is not None,
        "created_at": client.created_at,
        "last_used_at": client.last_used_at,
    }


async def count_grants(auth: Auth, client: AbstractOAuthClient) -> int:
    """How often users have allowed it something that has not expired."""
    live = auth.tables.of(OAuthGrant).filter(client_id=client.id, expires_at__gt=auth.clock())
    return await live.count()


def is_trusted(auth: Auth, client: AbstractOAuthClient) -> bool:
    """Whether consent to this client is remembered: the operator registered it, or named its host."""
    named = client.origin == DOCUMENT and is_named(auth, client.client_id)
    return named or client.origin == OPERATOR


def scopes_asked(auth: Auth, client: AbstractOAuthClient, asked: str) -> frozenset[str]:
    """Those that are asked for, all of the app that the client may have where it names none. Raises
    `AuthError(ProtocolError.INVALID_SCOPE)`."""
    known, named = frozenset(scopes_of(auth)), frozenset(sign_in_scopes(auth))
    if client.scopes is not None:
        known, named = known & client.scopes, named & client.scopes
    wanted = scopes_in(asked) or known
    if not wanted or not wanted <= known | named:
        raise AuthError(ProtocolError.INVALID_SCOPE)
    return wanted


def client_host(client: AbstractOAuthClient) -> str | None:
    """The host that vouches for the client by its document, or that its operator has named; None where there
    is none, as for one that has registered itself, and has said what it likes."""
    if client.origin == REGISTERED:
        return None
    address = client.client_id if client.origin == DOCUMENT else client.client_uri
    return urlsplit(address).hostname if address else None


def _basic(header: str) -> tuple[str, Plaintext | None]:
    """Id and secret as they are in `Authorization: Basic`, each as in a form (RFC 6749 section 2.3.1)."""
    scheme, _, coded = header.strip().partition(" ")
    try:
        pair = base64.b64decode(coded.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
    except (ValueError, binascii.Error):
        pair = ""
    client_id, colon, secret = pair.partition(":")
    if not colon:
        raise AuthError(ProtocolError.INVALID_CLIENT)
    return unquote_plus(client_id), Plaintext(unquote_plus(secret))


def _new_secret() -> str:
    """256 random bits: enough for a fast digest at rest."""
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def _refused(why: str) -> AuthError:
    return AuthError(OAuthError.OAUTH_CLIENT_REFUSED, detail=why)
