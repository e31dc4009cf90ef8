"""An address for somebody whose provider does not vouch for one."""

from __future__ import annotations

from fastapi import Request

from ...dependencies import CurrentAuth
from ...errors import AuthError, ErrorCode
from ...flows.login import Challenge
from ...http.cookies import transport_for
from ...http.rates import rate_limited
from ...http.responses import documented
from ...routes.core import device_in, session_answer
from ...routes.router import AuthRouter
from ...schemas import CookieSession, DeviceTokenPair, TokenPair, taken
from . import addresses
from .names import SocialError
from .routes import TAG
from .schemas import SocialAddress, SocialAddressCode, SocialCodeSent

router = AuthRouter(prefix="/auth/social/address", tags=[TAG])


@router.post(
    "",
    operation_id="auth_social_address",
    summary="Ask for a code by mail",
    dependencies=[rate_limited("signup")],
    status_code=202,
    responses=documented(
        SocialError.SOCIAL_EXPIRED, ErrorCode.THROTTLED, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED
    ),
)
async def ask(auth: CurrentAuth, request: Request, body: SocialAddress) -> SocialCodeSent:
    """Mail a code to an address, as the provider gives none or does not vouch for it. The answer is the same
    whether or not there is an account."""
    language, token = request.headers.get("accept-language", ""), taken(body, "social_address")
    return SocialCodeSent(challenge=await addresses.mail_address_code(auth, token, body.email, language))


@router.post(
    "/code",
    operation_id="auth_social_address_code",
    summary="Sign in with the code of the mail",
    dependencies=[rate_limited("login", sets_cookies=True)],
    responses=documented(
        ErrorCode.MAILED_CODE_REFUSED,
        ErrorCode.MAILED_CODE_EXPIRED,
        ErrorCode.THROTTLED,
        SocialError.SOCIAL_EXPIRED,
        SocialError.NO_ACCOUNT,
        SocialError.IDENTITY_TAKEN,
        SocialError.IDENTITY_HELD,
        ErrorCode.SIGNUP_CLOSED,
        ErrorCode.INVALID_CREDENTIALS,
        ErrorCode.PASSWORD_RESET_REQUIRED,
        ErrorCode.TWO_FACTOR_REQUIRED,
        ErrorCode.CSRF_REFUSED,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.RATE_LIMITED,
    ),
)
async def answer(
    auth: CurrentAuth, request: Request, body: SocialAddressCode
) -> DeviceTokenPair | TokenPair | CookieSession:
    """Sign in at last: the address is then that of a new account, or the identity is connected to the account
    that has it."""
    shown = await addresses.sign_in_with_code(
        auth,
        taken(body, "challenge"),
        taken(body, "code"),
        device_in(request, body),
        taken(body, "code_verifier") if body.code_verifier else None,
        body.take_answer(),
        transport=transport_for(request),
        accept_language=request.headers.get("accept-language", ""),
    )
    if isinstance(shown.answer, Challenge):
        raise AuthError(ErrorCode.TWO_FACTOR_REQUIRED)
    return session_answer(request, auth, shown.answer)
