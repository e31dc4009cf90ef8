"""Where services ask about the tokens that they get (RFC 7662)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Form, Request
from fastapi.responses import JSONResponse

from ...dependencies import CurrentAuth
from ...http.rates import rate_limited
from ...routes.router import AuthRouter
from .introspecting import introspect
from .protocol_routes import ProtocolRoute
from .token_routes import ShownForm, asking_client, once_each, require_fields

# Not in the OpenAPI document: clients know it by the metadata of the server.
router = AuthRouter(
    prefix="/oauth/introspect",
    tags=["oauth"],
    route_class=ProtocolRoute,
    include_in_schema=False,
    dependencies=[rate_limited("oauth_introspect"), Depends(once_each)],
)


@router.post("")
async def oauth_introspect(
    auth: CurrentAuth, request: Request, form: Annotated[ShownForm, Form()]
) -> JSONResponse:
    """What an access token is good for, now."""
    client = await asking_client(auth, request, form)
    require_fields(form.token)
    said = await introspect(auth, client, form.token)
    return JSONResponse(said, headers={"Cache-Control": "no-store"})
