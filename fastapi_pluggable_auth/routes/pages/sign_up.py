"""Creating an account, and asking for the link that verifies its address once more."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError

from ...cookies import check_form
from ...dependencies import CurrentAuth, rate_limited
from ...errors import AuthError
from ...flows import email as email_flow
from ...flows import signup as signup_flow
from ...schemas import EmailRequest, ResetPassword
from .forms import Typed, problem_with
from .rendering import render_page, see_other
from .route import PageRoute

router = APIRouter(prefix="/account", route_class=PageRoute, include_in_schema=False)


@router.get("/sign-up")
async def sign_up_page(auth: CurrentAuth, request: Request) -> Response:
    """The form."""
    return render_page(auth, request, "sign_up", email="")


@router.post("/sign-up", dependencies=[Depends(check_form), rate_limited("signup")])
async def sign_up_form(
    auth: CurrentAuth, request: Request, email: Typed = "", new_password: Typed = ""
) -> Response:
    """Creates the account; the link is in the mail."""
    try:
        address = EmailRequest(email=email).email
        password = ResetPassword(new_password=new_password).new_password
        await signup_flow.signup(auth, address, password, request.headers.get("accept-language", ""))
    except (ValidationError, AuthError) as error:
        return render_page(auth, request, "sign_up", problem=problem_with(error), email=email)
    return see_other(auth, request, "sign-in", notice="signed_up")


@router.get("/verify-email")
async def verify_email_page(auth: CurrentAuth, request: Request) -> Response:
    """The form that asks for a new link."""
    return render_page(auth, request, "verify_email", email="")


@router.post("/verify-email", dependencies=[Depends(check_form), rate_limited("resend")])
async def verify_email_form(auth: CurrentAuth, request: Request, email: Typed = "") -> Response:
    """Mails a new link, if there is such an account; the answer never tells."""
    try:
        await email_flow.resend_verification(auth, EmailRequest(email=email).email)
    except ValidationError as error:
        return render_page(auth, request, "verify_email", problem=problem_with(error), email=email)
    return see_other(auth, request, "verify-email", notice="link_mailed")
