"""OAuth tokens where no route of FastAPI checks them, as in an MCP server that is mounted in the app."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic

from ...auth import Auth
from ...errors import AuthError
from ...models import exact
from ...models.user import U
from .models import OAuthClient
from .resources import resource_at
from .tokens import is_access_token, row_of_token


@dataclass(frozen=True, slots=True)
class OAuthAccess(Generic[U]):
    """What an access token is good for: its client acts for `user` within `scopes`, at this `resource`, until
    `expires_at`."""

    user: U
    client_id: str
    scopes: frozenset[str]
    resource: str
    expires_at: datetime


async def verify_oauth_token(auth: Auth[U], token: str, path: str) -> OAuthAccess[U] | None:
    """What an access token is good for at this path of the app, in two queries; None where it is not valid
    there. Raises `LookupError` for a path that belongs to no resource of the `OAuthServer`."""
    resource = resource_at(auth, path)
    if resource is None:
        raise LookupError(f"{path} belongs to no resource: name it in OAuthServer(resources=[...]).")
    if not is_access_token(token):
        return None
    work = row_of_token(auth, token)
    del token  # an error tracker would send it with this frame
    try:
        found = await auth.with_deadline(work)
    except AuthError as error:
        if error.code.status != 401:
            raise
        return None
    client = await exact(auth.tables.of(OAuthClient).all(), id=found["client"])
    if client is None or resource not in found["resources"]:
        return None
    return OAuthAccess(found["user"], client.client_id, found["scopes"], resource, found["expires_at"])
