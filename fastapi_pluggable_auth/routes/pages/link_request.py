"""Asking for a link by mail, to verify an address or to choose a new password, and waiting for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final, NamedTuple

from fastapi import Depends, Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...email.kinds import MailKind
from ...email.tokens import Purpose
from ...errors import AuthError, ErrorCode
from ...flows.email import mail_verification_code, resend_verification, verify_signup
from ...flows.link_codes import as_code, open_code
from ...flows.password import forgot_password, mail_reset_code
from ...http.addresses import own_path
from ...http.cookies import signup_binding
from ...http.csrf import check_form
from ...http.guards import ask_first
from ...http.mail_note import Awaited, MailNote, keep_note, mail_note
from ...http.rates import count_by_client, rate_limited
from ...schemas import EmailRequest
from ...security.plaintext import Plaintext
from ...security.redirects import safe_next
from ..router import AuthRouter
from .forms import EmailForm, MailedCodeForm, NextForm, Rejected, problem_with
from .rendering import render_page, see_other
from .route import PageRoute, back_to
from .verified import after_verification

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


class _Request(NamedTuple):
    """The mail, and what its link is for; what sends it with a code, and without; the name of how often a
    client may ask for it, which guards know it by as well, and the page on which the address is typed."""

    mail: MailKind
    purpose: Purpose
    with_code: Callable[[Auth, str], Awaitable[str]]
    alone: Callable[[Auth, str], Awaitable[None]]
    rate: str
    page: str

    async def send(self, auth: Auth, email: str) -> str | None:
        """Sends it, and gives the challenge for the code; None where the mail has no place for one."""
        if auth.mailer.shows_code(self.mail):
            return await self.with_code(auth, email)
        await self.alone(auth, email)
        return None


_VERIFY: Final = (MailKind.VERIFY, Purpose.VERIFY, mail_verification_code, resend_verification, "resend")
_RESET: Final = (MailKind.RESET, Purpose.RESET, mail_reset_code, forgot_password, "forgot_password")
_REQUESTS: Final[dict[Awaited, _Request]] = {
    "signup": _Request(*_VERIFY, "sign-up"),
    "verify": _Request(*_VERIFY, "verify-email"),
    "reset": _Request(*_RESET, "forgot-password"),
}


class LinkRequestForm(EmailForm, NextForm):
    """The address to which the link goes."""


@router.get("/verify-email")
async def verify_email_page(auth: CurrentAuth, request: Request, next: str = "") -> Response:
    """The form for a new verification link."""
    return _form_page(auth, request, "verify", next)


@router.post("/verify-email", dependencies=[Depends(check_form), rate_limited("resend")])
async def verify_email_form(
    auth: CurrentAuth, request: Request, form: Annotated[LinkRequestForm, Form()]
) -> Response:
    """Mails the link."""
    return await _mail(auth, request, "verify", form)


@router.get("/forgot-password")
async def forgot_password_page(auth: CurrentAuth, request: Request, next: str = "") -> Response:
    """The form for a reset link."""
    return _form_page(auth, request, "reset", next)


@router.post("/forgot-password", dependencies=[Depends(check_form), rate_limited("forgot_password")])
async def forgot_password_form(
    auth: CurrentAuth, request: Request, form: Annotated[LinkRequestForm, Form()]
) -> Response:
    """Mails the link."""
    return await _mail(auth, request, "reset", form)


@router.get("/check-mail")
async def check_mail_page(auth: CurrentAuth, request: Request) -> Response:
    """Where the mail went, what to do with it, and what else to do."""
    note = mail_note(request, auth)
    if note is None or not note.awaited:
        return see_other(auth, request, "sign-in")
    return _waiting_page(auth, request, note)


@router.post("/check-mail", dependencies=[Depends(check_form)])
async def check_mail_form(auth: CurrentAuth, request: Request) -> Response:
    """Mails another link, within the limits of the first. Guards have asked this browser for that one."""
    note = mail_note(request, auth)
    if note is None or not note.awaited:
        return see_other(auth, request, "sign-in")
    asked = _REQUESTS[note.awaited]
    await count_by_client(request, auth, asked.rate)
    keep_note(request, auth, note.email, challenge=await asked.send(auth, note.email))
    return see_other(auth, request, "check-mail", notice="sent_again")


router.get("/check-mail/code", name="back_from_code_of_link")(back_to("check-mail"))


@router.post("/check-mail/code", dependencies=[Depends(check_form)])
async def code_of_link_form(
    auth: CurrentAuth, request: Request, form: Annotated[MailedCodeForm, Form()]
) -> Response:
    """Does what the link of the mail does in this browser: its page follows where that asks for more."""
    note = mail_note(request, auth)
    if note is None or not note.awaited or note.challenge is None:
        return see_other(auth, request, "sign-in")
    purpose = _REQUESTS[note.awaited].purpose
    await count_by_client(request, auth, "verify" if purpose is Purpose.VERIFY else "reset_password")
    try:
        link = await open_code(auth, purpose, Plaintext(note.challenge), form.take())
        page = own_path(request, auth, purpose.spec.path.replace("{token}", link.token.look()))
        if purpose is not Purpose.VERIFY:
            return see_other(auth, request, page)
        with as_code():
            binding = signup_binding(request, auth)
            verified = await verify_signup(auth, link.token, binding, signed_up=link.signed_up)
    except AuthError as error:
        if error.code is ErrorCode.SIGNUP_ELSEWHERE:
            return see_other(auth, request, page)
        return _waiting_page(auth, request, note, error)
    return await after_verification(auth, request, verified)


def _waiting_page(auth: Auth, request: Request, note: MailNote, error: Rejected | None = None) -> Response:
    return render_page(
        auth,
        request,
        "check_mail",
        problem=problem_with(error),
        email=note.email,
        awaited=note.awaited,
        has_code=note.challenge is not None,
        form_page=_REQUESTS[note.awaited].page if note.awaited else "sign-in",
        next=note.next,
    )


async def _mail(auth: Auth, request: Request, awaited: Awaited, form: LinkRequestForm) -> Response:
    """Mails a link, if there is such an account; the answer is the same if there is none."""
    asked = _REQUESTS[awaited]
    try:
        email = EmailRequest(email=form.email).email
        await ask_first(request, auth, asked.rate)
    except (ValidationError, AuthError) as error:
        return _form_page(auth, request, awaited, form.next, form.email, error)
    challenge = await asked.send(auth, email)
    keep_note(request, auth, email, awaited=awaited, next=safe_next(form.next), challenge=challenge)
    return see_other(auth, request, "check-mail")


def _form_page(
    auth: Auth,
    request: Request,
    awaited: Awaited,
    next: str,
    email: str | None = None,
    error: Rejected | None = None,
) -> Response:
    """The form, with what was typed, else with the address of the note."""
    if email is None:
        note = mail_note(request, auth)
        email = "" if note is None else note.email
    asked, problem = _REQUESTS[awaited], problem_with(error)
    name, action = asked.page.replace("-", "_"), asked.rate
    return render_page(
        auth, request, name, problem=problem, guarded=action, email=email, next=safe_next(next)
    )
