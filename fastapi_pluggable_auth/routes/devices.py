"""The devices that the account of the user who asks knows."""

from __future__ import annotations

from ..dependencies import CurrentAuth, CurrentAuthentication
from ..errors import ErrorCode
from ..flows import devices as devices_flow
from ..http.demands import SIGNED_IN
from ..http.responses import documented
from ..schemas import OwnDeviceOut, TextId
from .ids import id_from
from .router import AuthRouter

router = AuthRouter(
    prefix="/account/devices",
    tags=["devices"],
    about="The devices on which the user has signed in with all factors.",
    responses=documented(*SIGNED_IN),
)


@router.get("", operation_id="account_list_devices", summary="List the devices")
async def list_devices(auth: CurrentAuth, authentication: CurrentAuthentication) -> list[OwnDeviceOut]:
    """The devices that the account knows, the latest used first: guesses made elsewhere do not delay the user
    on them. No second factor is asked for on those that are trusted."""
    found = await devices_flow.list_devices(auth, authentication)
    return [OwnDeviceOut(**info.shown()) for info in found]


@router.delete(
    "/{device_id}",
    operation_id="account_forget_device",
    summary="Forget a device",
    status_code=204,
    responses=documented(
        ErrorCode.DEVICE_NOT_FOUND, ErrorCode.IMPERSONATION_FORBIDDEN, ErrorCode.VALIDATION_ERROR
    ),
)
async def forget_device(auth: CurrentAuth, authentication: CurrentAuthentication, device_id: TextId) -> None:
    """Know a device no more: the next login there needs all factors. Its session goes on."""
    device = id_from(device_id, ErrorCode.DEVICE_NOT_FOUND)
    await devices_flow.forget_own_device(auth, authentication, device)
