"""Signing up, in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from ..dependencies import (
    CurrentAuth,
    CurrentUser,
    EnrollingAuthentication,
    get_ended_authentication,
    rate_limited,
)
from ..errors import PASSWORD_REFUSALS, ErrorCode
from ..flows import login as login_flow
from ..flows import sessions as sessions_flow
from ..flows import signup as signup_flow
from ..flows.sessions import Authentication
from ..schemas import LoginData, Message, Reauthentication, RefreshRequest, TokenPair, UserCreate, UserOut
from .base import SIGNED_IN, AuthRoute, documented

router = APIRouter(prefix="/auth", tags=["auth"], route_class=AuthRoute)


@router.post(
    "/signup",
    dependencies=[rate_limited("signup")],
    status_code=201,
    response_model=UserOut,
    responses=documented(
        ErrorCode.EMAIL_TAKEN,
        ErrorCode.USERNAME_TAKEN,
        ErrorCode.VALUE_REFUSED,
        *PASSWORD_REFUSALS,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def signup(auth: CurrentAuth, request: Request, body: UserCreate) -> object:
    """Create an account. A verification link is mailed to the address, in the language that the header
    `Accept-Language` asks for, if there is one of the templates in it."""
    accept_language = request.headers.get("accept-language", "")
    columns = body.model_dump(exclude={"email", "password"})
    return await signup_flow.signup(auth, body.email, body.password, accept_language, columns)


@router.post(
    "/login",
    dependencies=[rate_limited("login")],
    responses=documented(
        ErrorCode.INVALID_CREDENTIALS,
        ErrorCode.EMAIL_NOT_VERIFIED,
        ErrorCode.PASSWORD_RESET_REQUIRED,
        ErrorCode.TWO_FACTOR_REQUIRED,
        ErrorCode.TWO_FACTOR_UNAVAILABLE,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def login(auth: CurrentAuth, body: LoginData) -> TokenPair:
    """Start a session. With two-factor active, `code` is the current code of the authenticator app, or
    a recovery code."""
    tokens = await login_flow.login(auth, body.email, body.password, body.code)
    return TokenPair(access_token=tokens.access_token, refresh_token=tokens.refresh_token)


@router.post(
    "/refresh",
    dependencies=[rate_limited("refresh")],
    responses=documented(
        ErrorCode.INVALID_TOKEN, ErrorCode.REFRESH_RACED, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED
    ),
)
async def refresh(auth: CurrentAuth, body: RefreshRequest) -> TokenPair:
    """Spend a refresh token for a new pair. Each token works once; using it again ends the session."""
    tokens = await sessions_flow.rotate(auth, body.token)
    return TokenPair(access_token=tokens.access_token, refresh_token=tokens.refresh_token)


@router.get("/me", response_model=UserOut, responses=documented(*SIGNED_IN))
async def me(user: CurrentUser) -> object:
    """The account that the access token stands for."""
    return user


@router.post("/logout", responses=documented(ErrorCode.NOT_AUTHENTICATED, ErrorCode.INVALID_TOKEN))
async def logout(
    auth: CurrentAuth, authentication: Annotated[Authentication, Depends(get_ended_authentication)]
) -> Message:
    """End every session of the user, at once. Repeating it is no error."""
    await sessions_flow.logout(auth, authentication)
    return Message(detail="Signed out.")


@router.post(
    "/reauthenticate",
    dependencies=[rate_limited("reauthenticate")],
    responses=documented(
        ErrorCode.NOT_AUTHENTICATED,
        ErrorCode.INVALID_TOKEN,
        ErrorCode.TWO_FACTOR_REQUIRED,
        ErrorCode.REAUTHENTICATION_FAILED,
        ErrorCode.TWO_FACTOR_UNAVAILABLE,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def reauthenticate(
    auth: CurrentAuth, authentication: EnrollingAuthentication, body: Reauthentication
) -> Message:
    """Confirm the password, so that sensitive changes are allowed again for a while."""
    await login_flow.reauthenticate(auth, authentication, body.password, body.code)
    return Message(detail="Confirmed.")
