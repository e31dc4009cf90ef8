"""The forms of two-factor on the security page: setting it up, switching it off, and recovery codes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth, EnrollingAuthentication
from ...errors import AuthError
from ...flows.authentication import Authentication
from ...http.addresses import wanted
from ...http.rates import count_by_client
from ...routes.pages.forms import NextForm, Secret, code_from
from ...routes.pages.rendering import render_page, see_other
from ...routes.pages.route import PageRoute, back_to
from ...routes.pages.security import show_security
from ...routes.router import AuthRouter
from ...schemas import taken
from ...security.redirects import safe_next
from . import flows
from .schemas import CodeRequest

router = AuthRouter(
    prefix="/account/security/two-factor",
    tags=["account pages"],
    route_class=PageRoute,
    include_in_schema=False,
)


class CodeForm(NextForm):
    """The code that the authenticator app shows."""

    code: Secret


for path in ("enable", "code", "recovery-codes", "disable"):
    router.get(f"/{path}", name=f"back_from_two_factor_{path}")(back_to("security"))


@router.post("/enable")
async def enable_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[NextForm, Form()],
) -> Response:
    """Begins to set it up: the security page shows the secret."""
    try:
        await flows.enable(auth, authentication)
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "enable", next=form.next)
    return see_other(auth, request, "security", next=safe_next(form.next))


@router.post("/code")
async def confirm_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[CodeForm, Form()],
) -> Response:
    """Switches it on, and shows recovery codes."""
    try:
        await count_by_client(request, auth, "two_factor")
        body = CodeRequest(code=code_from(form.code) or "")
        await flows.verify(auth, authentication, taken(body, "code"))
        return await _recovery_codes_page(auth, request, authentication, form.next)
    except (ValidationError, AuthError) as error:
        return await show_security(auth, request, authentication, error, "code", next=form.next)


@router.post("/recovery-codes")
async def recovery_codes_form(
    auth: CurrentAuth, request: Request, authentication: EnrollingAuthentication
) -> Response:
    """Shows new recovery codes."""
    try:
        return await _recovery_codes_page(auth, request, authentication, wanted(request))
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "recovery_codes")


@router.post("/disable")
async def disable_form(
    auth: CurrentAuth, request: Request, authentication: EnrollingAuthentication
) -> Response:
    """Switches it off."""
    try:
        await flows.disable(auth, authentication)
    except AuthError as error:
        return await show_security(auth, request, authentication, error, "disable")
    return see_other(auth, request, "security", notice="two_factor_off", next=wanted(request))


async def _recovery_codes_page(
    auth: Auth, request: Request, authentication: Authentication, next: str | None = None
) -> Response:
    codes = await flows.renew_recovery_codes(auth, authentication)
    user = authentication.user
    return render_page(auth, request, "recovery_codes", user=user, codes=codes, next=safe_next(next))
