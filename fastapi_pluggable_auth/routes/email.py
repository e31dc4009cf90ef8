"""Verifying an address and confirming a new one. Browsers get a page with a button, other clients JSON.

A GET of a mailed link changes nothing, with one exception: `GET /auth/verify/{token}` by a program, as in
0.1."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Body, Form, Request, Response
from pydantic import BaseModel, ValidationError

from ..auth import Auth
from ..dependencies import CurrentAuth, CurrentAuthentication
from ..email.tokens import Purpose
from ..errors import PASSWORD_REFUSALS, AuthError, ErrorCode
from ..flows import email as email_flow
from ..flows import email_change as email_change_flow
from ..flows import password as password_flow
from ..http.browsers import asks_as_program, is_browser
from ..http.cookies import signup_binding
from ..http.demands import SIGNED_IN
from ..http.guards import ask_first
from ..http.rates import rate_limited
from ..http.responses import documented
from ..schemas import (
    ChallengeMessage,
    CodeVerifyRequest,
    MailedCodeRequest,
    Message,
    Reauthentication,
    VerificationRequest,
    VerifyRequest,
    taken,
)
from ..security.plaintext import Plaintext
from .pages.forms import Secret
from .pages.links import LinkToken, done_page, link_page, probe_link, show_link
from .pages.route import PageRoute
from .queries import REQUIRED, VerificationBody, given
from .router import AuthRouter

router = AuthRouter(
    prefix="/auth",
    tags=["e-mail"],
    about="Verifying an address, and changing it, by mailed links and codes.",
    route_class=PageRoute,
)

VERIFIED = "Your e-mail address is verified."
CHANGED = "Your e-mail address was changed."
CLAIMED = "Your e-mail address is verified. Sign in with the new password."
STOPPED = "Your e-mail address stays as it is."
VALID = "The link is valid. Send a POST request to use it."


@router.post(
    "/verify/resend",
    operation_id="auth_resend_verification",
    summary="Mail the verification link again",
    dependencies=[rate_limited("resend")],
    responses=documented(ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
    openapi_extra=REQUIRED,
)
async def resend(
    auth: CurrentAuth,
    request: Request,
    body: VerificationBody = None,  # type: ignore[assignment]  # null counts as no body
) -> ChallengeMessage | Message:
    """Mail a new verification link. The answer is the same whether or not there is an account. With
    `mailed_code` the mail has a code as well, and the answer the `challenge` that it answers; a client that
    has the challenge of its signup sends that one, and is known by it."""
    asked = given(request, body, VerificationRequest)
    await ask_first(request, auth, "resend", asked)
    message = Message(detail="If the address needs verification, a link is on its way.")
    if not asked.mailed_code:
        await email_flow.resend_verification(auth, asked.email)
        return message
    shown = taken(asked, "challenge") if asked.challenge else None
    challenge = await email_flow.mail_verification_code(auth, asked.email, shown)
    return ChallengeMessage(**message.model_dump(), challenge=challenge)


CODE_REFUSALS = (ErrorCode.MAILED_CODE_REFUSED, ErrorCode.MAILED_CODE_EXPIRED)


@router.post(
    "/verify/code",
    operation_id="auth_verify_with_code",
    summary="Verify an address with the code of the mail",
    dependencies=[rate_limited("verify")],
    responses=documented(
        *CODE_REFUSALS,
        ErrorCode.SIGNUP_ELSEWHERE,
        ErrorCode.WRONG_PASSWORD,
        *PASSWORD_REFUSALS,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.PASSWORD_LOCKED,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def verify_code(auth: CurrentAuth, request: Request, body: CodeVerifyRequest) -> Message:
    """Verify an address with the code of the mail and the `challenge` of the answer to the request for it.
    The client that signed up needs no more. Any other sends the account's `password`; or a `new_password`,
    which claims the account for the owner of the mailbox. Five wrong codes are looked at."""
    shown = taken(body, "challenge"), taken(body, "code")
    if body.new_password:
        await password_flow.claim_with_code(auth, *shown, taken(body, "new_password"))
        return Message(detail=CLAIMED)
    password = taken(body, "password") if body.password else None
    await email_flow.verify_with_code(auth, *shown, signup_binding(request, auth), password)
    return Message(detail=VERIFIED)


@router.get(
    "/verify/{token}",
    operation_id="auth_verify_by_get",
    summary="Verify an address by a GET, for programs",
    dependencies=[rate_limited("verify")],
    response_model=Message,
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def verify(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Verify an address with its mailed link, for programs. Where the request looks like a browser's in any
    way, or `VERIFY_BY_GET` is off, nothing is changed: so what looks into mails spends no link, and nobody
    verifies a stranger's signup by a click. A browser gets the page that asks."""
    if auth.settings.verify_by_get and asks_as_program(request):
        await email_flow.verify_email(auth, token)
        return Message(detail=VERIFIED)
    return await show_link(auth, request, Purpose.VERIFY, token, VALID)


@router.head("/verify/{token}", dependencies=[rate_limited("verify")], include_in_schema=False)
async def probe_verify(auth: CurrentAuth, token: LinkToken) -> Response:
    """Whether the link still works."""
    return await probe_link(auth, Purpose.VERIFY, token)


@router.post(
    "/verify/{token}",
    operation_id="auth_verify",
    summary="Verify an address",
    dependencies=[rate_limited("verify")],
    responses=documented(
        ErrorCode.INVALID_LINK,
        ErrorCode.SIGNUP_ELSEWHERE,
        ErrorCode.WRONG_PASSWORD,
        *PASSWORD_REFUSALS,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.PASSWORD_LOCKED,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def confirm_verify(
    auth: CurrentAuth,
    request: Request,
    token: LinkToken,
    body: Annotated[VerifyRequest, Body()] = None,  # type: ignore[assignment]  # null counts as no body
) -> Message:
    """Verify an address with its mailed link. The browser that signed up, which has a cookie, and programs
    need no body. Any other browser sends the account's `password`; or a `new_password`, which claims the
    account for the owner of the mailbox: what somebody else may have put there is dropped."""
    if body is not None and body.new_password:
        await password_flow.claim_account(auth, token, taken(body, "new_password"))
        return Message(detail=CLAIMED)
    if body is not None and body.password:
        await email_flow.verify_signup(auth, token, None, taken(body, "password"))
    elif asks_as_program(request) and "origin" not in request.headers:
        await email_flow.verify_email(auth, token)
    else:
        await email_flow.verify_signup(auth, token, signup_binding(request, auth))
    return Message(detail=VERIFIED)


class VerifyForm(BaseModel):
    """Asks a browser that did not sign up for the password."""

    password: Secret


@router.post("/verify/{token}/form", dependencies=[rate_limited("verify")], include_in_schema=False)
async def verify_form(
    auth: CurrentAuth, request: Request, token: LinkToken, form: Annotated[VerifyForm, Form()]
) -> Response:
    """The same from the page's own form, answered with a page; that of account pages leads on."""
    try:
        body = Reauthentication(password=form.password.take())
        password = taken(body, "password") if body.password else None
        verified = await email_flow.verify_signup(auth, token, signup_binding(request, auth), password)
    except (ValidationError, AuthError) as error:
        return await link_page(auth, request, Purpose.VERIFY, token, error)
    if not auth.pages:
        return done_page(auth, request, Purpose.VERIFY)
    from .pages.verified import after_verification  # in apps that have imported the pages

    return await after_verification(auth, request, verified)


@router.post(
    "/email-change/code",
    operation_id="auth_confirm_email_change_with_code",
    summary="Confirm a new address with the code of the mail",
    dependencies=[rate_limited("verify")],
    responses=documented(
        *SIGNED_IN,
        *CODE_REFUSALS,
        ErrorCode.IMPERSONATION_FORBIDDEN,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def change_code(
    auth: CurrentAuth, authentication: CurrentAuthentication, body: MailedCodeRequest
) -> Message:
    """Confirm a new address with the code mailed to it, in the session that asked for the change with
    `mailed_code`. Five wrong codes are looked at."""
    await email_change_flow.confirm_with_code(auth, authentication, taken(body, "code"))
    return Message(detail=CHANGED)


@router.get(
    "/email-change/{token}",
    operation_id="auth_check_email_change",
    summary="Check the link to a new address",
    dependencies=[rate_limited("verify")],
    response_model=Message,
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def change(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Whether the link to confirm a new address still works; nothing is changed. A browser gets a page whose
    button confirms."""
    return await show_link(auth, request, Purpose.EMAIL_CHANGE, token, VALID)


@router.head("/email-change/{token}", dependencies=[rate_limited("verify")], include_in_schema=False)
async def probe_change(auth: CurrentAuth, token: LinkToken) -> Response:
    """Whether the link still works."""
    return await probe_link(auth, Purpose.EMAIL_CHANGE, token)


@router.post(
    "/email-change/{token}",
    operation_id="auth_confirm_email_change",
    summary="Confirm a new address",
    dependencies=[rate_limited("verify")],
    response_model=Message,
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def confirm_change(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Confirm a new address with the link mailed to it."""
    return await _spend(
        auth, request, Purpose.EMAIL_CHANGE, token, email_change_flow.confirm_email_change, CHANGED
    )


@router.get(
    "/stop-email-change/{token}",
    operation_id="auth_check_stop_email_change",
    summary="Check the link that stops a change of address",
    dependencies=[rate_limited("verify")],
    response_model=Message,
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def check_stop(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Whether the link that was mailed to the present address still stops a change to another one; nothing is
    changed. A browser gets a page whose button stops it."""
    return await show_link(auth, request, Purpose.STOP_EMAIL_CHANGE, token, VALID)


@router.head("/stop-email-change/{token}", dependencies=[rate_limited("verify")], include_in_schema=False)
async def probe_stop(auth: CurrentAuth, token: LinkToken) -> Response:
    """Whether the link still works."""
    return await probe_link(auth, Purpose.STOP_EMAIL_CHANGE, token)


@router.post(
    "/stop-email-change/{token}",
    operation_id="auth_stop_email_change",
    summary="Stop a change of address",
    dependencies=[rate_limited("verify")],
    response_model=Message,
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def stop_change(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Stop a change to another address with the link mailed to the present one."""
    return await _spend(
        auth, request, Purpose.STOP_EMAIL_CHANGE, token, email_change_flow.stop_email_change, STOPPED
    )


async def _spend(
    auth: Auth,
    request: Request,
    purpose: Purpose,
    token: Plaintext,
    flow: Callable[[Auth, Plaintext], Awaitable[None]],
    said: str,
) -> Message | Response:
    """Does what a link is for; a browser, which has pressed the button of its page, gets a page."""
    try:
        await flow(auth, token)
    except AuthError as error:
        if not is_browser(request):
            raise
        return await link_page(auth, request, purpose, token, error)
    if is_browser(request):
        return done_page(auth, request, purpose)
    return Message(detail=said)
