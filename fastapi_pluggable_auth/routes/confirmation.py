"""Confirming by a mailed code, for users who have neither a password nor a second factor."""

from __future__ import annotations

from ..dependencies import CurrentAuth, EnrollingAuthentication
from ..errors import ErrorCode
from ..flows.confirmation import confirm_by_mail, mail_confirmation
from ..http.demands import SIGNED_IN
from ..http.rates import rate_limited
from ..http.responses import documented
from ..schemas import ChallengeMessage, ConfirmationCode, Message, taken
from .router import AuthRouter

router = AuthRouter(
    prefix="/auth/reauthenticate",
    tags=["auth"],
    dependencies=[rate_limited("reauthenticate")],
    responses=documented(
        *SIGNED_IN,
        ErrorCode.CONFIRM_OTHERWISE,
        ErrorCode.IMPERSONATION_FORBIDDEN,
        ErrorCode.THROTTLED,
        ErrorCode.RATE_LIMITED,
    ),
)


@router.post(
    "/mail", operation_id="auth_reauthenticate_by_mail", summary="Ask for a code to confirm", status_code=202
)
async def reauthenticate_by_mail(
    auth: CurrentAuth, authentication: EnrollingAuthentication
) -> ChallengeMessage:
    """Mail a code to a user who has neither a password nor a second factor, as one who signs in at a
    provider."""
    challenge = await mail_confirmation(auth, authentication)
    return ChallengeMessage(detail="A code was mailed.", challenge=challenge)


@router.post(
    "/mail/code",
    operation_id="auth_reauthenticate_by_mailed_code",
    summary="Confirm by a mailed code",
    responses=documented(
        ErrorCode.MAILED_CODE_REFUSED,
        ErrorCode.MAILED_CODE_EXPIRED,
        ErrorCode.REAUTHENTICATION_FAILED,
        ErrorCode.VALIDATION_ERROR,
    ),
)
async def reauthenticate_by_mailed_code(
    auth: CurrentAuth, authentication: EnrollingAuthentication, body: ConfirmationCode
) -> Message:
    """Confirm with the code of the mail, in the session that asked for it."""
    await confirm_by_mail(auth, authentication, taken(body, "challenge"), taken(body, "code"))
    return Message(detail="Confirmed.")
