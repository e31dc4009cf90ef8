"""Asking for a link by mail: to verify an address, or to choose a new password."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...flows.email import resend_verification
from ...flows.password import forgot_password
from ...http.csrf import check_form
from ...http.rates import rate_limited
from ...schemas import EmailRequest
from ..router import AuthRouter
from .forms import EmailForm, problem_with
from .rendering import render_page, see_other
from .route import PageRoute

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


@router.get("/verify-email")
async def verify_email_page(auth: CurrentAuth, request: Request) -> Response:
    """The form for a new verification link."""
    return render_page(auth, request, "verify_email", email="")


@router.post("/verify-email", dependencies=[Depends(check_form), rate_limited("resend")])
async def verify_email_form(
    auth: CurrentAuth, request: Request, form: Annotated[EmailForm, Form()]
) -> Response:
    """Mails the link."""
    return await _mail(auth, request, "verify-email", form.email, resend_verification)


@router.get("/forgot-password")
async def forgot_password_page(auth: CurrentAuth, request: Request) -> Response:
    """The form for a reset link."""
    return render_page(auth, request, "forgot_password", email="")


@router.post("/forgot-password", dependencies=[Depends(check_form), rate_limited("forgot_password")])
async def forgot_password_form(
    auth: CurrentAuth, request: Request, form: Annotated[EmailForm, Form()]
) -> Response:
    """Mails the link."""
    return await _mail(auth, request, "forgot-password", form.email, forgot_password)


async def _mail(
    auth: Auth, request: Request, page: str, email: str, flow: Callable[[Auth, str], Awaitable[None]]
) -> Response:
    """Mails a link, if there is such an account; the answer is the same if there is none."""
    try:
        await flow(auth, EmailRequest(email=email).email)
    except ValidationError as error:
        name = page.replace("-", "_")
        return render_page(auth, request, name, problem=problem_with(error), email=email)
    return see_other(auth, request, page, notice="link_mailed")
