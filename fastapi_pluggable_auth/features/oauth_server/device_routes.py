"""Where a device without a browser begins (RFC 8628 section 3.1)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Form, Request, Response
from pydantic import Field

from ...dependencies import CurrentAuth
from ...http.rates import rate_limited
from ...routes.router import AuthRouter
from ...schemas import Text
from .clients import require_grant_type
from .devices import INTERVAL, LIFETIME, begin_device
from .models import DEVICE_CODE
from .protocol_routes import ProtocolRoute
from .schemas import DeviceAuthorization
from .token_routes import ClientForm, asking_client, once_each

router = AuthRouter(
    prefix="/oauth/device_authorization",
    tags=["oauth"],
    route_class=ProtocolRoute,
    include_in_schema=False,
    dependencies=[rate_limited("oauth_token"), Depends(once_each)],
)


class DeviceForm(ClientForm):
    """What a device asks for."""

    scope: Text = ""
    resource: Annotated[list[Text], Field(default_factory=list)]


@router.post("")
async def oauth_device_authorization(
    auth: CurrentAuth, request: Request, form: Annotated[DeviceForm, Form()], response: Response
) -> DeviceAuthorization:
    """Codes for a device and its user."""
    response.headers["Cache-Control"] = "no-store"
    client = await asking_client(auth, request, form)
    require_grant_type(client, DEVICE_CODE)
    begun = await begin_device(auth, client, form.scope, form.resource)
    page = auth.settings.public_url("account/device")
    return DeviceAuthorization(
        device_code=begun.device_code,
        user_code=begun.user_code,
        verification_uri=page,
        verification_uri_complete=f"{page}?user_code={begun.user_code}",
        expires_in=int(LIFETIME.total_seconds()),
        interval=INTERVAL,
    )
