"""The pages that mail a code, and ask for it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...errors import AuthError
from ...http.cookies import device_of
from ...http.csrf import check_form
from ...http.guards import ask_first
from ...http.mail_note import mail_note
from ...http.rates import rate_limited
from ...routes.pages.forms import EmailForm, MailedCodeForm, Problem, Secret, problem_with
from ...routes.pages.rendering import render_page
from ...routes.pages.route import PageRoute, back_to
from ...routes.pages.sign_in import RememberForm, show_answer
from ...routes.router import AuthRouter
from ...schemas import EmailRequest
from ...security.jwt import Transport
from ...security.plaintext import Plaintext
from ...security.redirects import safe_next
from . import flows
from .names import ASK
from .options import options_of

router = AuthRouter(
    prefix="/account/sign-in/mail", tags=["account pages"], route_class=PageRoute, include_in_schema=False
)


class AddressForm(EmailForm, RememberForm):
    """Where the code is to go."""


class CodeForm(AddressForm, MailedCodeForm):
    """The code of the mail."""

    challenge: Secret


@router.get("")
async def mail_page(auth: CurrentAuth, request: Request, next: str = "") -> Response:
    """Asks for the address."""
    note = mail_note(request, auth)
    return _address_page(auth, request, AddressForm(email="" if note is None else note.email, next=next))


router.get("/code", name="back_from_mailed_code")(back_to("sign-in/mail"))


@router.post("", dependencies=[Depends(check_form), rate_limited("forgot_password")])
async def mail_form(auth: CurrentAuth, request: Request, form: Annotated[AddressForm, Form()]) -> Response:
    """Mails the code, and asks for it; the same for any address."""
    try:
        email = EmailRequest(email=form.email).email
        await ask_first(request, auth, ASK)
    except (ValidationError, AuthError) as error:
        return _address_page(auth, request, form, problem_with(error))
    signup, language = options_of(auth).signup, request.headers.get("accept-language", "")
    challenge = await flows.ask(auth, email, may_sign_up=signup, accept_language=language)
    return _code_page(auth, request, form, email, challenge)


@router.post("/code", dependencies=[Depends(check_form), rate_limited("login")])
async def mailed_code_form(
    auth: CurrentAuth, request: Request, form: Annotated[CodeForm, Form()]
) -> Response:
    """Signs in with the code."""
    options, challenge = options_of(auth), form.challenge.look()
    try:
        answer = await flows.sign_in_with_code(
            auth,
            Plaintext(challenge),
            form.take(),
            options.allowed,
            device_of(request),
            may_sign_up=options.signup,
            transport=Transport.COOKIE,
            accept_language=request.headers.get("accept-language", ""),
        )
    except AuthError as error:
        return _code_page(auth, request, form, form.email, challenge, problem_with(error))
    return await show_answer(auth, request, answer, form.next, remember=form.remembers)


def _address_page(
    auth: Auth, request: Request, form: AddressForm, problem: Problem | None = None
) -> Response:
    return render_page(
        auth,
        request,
        "email_sign_in",
        problem=problem,
        guarded=ASK,
        email=form.email,
        remember=form.remembers,
        next=safe_next(form.next),
    )


def _code_page(
    auth: Auth,
    request: Request,
    form: RememberForm,
    email: str,
    challenge: str,
    problem: Problem | None = None,
) -> Response:
    return render_page(
        auth,
        request,
        "email_sign_in_code",
        problem=problem,
        email=email,
        challenge=challenge,
        remember=form.remembers,
        next=safe_next(form.next),
    )
