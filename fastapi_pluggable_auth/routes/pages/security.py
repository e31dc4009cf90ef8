"""The user's two-factor, recovery codes and sessions."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import Form, Request, Response
from pydantic import BaseModel, ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth, EnrollingAuthentication
from ...errors import AuthError
from ...features.two_factor import flows as twofa_flow
from ...features.two_factor.schemas import CodeRequest
from ...flows import sessions as sessions_flow
from ...flows.authentication import Authentication
from ...http.rates import count_by_client
from ...schemas import AfterSession, Text, taken
from ...security.user_agents import device_of
from ..router import AuthRouter
from ..sessions import session_id_from
from .forms import Rejected, TypedSecret, code_from, problem_with
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
) -> Response:
    """What there is, with the QR code while two-factor is being set up, and a page of the sessions."""
    return await _security_page(auth, request, authentication, after=after)


@router.post("/security")
async def security_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[Literal["enable", "code", "disable", "recovery_codes"], Form()],
    code: TypedSecret,
) -> Response:
    """Does what one of the forms of two-factor is for."""
    try:
        match form:
            case "enable":
                await twofa_flow.enable(auth, authentication)
            case "code":
                await count_by_client(request, auth, "two_factor")
                body = CodeRequest(code=code_from(code) or "")
                await twofa_flow.verify(auth, authentication, taken(body, "code"))
                return await _recovery_codes_page(auth, request, authentication)
            case "recovery_codes":
                return await _recovery_codes_page(auth, request, authentication)
            case "disable":
                await twofa_flow.disable(auth, authentication)
    except (ValidationError, AuthError) as error:
        return await _security_page(auth, request, authentication, error, form)
    return see_other(auth, request, "security", notice="two_factor_off" if form == "disable" else None)


for path in ("session", "others"):
    router.get(f"/security/{path}")(back_to("security"))


@router.post("/security/session")
async def session_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[SessionForm, Form()],
) -> Response:
    """Ends one session."""
    try:
        await sessions_flow.end_own_session(auth, authentication, session_id_from(form.session))
    except AuthError as error:
        return await _security_page(auth, request, authentication, error, "session")
    return see_other(auth, request, "security", notice="device_signed_out")


@router.post("/security/others")
async def others_form(
    auth: CurrentAuth, request: Request, authentication: EnrollingAuthentication
) -> Response:
    """Ends every other session."""
    try:
        await sessions_flow.logout_others(auth, authentication)
    except AuthError as error:
        return await _security_page(auth, request, authentication, error, "others")
    return see_other(auth, request, "security", notice="others_signed_out")


async def _recovery_codes_page(auth: Auth, request: Request, authentication: Authentication) -> Response:
    codes = await twofa_flow.renew_recovery_codes(auth, authentication)
    return render_page(auth, request, "recovery_codes", user=authentication.user, codes=codes)


async def _security_page(
    auth: Auth,
    request: Request,
    authentication: Authentication,
    error: Rejected | None = None,
    form: str = "",
    after: UUID | None = None,
) -> Response:
    sessions = await sessions_flow.list_sessions(auth, authentication, after=after, limit=SESSIONS)
    user = authentication.user
    problem = problem_with(error, form)
    enrolment = await twofa_flow.pending_enrolment(auth, authentication)
    return render_page(
        auth,
        request,
        "security",
        user=user,
        problem=problem,
        image=enrolment.qr_base64 if enrolment else None,
        enrolment=enrolment,
        remaining=await twofa_flow.remaining_recovery_codes(auth, user),
        sessions=sessions.sessions,
        earlier=after,
        next=sessions.next,
        device_of=device_of,
        values_of={
            slot.template: await slot.values(auth, authentication)
            for slot in auth.features.slots_in("security")
            if slot.values is not None
        },
    )
