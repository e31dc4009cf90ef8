"""The pages that mail a code, and ask for it."""

from __future__ import annotations

from typing import Annotated, Final

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
from .names import ASK, RATE
from .options import options_of

PREFIX: Final = "/account/sign-in/mail"
TAGS: Final = ["account pages"]

router = AuthRouter(prefix=PREFIX, tags=TAGS, route_class=PageRoute, include_in_schema=False)
codes = AuthRouter(prefix=PREFIX, tags=TAGS, route_class=PageRoute, include_in_schema=False)


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


codes.get("/code", name="back_from_mailed_code")(back_to("sign-in/mail"))


@router.post("", dependencies=[Depends(check_form), rate_limited(RATE)])
async def mail_form(auth: CurrentAuth, request: Request, form: Annotated[AddressForm, Form()]) -> Response:
    """Mails, and asks for the code; the same for any address."""
    try:
        email = EmailRequest(email=form.email).email
        await ask_first(request, auth, ASK)
    except (ValidationError, AuthError) as error:
        return _address_page(auth, request, form, problem_with(error))
    challenge = await flows.ask(auth, email, accept_language=request.headers.get("accept-language", ""))
    return _code_page(auth, request, form, email, challenge)


@codes.post("/code", dependencies=[Depends(check_form), rate_limited("login")])
async def mailed_code_form(
    auth: CurrentAuth, request: Request, form: Annotated[CodeForm, Form()]
) -> Response:
    """Signs in with the code."""
    challenge = form.challenge.look()
    try:
        answer = await flows.sign_in_with_code(
            auth,
            Plaintext(challenge),
            form.take(),
            device_of(request),
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
        code=options_of(auth).code,
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
        code=options_of(auth).code,
        email=email,
        challenge=challenge,
        remember=form.remembers,
        next=safe_next(form.next),
    )
