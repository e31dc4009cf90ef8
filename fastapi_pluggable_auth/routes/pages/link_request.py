"""Asking for a link by mail, to verify an address or to choose a new password, and waiting for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final, NamedTuple

from fastapi import Depends, Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...errors import AuthError
from ...flows.email import resend_verification
from ...flows.password import forgot_password
from ...http.csrf import check_form
from ...http.guards import ask_first
from ...http.mail_note import Awaited, keep_note, mail_note
from ...http.rates import count_by_client, rate_limited
from ...schemas import EmailRequest
from ...security.redirects import safe_next
from ..router import AuthRouter
from .forms import EmailForm, NextForm, Rejected, problem_with
from .rendering import render_page, see_other
from .route import PageRoute

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


class _Request(NamedTuple):
    """What sends the link, the name of how often a client may ask for it, which guards know it by as well,
    and the page on which the address is typed."""

    send: Callable[[Auth, str], Awaitable[None]]
    rate: str
    page: str


_REQUESTS: Final[dict[Awaited, _Request]] = {
    "signup": _Request(resend_verification, "resend", "sign-up"),
    "verify": _Request(resend_verification, "resend", "verify-email"),
    "reset": _Request(forgot_password, "forgot_password", "forgot-password"),
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
    return render_page(
        auth,
        request,
        "check_mail",
        email=note.email,
        awaited=note.awaited,
        form_page=_REQUESTS[note.awaited].page,
        next=note.next,
    )


@router.post("/check-mail", dependencies=[Depends(check_form)])
async def check_mail_form(auth: CurrentAuth, request: Request) -> Response:
    """Mails another link, within the limits of the first. Guards have asked this browser for that one."""
    note = mail_note(request, auth)
    if note is None or not note.awaited:
        return see_other(auth, request, "sign-in")
    asked = _REQUESTS[note.awaited]
    await count_by_client(request, auth, asked.rate)
    await asked.send(auth, note.email)
    keep_note(request, auth, note.email)
    return see_other(auth, request, "check-mail", notice="sent_again")


async def _mail(auth: Auth, request: Request, awaited: Awaited, form: LinkRequestForm) -> Response:
    """Mails a link, if there is such an account; the answer is the same if there is none."""
    asked = _REQUESTS[awaited]
    try:
        email = EmailRequest(email=form.email).email
        await ask_first(request, auth, asked.rate)
    except (ValidationError, AuthError) as error:
        return _form_page(auth, request, awaited, form.next, form.email, error)
    await asked.send(auth, email)
    keep_note(request, auth, email, awaited=awaited, next=safe_next(form.next))
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
