"""Two-factor, recovery codes and sessions of whoever is signed in."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth, EnrollingAuthentication
from ...errors import AuthError
from ...flows import sessions as sessions_flow
from ...flows import twofa as twofa_flow
from ...flows.authentication import Authentication
from ...http.rates import count_by_client
from ...schemas import AfterSession, CodeRequest, taken
from ...security.user_agents import device_of
from ..router import AuthRouter
from ..sessions import session_id_from
from .forms import Rejected, Typed, TypedSecret, code_from, problem_with
from .rendering import render_page, see_other
from .route import PageRoute

NOTICES: Final = {"disable": "two_factor_off", "session": "device_signed_out", "others": "others_signed_out"}

SESSIONS: Final = 20
"""How many sessions a page shows."""

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


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
    form: Annotated[Literal["enable", "code", "disable", "recovery_codes", "session", "others"], Form()],
    code: TypedSecret,
    session: Typed = "",
) -> Response:
    """Does what one of the forms is for."""
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
            case "session":
                await sessions_flow.end_own_session(auth, authentication, session_id_from(session))
            case "others":
                await sessions_flow.logout_others(auth, authentication)
    except (ValidationError, AuthError) as error:
        return await _security_page(auth, request, authentication, error, form)
    return see_other(auth, request, "security", notice=NOTICES.get(form))


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
