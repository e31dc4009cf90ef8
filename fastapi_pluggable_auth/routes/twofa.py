"""Two-factor authentication: enrolling."""

from __future__ import annotations

from fastapi import APIRouter

from ..dependencies import CurrentAuth, CurrentAuthentication, CurrentUser
from ..errors import ErrorCode
from ..flows import twofa as twofa_flow
from ..schemas import CodeRequest, Message, TwoFactorEnrolment
from .base import AuthRoute, documented

router = APIRouter(
    prefix="/auth/2fa",
    tags=["two-factor"],
    route_class=AuthRoute,
    responses=documented(ErrorCode.NOT_AUTHENTICATED, ErrorCode.INVALID_TOKEN),
)


@router.post("/enable", responses=documented(ErrorCode.TWO_FACTOR_ENABLED))
async def enable(auth: CurrentAuth, user: CurrentUser) -> TwoFactorEnrolment:
    """Start enrolling: scan the QR code. Two-factor is active from the first right code on."""
    enrolment = await twofa_flow.enable(auth, user)
    return TwoFactorEnrolment(otpauth_uri=enrolment.otpauth_uri, qr_base64=enrolment.qr_base64)


@router.post(
    "/verify",
    responses=documented(
        ErrorCode.TWO_FACTOR_NOT_STARTED,
        ErrorCode.INVALID_CODE,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
    ),
)
async def verify(auth: CurrentAuth, authentication: CurrentAuthentication, body: CodeRequest) -> Message:
    """Finish enrolling with a code of the authenticator app. All other sessions end."""
    await twofa_flow.verify(auth, authentication, body.code)
    return Message(detail="Two-factor authentication is active.")
