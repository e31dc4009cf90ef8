"""Confirming by a mailed code, for users who have neither a password nor a second factor."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth, EnrollingAuthentication
from ...errors import AuthError, ErrorCode
from ...flows.authentication import Authentication
from ...flows.confirmation import confirm_by_mail, mail_confirmation
from ...http.rates import rate_limited
from ...schemas import ConfirmationCode, taken
from ...security.redirects import safe_next
from ..router import AuthRouter
from .forms import NextForm, Problem, Secret, problem_of, problem_with
from .rendering import render_page
from .route import PageRoute, back_to
from .sign_in import confirm_page, confirmed

router = AuthRouter(
    prefix="/account/confirm-password",
    tags=["account pages"],
    route_class=PageRoute,
    include_in_schema=False,
    dependencies=[rate_limited("reauthenticate")],
)


class MailedCodeForm(NextForm):
    """The code of a mail, with the challenge that it answers."""

    challenge: Secret
    code: Secret


for path in ("mail", "mail/code"):
    router.get(f"/{path}", name=f"back_from_confirmation_{path}")(back_to("confirm-password"))


@router.post("/mail")
async def confirmation_mail_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[NextForm, Form()],
) -> Response:
    """Mails a code, and asks for it."""
    try:
        challenge = await mail_confirmation(auth, authentication)
    except AuthError as error:
        return await confirm_page(auth, request, authentication, form.next, problem_of(error))
    return _code_page(auth, request, authentication, challenge, form.next)


@router.post("/mail/code")
async def confirmation_code_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[MailedCodeForm, Form()],
) -> Response:
    """The code makes the login recent again, and leads back."""
    challenge = form.challenge.look()
    try:
        body = ConfirmationCode(challenge=form.challenge.take(), code=form.code.take())
        await confirm_by_mail(auth, authentication, taken(body, "challenge"), taken(body, "code"))
    except (ValidationError, AuthError) as error:
        again = isinstance(error, AuthError) and error.code is not ErrorCode.MAILED_CODE_REFUSED
        if again:
            return await confirm_page(auth, request, authentication, form.next, problem_with(error))
        return _code_page(auth, request, authentication, challenge, form.next, problem_with(error))
    return confirmed(auth, request, form.next)


def _code_page(
    auth: Auth,
    request: Request,
    authentication: Authentication,
    challenge: str,
    next: str | None,
    problem: Problem | None = None,
) -> Response:
    return render_page(
        auth,
        request,
        "confirm_code",
        problem=problem,
        user=authentication.user,
        challenge=challenge,
        next=safe_next(next),
    )
