"""Where clients register themselves (RFC 7591), and look after that (RFC 7592)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...errors import AuthError
from ...http.rates import rate_limited
from ...routes.pages.forms import Secret
from ...routes.router import AuthRouter
from ...schemas import Text
from ...security.bearer import bearer_tokens
from ...security.plaintext import Plaintext
from .models import AUTHORIZATION_CODE
from .protocol import ProtocolError
from .protocol_routes import OpenProtocolRoute, opened, preflight
from .registering import ClientMetadata, Registration, register, registration_of, replace, unregister
from .resources import scopes_of
from .schemas import RegisteredClient


class RegisterRoute(OpenProtocolRoute):
    """A route whose refusals are those of RFC 7591 section 3.2.2."""

    def invalid(self, request: Request, errors: Sequence[Any]) -> Response:
        """Says which of the two it is."""
        places = [each["loc"][1] for each in errors if len(each["loc"]) > 1]
        address = places and all(each == "redirect_uris" for each in places)
        code = ProtocolError.INVALID_REDIRECT_URI if address else ProtocolError.INVALID_CLIENT_METADATA
        return self.refusal(request, AuthError(code))


# Not in the OpenAPI document: clients know it by the metadata of the server.
router = AuthRouter(
    prefix="/oauth/register",
    tags=["oauth"],
    route_class=RegisterRoute,
    include_in_schema=False,
    dependencies=[rate_limited("oauth_token")],
)


class ChangedMetadata(ClientMetadata):
    """What a client says in the place of what it has said before. It says who it is, and may show its secret;
    what the server alone says must not be there (RFC 7592 section 2.2)."""

    client_id: Text = ""
    client_secret: Secret
    registration_access_token: None = None
    registration_client_uri: None = None
    client_id_issued_at: None = None
    client_secret_expires_at: None = None


@router.post("", status_code=201, response_model_exclude_none=True)
async def oauth_register(auth: CurrentAuth, body: ClientMetadata, response: Response) -> RegisteredClient:
    """Register a client."""
    return _told(auth, await register(auth, body), response, body.token_endpoint_auth_method)


@router.get("/{client_id}", response_model_exclude_none=True)
async def oauth_registration(
    auth: CurrentAuth, request: Request, client_id: str, response: Response
) -> RegisteredClient:
    """What is registered."""
    return _told(auth, await registration_of(auth, client_id, _token(request)), response)


@router.put("/{client_id}", response_model_exclude_none=True)
async def oauth_change_registration(
    auth: CurrentAuth, request: Request, client_id: str, body: ChangedMetadata, response: Response
) -> RegisteredClient:
    """Say anew what the client is: what is left out is gone."""
    token = _token(request)
    if body.client_id != client_id:
        await registration_of(auth, client_id, token)
        raise AuthError(
            ProtocolError.INVALID_CLIENT_METADATA, detail="client_id is missing, or of another client."
        )
    changed = await replace(auth, client_id, token, body, body.client_secret)
    return _told(auth, changed, response, body.token_endpoint_auth_method)


@router.delete("/{client_id}", status_code=204)
async def oauth_unregister(auth: CurrentAuth, request: Request, client_id: str) -> Response:
    """Delete the client, and end all that users have allowed it."""
    await unregister(auth, client_id, _token(request))
    return opened(Response(status_code=204))


router.options("", name="oauth_register_preflight")(preflight)
router.options("/{client_id}", name="oauth_registration_preflight")(preflight)


def _token(request: Request) -> Plaintext:
    """The registration token. Raises `AuthError(INVALID_TOKEN)`."""
    tokens = bearer_tokens(request.headers.getlist("authorization"))
    if len(tokens) != 1:
        raise AuthError(ProtocolError.INVALID_TOKEN)
    return Plaintext(tokens[0])


def _told(
    auth: Auth, registration: Registration, response: Response, method: str = "client_secret_basic"
) -> RegisteredClient:
    """What the client is told. A secret authenticates by both methods, whichever was asked for."""
    opened(response)
    response.headers["Cache-Control"] = "no-store"
    client, secret = registration.client, registration.secret
    return RegisteredClient(
        client_id=client.client_id,
        client_id_issued_at=int(client.created_at.timestamp()),
        client_secret=None if secret is None else secret.take(),
        client_secret_expires_at=None if client.secret_digest is None else 0,
        registration_client_uri=auth.settings.public_url(f"oauth/register/{client.client_id}"),
        registration_access_token=registration.token.take(),
        client_name=client.name,
        client_uri=client.client_uri,
        redirect_uris=sorted(client.redirect_uris),
        post_logout_redirect_uris=sorted(client.post_logout_redirect_uris),
        grant_types=[*sorted(client.grant_types), "refresh_token"],
        response_types=["code"] if AUTHORIZATION_CODE in client.grant_types else [],
        token_endpoint_auth_method="none" if client.secret_digest is None else method,
        scope=" ".join(scopes_of(auth)),
    )
