"""Verifying an address and confirming a new one. Browsers get a page with a button, other clients JSON."""

from __future__ import annotations

from fastapi import Request, Response
from pydantic import ValidationError

from ..dependencies import CurrentAuth, rate_limited
from ..email.tokens import Purpose
from ..errors import AuthError, ErrorCode
from ..flows import email as email_flow
from ..schemas import EmailRequest, Message, Reauthentication, taken
from .base import documented, is_browser
from .pages.forms import TypedSecret
from .pages.links import LinkToken, done_page, link_page
from .pages.route import PageRoute
from .router import AuthRouter

router = AuthRouter(prefix="/auth", tags=["e-mail"], route_class=PageRoute)

VERIFIED = "Your e-mail address is verified."
CHANGED = "Your e-mail address was changed."


@router.post(
    "/verify/resend",
    dependencies=[rate_limited("resend")],
    responses=documented(ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def resend(auth: CurrentAuth, body: EmailRequest) -> Message:
    """Mail a new verification link. The answer is the same whether or not there is an account."""
    await email_flow.resend_verification(auth, body.email)
    return Message(detail="If the address needs verification, a link is on its way.")


@router.get(
    "/verify/{token}",
    dependencies=[rate_limited("verify")],
    response_model=Message,
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def verify(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Verify an address with its mailed link. A browser gets a page that asks for the account's password: so
    programs that look into mails spend no link, and nobody verifies a stranger's signup by a click."""
    if is_browser(request):
        return await link_page(auth, request, Purpose.VERIFY, token)
    await email_flow.verify_email(auth, token)
    return Message(detail=VERIFIED)


@router.post(
    "/verify/{token}",
    dependencies=[rate_limited("verify")],
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def confirm_verify(auth: CurrentAuth, token: LinkToken) -> Message:
    """Verify an address with its mailed link."""
    await email_flow.verify_email(auth, token)
    return Message(detail=VERIFIED)


@router.post("/verify/{token}/form", dependencies=[rate_limited("verify")], include_in_schema=False)
async def verify_form(
    auth: CurrentAuth, request: Request, token: LinkToken, password: TypedSecret
) -> Response:
    """The same from the page's own form, with the password, answered with a page."""
    try:
        body = Reauthentication(password=password.take())
        await email_flow.verify_email_with_password(auth, token, taken(body, "password"))
    except (ValidationError, AuthError) as error:
        return await link_page(auth, request, Purpose.VERIFY, token, error)
    return done_page(auth, request, Purpose.VERIFY)


@router.get(
    "/email-change/{token}",
    dependencies=[rate_limited("verify")],
    response_model=Message,
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def change(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Confirm a new address with the link mailed to it. A browser gets a page whose button does it."""
    if is_browser(request):
        return await link_page(auth, request, Purpose.EMAIL_CHANGE, token)
    await email_flow.confirm_email_change(auth, token)
    return Message(detail=CHANGED)


@router.post(
    "/email-change/{token}",
    dependencies=[rate_limited("verify")],
    response_model=Message,
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def confirm_change(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Confirm a new address with the link mailed to it."""
    try:
        await email_flow.confirm_email_change(auth, token)
    except AuthError as error:
        if not is_browser(request):
            raise
        return await link_page(auth, request, Purpose.EMAIL_CHANGE, token, error)
    if is_browser(request):
        return done_page(auth, request, Purpose.EMAIL_CHANGE)
    return Message(detail=CHANGED)
