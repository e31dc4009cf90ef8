"""Passkeys for administrators, where an app has administration too."""

from __future__ import annotations

from uuid import UUID

from ...dependencies import CurrentAuth
from ...errors import AuthError, ErrorCode
from ...http.responses import documented, merged_responses
from ..administration.flows import acting_on
from ..administration.routes import NOT_ONESELF, Reader, Writer, admin_router
from ..administration.users import find_user
from . import keeping
from .names import PasskeyError
from .schemas import PasskeyOut

router = admin_router()


@router.get(
    "/users/{user_id}/passkeys",
    operation_id="admin_list_passkeys",
    summary="List a user's passkeys",
    responses=documented(ErrorCode.USER_NOT_FOUND, ErrorCode.VALIDATION_ERROR),
)
async def list_passkeys_of_user(auth: CurrentAuth, administrator: Reader, user_id: UUID) -> list[PasskeyOut]:
    """The passkeys of an account, the oldest first."""
    user = await find_user(auth, user_id)
    return [PasskeyOut(**keeping.shown(passkey)) for passkey in await keeping.passkeys_of(auth, user.id)]


@router.delete(
    "/users/{user_id}/passkeys/{passkey_id}",
    operation_id="admin_remove_passkey",
    summary="Remove a user's passkey",
    status_code=204,
    responses=merged_responses(NOT_ONESELF, documented(PasskeyError.PASSKEY_NOT_FOUND)),
)
async def remove_passkey_of_user(
    auth: CurrentAuth, administrator: Writer, user_id: UUID, passkey_id: UUID
) -> None:
    """Remove a passkey, also the last way in, as a mail to set a password is always one. The owner is told by
    mail. Sessions end where logins asked for a second factor because of it alone."""
    async with acting_on(auth, administrator, user_id, oneself=False) as user:
        if not await keeping.remove_for(auth, user, passkey_id):
            raise AuthError(PasskeyError.PASSKEY_NOT_FOUND)
