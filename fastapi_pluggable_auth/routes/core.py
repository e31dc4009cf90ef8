"""Signing up, in and out."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final, Protocol

from fastapi import Body, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import WrapValidator

from ..auth import Auth
from ..dependencies import CurrentAuth, CurrentUser, EnrollingAuthentication, get_ended_authentication
from ..errors import PASSWORD_REFUSALS, ErrorCode
from ..flows import login as login_flow
from ..flows import rotation as rotation_flow
from ..flows import sessions as sessions_flow
from ..flows import signup as signup_flow
from ..flows.authentication import Authentication
from ..flows.devices import Device
from ..flows.pending import new_value
from ..flows.session_tokens import TokenSet
from ..http.cookies import (
    bind_signup,
    device_of,
    new_signup_binding,
    renew_cookies,
    seconds_until,
    sign_in,
    sign_out,
    transport_for,
    wants_cookies,
)
from ..http.demands import SIGNED_IN
from ..http.guards import ask_first, first_of_login
from ..http.rates import rate_limited
from ..http.responses import documented
from ..schemas import (
    CookieSession,
    DeviceTokenPair,
    LoginData,
    LogoutRequest,
    Message,
    Reauthentication,
    RefreshRequest,
    SignedUp,
    TokenPair,
    UserCreate,
    UserOut,
    taken,
)
from ..security.jwt import Transport
from .bodies import asks_for_code, columns_of, first_way_in
from .router import AuthRouter

router = AuthRouter(prefix="/auth", tags=["auth"], about="Signing up, in and out.")

LogoutBody = Annotated[
    LogoutRequest | None,
    Body(),
    WrapValidator(lambda value, validate: None if isinstance(value, bytes) else validate(value)),
]
"""What is not JSON, such as a form, counts as none, as null does."""

MISSING_BODY: Final = {"loc": ("body",), "msg": "Field required", "type": "missing"}


# The first: FastAPI tries the routes one after the other, and twice, at 3 us each.
@router.get(
    "/me",
    operation_id="auth_me",
    summary="Who is signed in",
    response_model=UserOut,
    responses=documented(*SIGNED_IN),
)
async def me(user: CurrentUser) -> object:
    """The account that the access token stands for."""
    return user


@router.post(
    "/signup",
    operation_id="auth_signup",
    summary="Sign up",
    dependencies=[rate_limited("signup")],
    status_code=201,
    response_model=SignedUp | UserOut,
    responses=documented(
        ErrorCode.SIGNUP_CLOSED,
        ErrorCode.EMAIL_TAKEN,
        ErrorCode.USERNAME_TAKEN,
        ErrorCode.VALUE_REFUSED,
        *PASSWORD_REFUSALS,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def signup(auth: CurrentAuth, request: Request, response: Response, body: UserCreate) -> object:
    """Create an account. A verification link is mailed to the address, in the language that the header
    `Accept-Language` asks for, if there is one of the templates in it. A browser gets a cookie, by which the
    link knows it again. With `mailed_code` the mail has a code as well, and the answer the `challenge` that
    it answers."""
    await ask_first(request, auth, "signup", body)
    accept_language = request.headers.get("accept-language", "")
    columns = columns_of(body)
    challenge = new_value() if asks_for_code(body) else None
    binding = new_signup_binding(request, auth, challenge)
    password = taken(body, "password") if body.password else None
    instead = await first_way_in(auth, body, binding)
    user = await signup_flow.signup(
        auth,
        body.email,
        password,
        accept_language,
        columns,
        binding or challenge,  # which says of a client without cookies that it signed up
        instead=instead,
        challenge=challenge,
    )
    bind_signup(response, auth, binding)
    return user if challenge is None else _Challenged(user, challenge)


class _Challenged:
    """An account for an answer, beside the challenge."""

    def __init__(self, user: object, challenge: str) -> None:
        self._user = user
        self.challenge = challenge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._user, name)


def session_answer(
    request: Request, auth: Auth, tokens: TokenSet, *, remember: bool | None = None
) -> TokenPair | CookieSession:
    """The tokens, in the body or, for a browser, in cookies alone, which it is to `remember`."""
    if tokens.transport is Transport.BEARER:
        pair = TokenPair(access_token=tokens.access_token, refresh_token=tokens.refresh_token)
        return pair if tokens.device is None else DeviceTokenPair(**pair.model_dump(), device=tokens.device)
    sign_in(request, auth, tokens, remember=remember)
    return CookieSession(expires_in=seconds_until(auth, tokens.access_expires_at))


class NamesDevice(Protocol):
    """A body of a client that may want to be known."""

    device: str | None

    @property
    def model_fields_set(self) -> set[str]:
        """What the client has sent."""


def device_in(request: Request, body: NamesDevice) -> Device | None:
    """What a client shows to be known again: a browser by a cookie, others by a field of the body, which has
    to be there."""
    asked = Device(body.device) if "device" in body.model_fields_set else None
    device = device_of(request) or asked
    return device and replace(device, trust=getattr(body, "trust_device", False))


@router.post(
    "/login",
    operation_id="auth_login",
    summary="Sign in",
    dependencies=[rate_limited("login", sets_cookies=True)],
    responses=documented(
        ErrorCode.INVALID_CREDENTIALS,
        ErrorCode.EMAIL_NOT_VERIFIED,
        ErrorCode.PASSWORD_RESET_REQUIRED,
        ErrorCode.TWO_FACTOR_REQUIRED,
        ErrorCode.TWO_FACTOR_UNAVAILABLE,
        ErrorCode.CSRF_REFUSED,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.PASSWORD_LOCKED,
        ErrorCode.CODES_LOCKED,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def login(
    auth: CurrentAuth, request: Request, body: LoginData
) -> DeviceTokenPair | TokenPair | CookieSession:
    """Start a session. With two-factor active, `code` is the current code of the authenticator app, or
    a recovery code. Where cookies are on, a browser gets the tokens in them and not in the body; with
    `remember` false it forgets them when it is closed. With `device` in the body, the answer has the value
    for the next login on this device."""
    password, code = taken(body, "password"), body.take_answer()
    device, transport = device_in(request, body), transport_for(request)
    first = first_of_login(request, auth, body)
    tokens = await login_flow.login(
        auth, body.email, password, code, device, transport=transport, first=first
    )
    return session_answer(request, auth, tokens, remember=body.remember)


@router.post(
    "/refresh",
    operation_id="auth_refresh",
    summary="Renew the tokens",
    dependencies=[rate_limited("refresh", sets_cookies=True)],
    responses=documented(
        ErrorCode.NOT_AUTHENTICATED,
        ErrorCode.INVALID_TOKEN,
        ErrorCode.REFRESH_RACED,
        ErrorCode.CSRF_REFUSED,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.RATE_LIMITED,
    ),
    openapi_extra={"requestBody": {"required": True}},
)
async def refresh(
    auth: CurrentAuth,
    request: Request,
    body: Annotated[RefreshRequest, Body()] = None,  # type: ignore[assignment]  # null counts as no body
) -> TokenPair | CookieSession:
    """Spend a refresh token for a new pair. Each token works once; using it again ends the session. Where
    cookies are on, a browser sends no body: its token is in a cookie, and so are the new ones."""
    if body is not None:
        tokens = await rotation_flow.rotate(auth, taken(body, "token"), answer=transport_for(request))
        return session_answer(request, auth, tokens)
    if not wants_cookies(request):
        raise RequestValidationError([MISSING_BODY])
    return session_answer(request, auth, await renew_cookies(request, auth))


@router.post(
    "/logout",
    operation_id="auth_logout",
    summary="Sign out",
    responses=documented(
        ErrorCode.NOT_AUTHENTICATED,
        ErrorCode.INVALID_TOKEN,
        ErrorCode.REFRESH_RACED,
        ErrorCode.CSRF_REFUSED,
        ErrorCode.VALIDATION_ERROR,
    ),
)
async def logout(
    auth: CurrentAuth,
    request: Request,
    authentication: Annotated[Authentication, Depends(get_ended_authentication)],
    body: LogoutBody = None,
) -> Message:
    """End every session of the user, at once; with `everywhere` false only the one that asks, on this device.
    Repeating it is not an error. An administrator who acts as the user ends that session alone."""
    await sessions_flow.logout(auth, authentication, everywhere=body is None or body.everywhere)
    sign_out(request, auth)
    return Message(detail="Signed out.")


@router.post(
    "/reauthenticate",
    operation_id="auth_reauthenticate",
    summary="Confirm the password",
    dependencies=[rate_limited("reauthenticate")],
    responses=documented(
        ErrorCode.NOT_AUTHENTICATED,
        ErrorCode.INVALID_TOKEN,
        ErrorCode.REFRESH_RACED,
        ErrorCode.CSRF_REFUSED,
        ErrorCode.TWO_FACTOR_REQUIRED,
        ErrorCode.REAUTHENTICATION_FAILED,
        ErrorCode.PASSWORD_NOT_SET,
        ErrorCode.IMPERSONATION_FORBIDDEN,
        ErrorCode.TWO_FACTOR_UNAVAILABLE,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.PASSWORD_LOCKED,
        ErrorCode.CODES_LOCKED,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def reauthenticate(
    auth: CurrentAuth, authentication: EnrollingAuthentication, body: Reauthentication
) -> Message:
    """Confirm the password, so that sensitive changes are allowed again for a while. An account without a
    password sends the two-factor `code` alone."""
    password = taken(body, "password") if "password" in body.model_fields_set else None
    code = body.take_answer()
    await login_flow.reauthenticate(auth, authentication, password, code)
    return Message(detail="Confirmed.")
