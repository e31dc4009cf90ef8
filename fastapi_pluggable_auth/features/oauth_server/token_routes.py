"""Where clients get tokens, and give them back (RFC 6749 section 3.2, RFC 7009)."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final

from fastapi import Depends, Form, Request, Response
from pydantic import BaseModel

from ...dependencies import CurrentAuth
from ...errors import AuthError
from ...http.rates import rate_limited
from ...routes.pages.forms import Secret
from ...routes.router import AuthRouter
from ...schemas import Text
from . import models
from .client_tokens import IssuedToClient, issue_to_client
from .clients import authenticate_client, note_use, require_grant_type
from .granting import Issued, exchange_code, exchange_device_code, refresh, revoke
from .models import AUTHORIZATION_CODE, AbstractOAuthClient
from .protocol import ProtocolError
from .protocol_routes import OpenProtocolRoute, ProtocolRoute, opened, preflight
from .resources import scopes_in
from .schemas import OAuthTokens

_LISTS: Final = frozenset({"resource"})


async def once_each(request: Request) -> None:
    """Raises `AuthError(INVALID_REQUEST)` where the form has a parameter twice (RFC 6749 section 3.2)."""
    times = Counter(name for name, _ in (await request.form()).multi_items())
    if any(count > 1 and name not in _LISTS for name, count in times.items()):
        raise AuthError(ProtocolError.INVALID_REQUEST)


# Not in the OpenAPI document: clients know these by the metadata of the server.
router = AuthRouter(
    prefix="/oauth/token",
    tags=["oauth"],
    route_class=OpenProtocolRoute,
    include_in_schema=False,
    dependencies=[rate_limited("oauth_token"), Depends(once_each)],
)

revocation = AuthRouter(
    prefix="/oauth/revoke",
    tags=["oauth"],
    route_class=ProtocolRoute,
    include_in_schema=False,
    dependencies=[rate_limited("oauth_token"), Depends(once_each)],
)


class ClientForm(BaseModel):
    """How a client says in the form who it is; it may be in the header instead."""

    client_id: Text = ""
    client_secret: Secret


class TokenForm(ClientForm):
    """What tokens are asked for by."""

    grant_type: Text = ""
    code: Secret
    code_verifier: Secret
    redirect_uri: Text = ""
    refresh_token: Secret
    device_code: Secret
    scope: Text = ""
    resource: list[Text] = []


class ShownForm(ClientForm):
    """A token to end, or to ask about; of what type it is, it says itself."""

    token: Secret


@router.post("", response_model_exclude_none=True)
async def oauth_token(
    auth: CurrentAuth, request: Request, form: Annotated[TokenForm, Form()], response: Response
) -> OAuthTokens:
    """Tokens for a code, a device code or a refresh token, and for a client itself."""
    opened(response)
    response.headers["Cache-Control"] = "no-store"
    client = await asking_client(auth, request, form)
    issued: Issued | IssuedToClient
    match form.grant_type:
        case "authorization_code":
            require_grant_type(client, AUTHORIZATION_CODE)
            require_fields(form.code, form.code_verifier)
            redirect_uri = form.redirect_uri or None
            issued = await exchange_code(
                auth, client, form.code, redirect_uri, form.code_verifier, form.resource
            )
        case "refresh_token":
            require_fields(form.refresh_token)
            scopes = scopes_in(form.scope) or None
            issued = await refresh(auth, client, form.refresh_token, scopes, form.resource)
        case models.DEVICE_CODE:
            require_grant_type(client, models.DEVICE_CODE)
            require_fields(form.device_code)
            issued = await exchange_device_code(auth, client, form.device_code, form.resource)
        case models.CLIENT_CREDENTIALS:
            issued = await issue_to_client(auth, client, form.scope, form.resource)
        case "":
            raise AuthError(ProtocolError.INVALID_REQUEST)
        case _:
            raise AuthError(ProtocolError.UNSUPPORTED_GRANT_TYPE)
    await note_use(auth, client)
    return OAuthTokens(
        access_token=issued.access_token,
        expires_in=issued.expires_in,
        refresh_token=issued.refresh_token if isinstance(issued, Issued) else None,
        scope=" ".join(sorted(issued.scopes)),
        id_token=issued.id_token if isinstance(issued, Issued) else None,
    )


preflights = AuthRouter(prefix="/oauth/token", tags=["oauth"], include_in_schema=False)
preflights.options("", name="oauth_token_preflight")(preflight)


@revocation.post("")
async def oauth_revoke(auth: CurrentAuth, request: Request, form: Annotated[ShownForm, Form()]) -> Response:
    """End an access token, or with a refresh token all that came of the same authorization."""
    client = await asking_client(auth, request, form)
    require_fields(form.token)
    await revoke(auth, client, form.token)
    return Response(headers={"Cache-Control": "no-store"})


async def asking_client(auth: CurrentAuth, request: Request, form: ClientForm) -> AbstractOAuthClient:
    """The client that a request comes from. Raises as `authenticate_client`."""
    secret = form.client_secret if form.client_secret.look() else None
    return await authenticate_client(
        auth, request.headers.getlist("authorization"), form.client_id or None, secret
    )


def require_fields(*fields: Secret) -> None:
    """Raises `AuthError(ProtocolError.INVALID_REQUEST)` where one of them is empty."""
    if not all(each.look() for each in fields):
        raise AuthError(ProtocolError.INVALID_REQUEST)
