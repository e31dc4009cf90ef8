"""Routes of the app for clients that act for themselves, as a dependency (RFC 6749 section 4.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from inspect import Parameter, Signature
from typing import Final

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from ...auth import Auth
from ...authorization import RequireIsToBeCalled
from ...dependencies import access_token, of_http
from ...errors import AuthError, ErrorCode
from ...events import EventKind, Observation, Outcome
from ...http.addresses import path_in_app
from ...http.origin import note_origin
from ...lookup import auth_of
from ...security.names import name_set
from .client_tokens import is_client_token, row_of_client_token
from .models import digest_of
from .resources import resource_at, scopes_of

SCHEME: Final = "Auth-ClientToken"
"""The security scheme of the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class ClientAccess:
    """A client that acts for itself within `scopes`, at this `resource`, until `expires_at`."""

    client_id: str
    scopes: frozenset[str]
    resource: str
    expires_at: datetime


class ClientDependency(SecurityBase):
    """A dependency that gives the client, and is the security scheme of the OpenAPI document as well."""

    def __init__(self, scopes: frozenset[str]) -> None:
        self.scheme_name = SCHEME
        self.model = HTTPBearer(
            description="The `access_token` that a client has got for itself, by `client_credentials`."
        )
        self._scopes = scopes

    async def __call__(self, request: HTTPConnection) -> ClientAccess:
        """The client, read from the database for this request."""
        request = of_http(request)  # by the name that error trackers leave out
        auth, path = auth_of(request), path_in_app(request)
        resource = resource_at(auth, path)
        if resource is None:
            raise LookupError(f"{path} belongs to no resource: name it in OAuthServer(resources=[...]).")
        if unknown := self._scopes - scopes_of(auth).keys():
            raise ValueError(f"The OAuthServer has no scope {', '.join(sorted(unknown))}")
        note_origin(request, auth)
        try:
            return await self._found(auth, access_token(request), resource)
        except AuthError as error:
            reason = error.code.code
            await auth.events.emit(EventKind.ACCESS, Outcome.FAILURE, Observation(), reason=reason)
            error.challenge = auth.features.challenge(auth, path, self._scopes)
            raise

    async def _found(self, auth: Auth, token: str, resource: str) -> ClientAccess:
        digest = digest_of(token) if is_client_token(token) else None
        del token  # an error tracker would send it with this frame
        found = None if digest is None else await auth.with_deadline(row_of_client_token(auth, digest))
        if found is None or resource not in found[0].resources:
            raise AuthError(ErrorCode.INVALID_TOKEN)
        row, client = found
        if not self._scopes <= row.scopes:
            raise AuthError(ErrorCode.INSUFFICIENT_SCOPE, scope=" ".join(sorted(self._scopes)))
        return ClientAccess(client.client_id, row.scopes, resource, row.expires_at)


def require_client(*, scope: str | Iterable[str]) -> ClientDependency:
    """A dependency that gives the client that asks for itself, a `ClientAccess`, where its token has all of
    these scopes, and is for the resource that the route belongs to. It takes no token of a user, and what
    gives a user takes none of these.

    The dependency raises `AuthError`: NOT_AUTHENTICATED, INVALID_TOKEN, INSUFFICIENT_SCOPE (RFC 6750 section
    3.1). At the first request it raises `ValueError` for a scope that the app does not have, and
    `LookupError` for a route of no resource. `require_client` itself raises `ValueError` for what is not a
    name (RFC 6749 section 3.3), and for none, which would let every client in."""
    scopes = name_set(scope)
    if not scopes:
        raise ValueError("require_client() was given no scope: it would let every client in")
    return ClientDependency(scopes)


require_client.__signature__ = Signature(  # type: ignore[attr-defined]  # read by FastAPI
    [Parameter("asked", Parameter.KEYWORD_ONLY, annotation=RequireIsToBeCalled)]
)
