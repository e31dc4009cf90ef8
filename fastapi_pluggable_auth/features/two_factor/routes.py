"""Two-factor authentication: enrolling, and recovery codes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, Request

from ...dependencies import CurrentAuth, CurrentAuthentication, CurrentUser, EnrollingAuthentication
from ...errors import ErrorCode
from ...http.demands import RECENT_LOGIN, SIGNED_IN
from ...http.rates import rate_limited
from ...http.responses import documented
from ...routes.queries import REQUIRED, Emptiable, given
from ...routes.router import AuthRouter
from ...schemas import Message, taken
from . import flows
from .flows import TwoFactorError
from .schemas import CodeRequest, RecoveryCodes, RecoveryCodesLeft, TwoFactorEnrolment

router = AuthRouter(
    prefix="/auth/2fa",
    tags=["two-factor"],
    about="Codes of an authenticator app beside the password, and recovery codes.",
    responses=documented(*SIGNED_IN),
)


@router.post(
    "/enable",
    operation_id="auth_enable_two_factor",
    summary="Start setting up two-factor",
    responses=documented(TwoFactorError.TWO_FACTOR_ENABLED, *RECENT_LOGIN),
)
async def enable(auth: CurrentAuth, authentication: EnrollingAuthentication) -> TwoFactorEnrolment:
    """Start enrolling: scan the QR code. Two-factor is active from the first right code on. Needs a recent
    login."""
    enrolment = await flows.enable(auth, authentication)
    return TwoFactorEnrolment(otpauth_uri=enrolment.otpauth_uri, qr_base64=enrolment.qr_base64)


@router.post(
    "/verify",
    operation_id="auth_verify_two_factor",
    summary="Finish setting up two-factor",
    dependencies=[rate_limited("two_factor")],
    responses=documented(
        TwoFactorError.TWO_FACTOR_NOT_STARTED,
        ErrorCode.INVALID_CODE,
        ErrorCode.IMPERSONATION_FORBIDDEN,
        ErrorCode.TWO_FACTOR_UNAVAILABLE,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.PASSWORD_LOCKED,
        ErrorCode.RATE_LIMITED,
    ),
    openapi_extra=REQUIRED,
)
async def verify_two_factor(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    body: Annotated[CodeRequest, Body(), Emptiable] = None,  # type: ignore[assignment]  # null is no body
) -> Message:
    """Finish enrolling with a code of the authenticator app. All other sessions end."""
    await flows.verify(auth, authentication, taken(given(request, body, CodeRequest), "code"))
    return Message(detail="Two-factor authentication is active.")


@router.post(
    "/recovery-codes",
    operation_id="auth_renew_recovery_codes",
    summary="Make new recovery codes",
    responses=documented(TwoFactorError.TWO_FACTOR_NOT_ACTIVE, *RECENT_LOGIN),
)
async def renew_recovery_codes(auth: CurrentAuth, authentication: CurrentAuthentication) -> RecoveryCodes:
    """Make ten recovery codes, in place of all earlier ones. They are shown this once; each works once, as
    `code` of a login. Needs a recent login."""
    return RecoveryCodes(codes=await flows.renew_recovery_codes(auth, authentication))


@router.get(
    "/recovery-codes", operation_id="auth_count_recovery_codes", summary="Count the unused recovery codes"
)
async def count_recovery_codes(auth: CurrentAuth, user: CurrentUser) -> RecoveryCodesLeft:
    """How many recovery codes are unused."""
    return RecoveryCodesLeft(remaining=await flows.remaining_recovery_codes(auth, user))


async def disable_two_factor(auth: CurrentAuth, authentication: CurrentAuthentication) -> None:
    """Switch two-factor off. Needs a recent login; all other sessions end."""
    await flows.disable(auth, authentication)
