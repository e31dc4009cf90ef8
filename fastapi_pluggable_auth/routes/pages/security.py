"""The user's sessions, and what features put beside them."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from fastapi import Form, Request, Response
from pydantic import BaseModel

from ...auth import Auth
from ...dependencies import CurrentAuth, EnrollingAuthentication
from ...errors import AuthError, ErrorCode
from ...flows import devices as devices_flow
from ...flows import sessions as sessions_flow
from ...flows.authentication import Authentication
from ...flows.devices import may_trust
from ...http.addresses import wanted
from ...schemas import AfterSession, Text
from ...security.redirects import safe_next
from ...security.user_agents import device_of
from ..ids import id_from
from ..router import AuthRouter
from .forms import Rejected, problem_with
from .rendering import render_page, see_other
from .route import PageRoute, back_to

SESSIONS: Final = 20
"""How many sessions a page shows."""

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


class SessionForm(BaseModel):
    """The session to end, which the pressed button names."""

    session: Text = ""


@router.get("/security")
async def security_page(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    after: AfterSession = None,
    next: str = "",
) -> Response:
    """What features have here, and a page of the sessions."""
    return await show_security(auth, request, authentication, after=after, next=next)


for path in ("session", "others", "device"):
    router.get(f"/security/{path}", name=f"back_from_{path}")(back_to("security"))


@router.post("/security/session")
async def session_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[SessionForm, Form()],
) -> Response:
    """Ends one session."""
    try:
        await sessions_flow.end_own_session(
            auth, authentication, id_from(form.session, ErrorCode.SESSION_NOT_FOUND)
        )
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "session")
    return see_other(auth, request, "security", notice="device_signed_out", next=wanted(request))


class DeviceForm(BaseModel):
    """A device of the user, which the form names."""

    device: Text = ""


@router.post("/security/device")
async def forget_device_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[DeviceForm, Form()],
) -> Response:
    """Trusts a device no more."""
    try:
        device = id_from(form.device, ErrorCode.DEVICE_NOT_FOUND)
        await devices_flow.forget_own_device(auth, authentication, device)
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "device")
    return see_other(auth, request, "security", notice="device_forgotten", next=wanted(request))


@router.post("/security/others")
async def others_form(
    auth: CurrentAuth, request: Request, authentication: EnrollingAuthentication
) -> Response:
    """Ends every other session."""
    try:
        await sessions_flow.logout_others(auth, authentication)
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "others")
    return see_other(auth, request, "security", notice="others_signed_out", next=wanted(request))


async def show_security(
    auth: Auth,
    request: Request,
    authentication: Authentication,
    error: Rejected | None = None,
    form: str = "",
    after: UUID | None = None,
    next: str | None = None,
) -> Response:
    """The page, with what was wrong in the form of this name, which may be that of a feature; one that sets
    up what is needed first leads on to `next`, or to that of the address."""
    sessions = await sessions_flow.list_sessions(auth, authentication, after=after, limit=SESSIONS)
    user = authentication.user
    devices = await devices_flow.list_devices(auth, authentication) if may_trust(auth, user) else []
    problem = problem_with(error, form)
    values_of = {
        slot.template: await slot.values_for(auth, authentication)
        for slot in auth.features.slots_in("security")
    }
    going_on = {values.get("may_go_on") for values in values_of.values()}
    images = [values["image"] for values in values_of.values() if values.get("image")]
    return render_page(
        auth,
        request,
        "security",
        user=user,
        problem=problem,
        may_go_on=True in going_on and False not in going_on and not auth.lacks_two_factor(user),
        image=images[0] if images else None,
        sessions=sessions.sessions,
        earlier=after,
        more=sessions.next,
        next=safe_next(next) or wanted(request),
        trusted=[info for info in devices if info.trusted_until is not None],
        device_of=device_of,
        values_of=values_of,
    )
