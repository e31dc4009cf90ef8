"""Asking for the link that sets a new password."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError

from ...cookies import check_form
from ...dependencies import CurrentAuth, rate_limited
from ...flows import password as password_flow
from ...schemas import EmailRequest
from .forms import Typed, problem_with
from .rendering import render_page, see_other
from .route import PageRoute

router = APIRouter(prefix="/account", route_class=PageRoute, include_in_schema=False)


@router.get("/forgot-password")
async def forgot_password_page(auth: CurrentAuth, request: Request) -> Response:
    """The form."""
    return render_page(auth, request, "forgot_password", email="")


@router.post("/forgot-password", dependencies=[Depends(check_form), rate_limited("forgot_password")])
async def forgot_password_form(auth: CurrentAuth, request: Request, email: Typed = "") -> Response:
    """Mails a link, if there is such an account; the answer never tells."""
    try:
        await password_flow.forgot_password(auth, EmailRequest(email=email).email)
    except ValidationError as error:
        return render_page(auth, request, "forgot_password", problem=problem_with(error), email=email)
    return see_other(auth, request, "forgot-password", notice="link_mailed")
