"""Clients that register themselves (RFC 7591), and look after that by a token of their own (RFC 7592)."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, model_validator

from ...auth import Auth
from ...errors import AuthError
from ...events import Observation, Outcome
from ...models import exact
from ...schemas import Text
from ...security.plaintext import Plaintext
from ...security.throttle import Quota
from .clients import ID_PREFIX, SECRET_PREFIX, delete_client
from .limiting import count_network
from .models import AUTHORIZATION_CODE, DEVICE_CODE, REGISTERED, AbstractOAuthClient, OAuthClient, digest_of
from .names import OAuthEventKind
from .protocol import ProtocolError
from .registration import (
    RefusedClientError,
    checked_addresses,
    checked_redirect_uris,
    cleaned_name,
    home_page,
)

LIMIT: Final = Quota(20, timedelta(hours=1))
"""Of registrations by one network."""
TOKEN_PREFIX: Final = "ocr_"  # noqa: S105
"""Lets scanners find a registration token in code and logs."""

_MAY_HAVE: Final = frozenset({AUTHORIZATION_CODE, DEVICE_CODE})
_METHODS: Final = frozenset({"none", "client_secret_basic", "client_secret_post"})

Texts = Annotated[list[Text], Field(max_length=20)]


class ClientMetadata(BaseModel):
    """What a client says of itself (RFC 7591 section 2), as far as it counts here: all else is left out, as a
    logo, which anybody could send. Null is as not there."""

    redirect_uris: Texts = []
    post_logout_redirect_uris: Texts = []
    token_endpoint_auth_method: Text = "client_secret_basic"  # noqa: S105
    grant_types: Texts = [AUTHORIZATION_CODE]
    response_types: Texts = ["code"]
    client_name: Text = ""
    client_uri: Text = ""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, said: object) -> object:
        return (
            {each: said[each] for each in said if said[each] is not None} if isinstance(said, dict) else said
        )


@dataclass(frozen=True, slots=True)
class Registration:
    """A client with its registration token, and its secret where that is new."""

    client: AbstractOAuthClient
    token: Plaintext = field(repr=False)
    secret: Plaintext | None = field(default=None, repr=False)


async def register(auth: Auth, said: ClientMetadata) -> Registration:
    """Registers a client. It may ask for all scopes: MCP's name those of the moment when they register, and
    ask for more later. Raises `AuthError`: `ProtocolError.INVALID_REDIRECT_URI`, INVALID_CLIENT_METADATA, and
    THROTTLED after too many by one network."""
    client_id = ID_PREFIX + secrets.token_urlsafe(16)
    columns = _checked(said, client_id)
    await count_network(auth, "registration", LIMIT)
    token, secret = Plaintext(TOKEN_PREFIX + secrets.token_urlsafe(32)), _new_secret(said)
    client = await auth.tables.of(OAuthClient).create(
        **columns,
        client_id=client_id,
        digest=digest_of(client_id),
        scopes=None,
        secret_digest=None if secret is None else digest_of(secret.look()),
        registration_digest=digest_of(token.look()),
        origin=REGISTERED,
        created_at=auth.clock(),
    )
    await auth.events.emit(OAuthEventKind.OAUTH_CLIENT_REGISTERED, Outcome.SUCCESS, Observation())
    return Registration(client, token, secret)


async def registration_of(auth: Auth, client_id: str, token: Plaintext) -> Registration:
    """The client of this id and registration token, unless it is disabled. Raises
    `AuthError(ProtocolError.INVALID_TOKEN)`."""
    if not client_id.isascii():
        raise AuthError(ProtocolError.INVALID_TOKEN)
    digest = digest_of(token.look())
    client = await exact(auth.tables.of(OAuthClient).all(), digest=digest_of(client_id), origin=REGISTERED)
    if client is None or client.disabled_at is not None:
        raise AuthError(ProtocolError.INVALID_TOKEN)
    if not hmac.compare_digest(client.registration_digest or "", digest):
        raise AuthError(ProtocolError.INVALID_TOKEN)
    return Registration(client, token)


async def replace(
    auth: Auth, client_id: str, token: Plaintext, said: ClientMetadata, shown_secret: Plaintext
) -> Registration:
    """Puts what a client says now in the place of what it has said before; one that becomes confidential gets
    a secret, and one that becomes public loses it. It may show its secret, empty where it does not. Raises
    `AuthError` as `registration_of` and `register`."""
    kept = (await registration_of(auth, client_id, token)).client
    shown = digest_of(secret) if (secret := shown_secret.take()) else None
    del secret
    if shown is not None and not hmac.compare_digest(kept.secret_digest or "", shown):
        raise _refused("client_secret is not that of the client")
    columns = _checked(said, client_id)
    made = None
    if said.token_endpoint_auth_method == "none":  # noqa: S105
        columns["secret_digest"] = None
    elif kept.secret_digest is None and (made := _new_secret(said)) is not None:
        columns["secret_digest"] = digest_of(made.look())
    rows = auth.tables.of(OAuthClient).filter(id=kept.id, disabled_at=None)
    await rows.filter(secret_digest=kept.secret_digest).update(**columns)
    changed = (await registration_of(auth, client_id, token)).client  # unless it has ended meanwhile
    if changed.secret_digest != columns.get("secret_digest", kept.secret_digest):
        raise _refused("the client was changed at the same time: send it again")
    return Registration(changed, token, made)


async def unregister(auth: Auth, client_id: str, token: Plaintext) -> None:
    """Deletes a client, and ends all that users have allowed it. Raises `AuthError` as `registration_of`."""
    client = (await registration_of(auth, client_id, token)).client
    await delete_client(auth, client.client_id)


def _checked(said: ClientMetadata, client_id: str) -> dict[str, Any]:
    """The columns of what a client says. Grant types and response types that this server lacks are left out,
    as RFC 7591 section 2 allows. Raises `AuthError`."""
    if said.token_endpoint_auth_method not in _METHODS:
        raise _refused("token_endpoint_auth_method is not one of this server")
    grant_types = _MAY_HAVE & {*said.grant_types}
    if not grant_types:
        raise _refused("grant_types has none that a client that registers itself may have")
    by_code = AUTHORIZATION_CODE in grant_types
    if by_code and "code" not in said.response_types:
        raise _refused("response_types is without code, which authorization_code needs")
    try:
        addresses = checked_redirect_uris(said.redirect_uris) if by_code else frozenset()
    except RefusedClientError as error:
        raise AuthError(ProtocolError.INVALID_REDIRECT_URI, detail=f"{error}.") from None
    try:
        after_logout = checked_addresses(said.post_logout_redirect_uris)
    except RefusedClientError as error:
        raise _refused(str(error)) from None
    return {
        "name": cleaned_name(said.client_name) or client_id,
        "client_uri": home_page(said.client_uri),
        "redirect_uris": addresses,
        "post_logout_redirect_uris": after_logout,
        "grant_types": grant_types,
    }


def _new_secret(said: ClientMetadata) -> Plaintext | None:
    """A secret; None for a public client."""
    if said.token_endpoint_auth_method == "none":  # noqa: S105
        return None
    return Plaintext(SECRET_PREFIX + secrets.token_urlsafe(32))


def _refused(why: str) -> AuthError:
    return AuthError(ProtocolError.INVALID_CLIENT_METADATA, detail=f"{why}.")
