"""The applications of the user who asks."""

from __future__ import annotations

from ...dependencies import CurrentAuth, CurrentAuthentication, CurrentUser
from ...errors import ErrorCode
from ...http.demands import SIGNED_IN
from ...http.responses import documented
from ...routes.ids import id_from
from ...routes.router import AuthRouter
from ...schemas import TextId
from . import grants
from .names import OAuthError
from .schemas import ApplicationOut

router = AuthRouter(
    prefix="/account/applications",
    tags=["applications"],
    about="Applications that the user lets act for them.",
    responses=documented(*SIGNED_IN),
)


@router.get("", operation_id="account_list_applications", summary="List the connected applications")
async def list_applications(auth: CurrentAuth, user: CurrentUser) -> list[ApplicationOut]:
    """The applications that may act for the user, the last authorized first."""
    return [ApplicationOut(**grants.shown(each)) for each in await grants.applications_of(auth, user.id)]


@router.delete(
    "/{application_id}",
    operation_id="account_remove_application",
    summary="Remove an application",
    status_code=204,
    responses=documented(
        OAuthError.APPLICATION_NOT_FOUND, ErrorCode.IMPERSONATION_FORBIDDEN, ErrorCode.VALIDATION_ERROR
    ),
)
async def remove_application(
    auth: CurrentAuth, authentication: CurrentAuthentication, application_id: TextId
) -> None:
    """End all access of an application, at once."""
    await grants.remove_application(
        auth, authentication, id_from(application_id, OAuthError.APPLICATION_NOT_FOUND)
    )
