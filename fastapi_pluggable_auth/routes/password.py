"""Forgotten passwords, and the first ones of people who were invited."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request, Response
from pydantic import ValidationError

from ..dependencies import CurrentAuth
from ..email.tokens import Purpose
from ..errors import PASSWORD_REFUSALS, AuthError, ErrorCode
from ..flows import password as password_flow
from ..http.cookies import device_of, keep_device
from ..http.guards import ask_first
from ..http.rates import rate_limited
from ..http.responses import documented
from ..schemas import (
    ChallengeMessage,
    CodeResetPassword,
    DeviceMessage,
    EmailRequest,
    Message,
    ResetPassword,
    SetPassword,
    taken,
)
from .core import device_in
from .pages.forms import NewPasswordForm
from .pages.links import LinkToken, done_page, link_page, probe_link, show_link
from .pages.route import PageRoute
from .queries import REQUIRED, EmailBody, given
from .router import AuthRouter

router = AuthRouter(
    prefix="/auth",
    tags=["password"],
    about="Setting a forgotten password anew by a mailed link or code.",
    route_class=PageRoute,
)


@router.post(
    "/forgot-password",
    operation_id="auth_forgot_password",
    summary="Mail a reset link",
    dependencies=[rate_limited("forgot_password")],
    responses=documented(ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
    openapi_extra=REQUIRED,
)
async def forgot_password(
    auth: CurrentAuth,
    request: Request,
    body: EmailBody = None,  # type: ignore[assignment]  # null counts as no body
) -> ChallengeMessage | Message:
    """Mail a password reset link. The answer is the same whether or not there is an account. With
    `mailed_code` the mail has a code as well, and the answer the `challenge` that it answers."""
    asked = given(request, body, EmailRequest)
    await ask_first(request, auth, "forgot_password", asked)
    message = Message(detail="If there is an account with this address, a link is on its way.")
    if not asked.mailed_code:
        await password_flow.forgot_password(auth, asked.email)
        return message
    challenge = await password_flow.mail_reset_code(auth, asked.email)
    return ChallengeMessage(**message.model_dump(), challenge=challenge)


@router.post(
    "/reset-password/code",
    operation_id="auth_reset_password_with_code",
    summary="Set a new password with the code of the mail",
    dependencies=[rate_limited("reset_password")],
    responses=documented(
        ErrorCode.MAILED_CODE_REFUSED,
        ErrorCode.MAILED_CODE_EXPIRED,
        *PASSWORD_REFUSALS,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def reset_with_code(
    auth: CurrentAuth, request: Request, body: CodeResetPassword
) -> DeviceMessage | Message:
    """Set a new password with the code of the mail and the `challenge` of the answer to the request for it,
    as with the link of the mail. A password that is refused does not spend the code; five wrong codes are
    looked at."""
    shown = taken(body, "challenge"), taken(body, "code"), taken(body, "new_password")
    value = await password_flow.reset_with_code(auth, *shown, device_in(request, body))
    return _was_reset(request, value)


@router.get(
    "/reset-password/{token}",
    operation_id="auth_check_reset_password",
    summary="Check a reset link",
    dependencies=[rate_limited("reset_password")],
    response_model=Message,
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def check_reset(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Whether a reset link still works; it is not spent. A browser gets the form for the new password."""
    return await show_link(auth, request, Purpose.RESET, token, "The link is valid.")


@router.head(
    "/reset-password/{token}", dependencies=[rate_limited("reset_password")], include_in_schema=False
)
async def probe_reset(auth: CurrentAuth, token: LinkToken) -> Response:
    """Whether the link still works."""
    return await probe_link(auth, Purpose.RESET, token)


@router.post(
    "/reset-password/{token}",
    operation_id="auth_reset_password",
    summary="Set a new password by a reset link",
    dependencies=[rate_limited("reset_password")],
    responses=documented(
        ErrorCode.INVALID_LINK,
        *PASSWORD_REFUSALS,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def reset_password(
    auth: CurrentAuth, request: Request, token: LinkToken, body: ResetPassword
) -> DeviceMessage | Message:
    """Set a new password with the mailed link. Every session ends; log in with the new password. With
    `device` in the body, the answer has the value for the next login on this device."""
    device = device_in(request, body)
    value = await password_flow.reset_password(auth, token, taken(body, "new_password"), device)
    return _was_reset(request, value)


def _was_reset(request: Request, value: str | None) -> DeviceMessage | Message:
    message = Message(detail="Your password was changed. Sign in with the new one.")
    if value is None:
        return message
    if device_of(request) is not None:
        keep_device(request, value)
        return message
    return DeviceMessage(**message.model_dump(), device=value)


@router.post(
    "/reset-password/{token}/form", dependencies=[rate_limited("reset_password")], include_in_schema=False
)
async def reset_form(
    auth: CurrentAuth, request: Request, token: LinkToken, form: Annotated[NewPasswordForm, Form()]
) -> Response:
    """The same from the page's own form, answered with a page."""
    try:
        body = ResetPassword(new_password=form.new_password.take())
        password, device = taken(body, "new_password"), device_of(request)
        value = await password_flow.reset_password(auth, token, password, device)
        if value is not None:
            keep_device(request, value)
    except (ValidationError, AuthError) as error:
        return await link_page(auth, request, Purpose.RESET, token, error)
    return done_page(auth, request, Purpose.RESET)


@router.get(
    "/invite/{token}",
    operation_id="auth_check_invite",
    summary="Check the link of an invitation",
    dependencies=[rate_limited("verify")],
    response_model=Message,
    responses=documented(ErrorCode.INVALID_LINK, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def check_invite(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Whether the link of an invitation still works; it is not spent. A browser gets the form for the
    password."""
    return await show_link(auth, request, Purpose.INVITE, token, "The link is valid.")


@router.head("/invite/{token}", dependencies=[rate_limited("verify")], include_in_schema=False)
async def probe_invite(auth: CurrentAuth, token: LinkToken) -> Response:
    """Whether the link still works."""
    return await probe_link(auth, Purpose.INVITE, token)


@router.post(
    "/invite/{token}",
    operation_id="auth_accept_invite",
    summary="Set the first password by an invitation",
    dependencies=[rate_limited("verify")],
    responses=documented(
        ErrorCode.INVALID_LINK,
        *PASSWORD_REFUSALS,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def accept_invite(auth: CurrentAuth, token: LinkToken, body: SetPassword) -> Message:
    """Set the password of an invited account with its mailed link, which verifies the address. Log in
    afterwards."""
    await password_flow.accept_invitation(auth, token, taken(body, "new_password"))
    return Message(detail="Your password is set. Sign in with it.")


@router.post("/invite/{token}/form", dependencies=[rate_limited("verify")], include_in_schema=False)
async def invite_form(
    auth: CurrentAuth, request: Request, token: LinkToken, form: Annotated[NewPasswordForm, Form()]
) -> Response:
    """The same from the page's own form, answered with a page."""
    try:
        body = SetPassword(new_password=form.new_password.take())
        await password_flow.accept_invitation(auth, token, taken(body, "new_password"))
    except (ValidationError, AuthError) as error:
        return await link_page(auth, request, Purpose.INVITE, token, error)
    return done_page(auth, request, Purpose.INVITE)
