"""Making a code: for programs, and by the security page."""

from fastapi import Request, Response

from fastapi_pluggable_auth.features import (
    SIGNED_IN,
    AuthRouter,
    CurrentAuth,
    CurrentAuthentication,
    PageRoute,
    documented,
    rate_limited,
    render_page,
)

from . import flows

limited = [rate_limited("invite")]
router = AuthRouter(prefix="/account/invitations", tags=["invitations"], dependencies=limited)
pages = AuthRouter(prefix="/account/invitations", route_class=PageRoute, dependencies=limited)


@router.post("", status_code=201, responses=documented(*SIGNED_IN))
async def invite(auth: CurrentAuth, authentication: CurrentAuthentication) -> dict[str, str]:
    """Make an invitation. Its code is in this answer only."""
    return {"code": await flows.invite(auth, authentication)}


@pages.post("/form", include_in_schema=False)
async def invite_by_form(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication
) -> Response:
    code = await flows.invite(auth, authentication)
    return render_page(auth, request, "invitation", user=authentication.user, code=code)
