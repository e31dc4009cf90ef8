"""Identities for administrators, where an app has administration too."""

from __future__ import annotations

from uuid import UUID

from ...dependencies import CurrentAuth
from ...errors import AuthError, ErrorCode
from ...http.responses import documented, merged_responses
from ..administration.flows import acting_on
from ..administration.routes import NOT_ONESELF, Reader, Writer, admin_router
from ..administration.users import find_user
from . import keeping
from .names import SocialError
from .schemas import IdentityOut

router = admin_router()


@router.get(
    "/users/{user_id}/identities",
    operation_id="admin_list_identities",
    summary="List a user's identities",
    responses=documented(ErrorCode.USER_NOT_FOUND, ErrorCode.VALIDATION_ERROR),
)
async def list_identities_of_user(
    auth: CurrentAuth, administrator: Reader, user_id: UUID
) -> list[IdentityOut]:
    """The accounts elsewhere by which a user signs in, the oldest first."""
    user = await find_user(auth, user_id)
    return [IdentityOut(**keeping.shown(each)) for each in await keeping.identities_of(auth, user.id)]


@router.delete(
    "/users/{user_id}/identities/{identity_id}",
    operation_id="admin_disconnect_identity",
    summary="Disconnect a user's identity",
    status_code=204,
    responses=merged_responses(NOT_ONESELF, documented(SocialError.IDENTITY_NOT_FOUND)),
)
async def disconnect_identity_of_user(
    auth: CurrentAuth, administrator: Writer, user_id: UUID, identity_id: UUID
) -> None:
    """Disconnect an identity, also the last way in, as a mail to set a password is always one. The owner is
    told by mail. Sessions stay."""
    async with acting_on(auth, administrator, user_id, oneself=False) as user:
        if not await keeping.remove_for(auth, user, identity_id):
            raise AuthError(SocialError.IDENTITY_NOT_FOUND)
