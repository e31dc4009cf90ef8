"""Signing in with a code or a link that was mailed."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Body, Request, Response

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...errors import AuthError, ErrorCode
from ...flows.devices import Device
from ...flows.login import Challenge
from ...flows.session_tokens import TokenSet
from ...http.addresses import home
from ...http.browsers import wants_page
from ...http.cookies import device_of, sign_in, transport_for
from ...http.csrf import check_form
from ...http.guards import ask_first
from ...http.rates import rate_limited
from ...http.responses import documented
from ...routes.core import device_in, session_answer
from ...routes.pages.forms import problem_with
from ...routes.pages.links import LinkToken
from ...routes.pages.rendering import go_to, render_page
from ...routes.router import AuthRouter
from ...schemas import CookieSession, DeviceTokenPair, Message, TokenPair, taken
from ...security.plaintext import Plaintext
from . import flows
from .names import ASK, RATE, EmailSignInError
from .schemas import EmailSignInBegun, EmailSignInCode, EmailSignInLink, EmailSignInRequest

VALID: Final = "The link is valid."

SIGNED_IN: Final = (
    ErrorCode.INVALID_CREDENTIALS,
    ErrorCode.PASSWORD_RESET_REQUIRED,
    ErrorCode.TWO_FACTOR_REQUIRED,
    ErrorCode.TWO_FACTOR_UNAVAILABLE,
    ErrorCode.THROTTLED,
    ErrorCode.CODES_LOCKED,
    ErrorCode.CSRF_REFUSED,
    ErrorCode.VALIDATION_ERROR,
    ErrorCode.RATE_LIMITED,
)

PREFIX: Final = "/auth/email-sign-in"
TAGS: Final = ["mailed sign-in"]
ABOUT: Final = "Signing in with a mailed code or link."

router = AuthRouter(prefix=PREFIX, tags=TAGS, about=ABOUT)
codes = AuthRouter(prefix=PREFIX, tags=TAGS, about=ABOUT)
links = AuthRouter(prefix=PREFIX, tags=TAGS, about=ABOUT)


@router.post(
    "",
    operation_id="auth_email_sign_in",
    summary="Ask for a mail to sign in with",
    dependencies=[rate_limited(RATE)],
    status_code=202,
    responses=documented(ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED),
)
async def email_sign_in(auth: CurrentAuth, request: Request, body: EmailSignInRequest) -> EmailSignInBegun:
    """Mail a code and a link, or what the app has of both, to the owner of the address. The answer is the
    same whether or not there is an account; the code answers its `challenge`."""
    await ask_first(request, auth, ASK, body)
    language = request.headers.get("accept-language", "")
    return EmailSignInBegun(challenge=await flows.ask(auth, body.email, accept_language=language))


@codes.post(
    "/code",
    operation_id="auth_email_sign_in_code",
    summary="Sign in with the code of the mail",
    dependencies=[rate_limited("login", sets_cookies=True)],
    responses=documented(ErrorCode.MAILED_CODE_REFUSED, ErrorCode.MAILED_CODE_EXPIRED, *SIGNED_IN),
)
async def email_sign_in_code(
    auth: CurrentAuth, request: Request, body: EmailSignInCode
) -> DeviceTokenPair | TokenPair | CookieSession:
    """Start a session, which is one factor: a second one is still asked for, and 401 `two_factor_required`
    spends nothing: send the same with `second_code`. Five tries are looked at."""
    answer = await flows.sign_in_with_code(
        auth,
        taken(body, "challenge"),
        taken(body, "code"),
        device_in(request, body),
        transport=transport_for(request),
        accept_language=request.headers.get("accept-language", ""),
        second=flows.InSameRequest(body.take_answer()),
    )
    return _session(request, auth, answer, remember=body.remember)


@links.get(
    "/{token}",
    operation_id="auth_check_email_sign_in",
    summary="Check the link of the mail",
    dependencies=[rate_limited("verify")],
    response_model=Message,
    responses=documented(
        EmailSignInError.SIGN_IN_LINK_REFUSED, ErrorCode.VALIDATION_ERROR, ErrorCode.RATE_LIMITED
    ),
)
async def check_email_sign_in(auth: CurrentAuth, request: Request, token: LinkToken) -> Message | Response:
    """Whether the link still works; nothing is changed. A browser gets a page with the code, for where it was
    asked for, and a button to sign in here instead."""
    if not wants_page(request):
        await flows.open_link(auth, token)
        return Message(detail=VALID)
    return await link_page(auth, request, token)


@links.head("/{token}", dependencies=[rate_limited("verify")], include_in_schema=False)
async def probe_email_sign_in(auth: CurrentAuth, token: LinkToken) -> Response:
    """Whether the link still works, for a program that looks: 200, else 404."""
    try:
        await flows.open_link(auth, token)
    except AuthError as error:
        if error.code is not EmailSignInError.SIGN_IN_LINK_REFUSED:
            raise
        return Response(status_code=404)
    return Response()


@links.post(
    "/{token}",
    operation_id="auth_email_sign_in_link",
    summary="Sign in with the link of the mail",
    dependencies=[rate_limited("login", sets_cookies=True)],
    responses=documented(EmailSignInError.SIGN_IN_LINK_REFUSED, ErrorCode.MAILED_CODE_EXPIRED, *SIGNED_IN),
)
async def email_sign_in_link(
    auth: CurrentAuth,
    request: Request,
    token: LinkToken,
    body: Annotated[EmailSignInLink, Body()] = None,  # type: ignore[assignment]  # null counts as no body
) -> DeviceTokenPair | TokenPair | CookieSession:
    """Start a session where the link was opened, as its user has asked for it there. After 401
    `two_factor_required` send the same with `code`, the second factor."""
    given = body or EmailSignInLink()
    second = flows.InSameRequest(given.take_answer())
    answer = await _by_link(auth, request, token, device_in(request, given), second)
    return _session(request, auth, answer, remember=given.remember)


@links.post("/{token}/form", dependencies=[rate_limited("login")], include_in_schema=False)
async def link_form(auth: CurrentAuth, request: Request, token: LinkToken) -> Response:
    """The same by the button of the page. Where no page asks for a second factor, it refuses users who have
    one: they enter the code where they asked for it."""
    await check_form(request)
    second = None if auth.pages else flows.InSameRequest(None)
    try:
        answer = await _by_link(auth, request, token, device_of(request), second)
    except AuthError as error:
        return await link_page(auth, request, token, error)
    if isinstance(answer, TokenSet) and not auth.pages:
        sign_in(request, auth, answer, remember=False)
        return go_to(home(request, auth) or "/")
    from ...routes.pages.sign_in import show_answer  # in apps that have imported the pages

    return await show_answer(auth, request, answer, None)


async def link_page(
    auth: Auth, request: Request, token: Plaintext, refused: AuthError | None = None
) -> Response:
    """The code, for where it was asked for, and a button to sign in here, with why that was refused; or that
    the link is dead."""
    try:
        opened = await flows.open_link(auth, token)
    except AuthError as error:
        if error.code is not EmailSignInError.SIGN_IN_LINK_REFUSED:
            raise
        return render_page(auth, request, "email_sign_in_link", error.code.status, opened=None, action=None)
    # Without cookies there is nothing that a button could sign in.
    action = f"{request.url.path.rstrip('/').removesuffix('/form')}/form" if auth.uses_cookies else None
    problem = problem_with(refused)
    return render_page(auth, request, "email_sign_in_link", problem=problem, opened=opened, action=action)


async def _by_link(
    auth: Auth, request: Request, token: Plaintext, device: Device | None, second: flows.Second = None
) -> TokenSet | Challenge:
    return await flows.sign_in_with_link(
        auth,
        token,
        device,
        transport=transport_for(request),
        accept_language=request.headers.get("accept-language", ""),
        second=second,
    )


def _session(
    request: Request, auth: Auth, answer: TokenSet | Challenge, *, remember: bool
) -> DeviceTokenPair | TokenPair | CookieSession:
    if isinstance(answer, Challenge):
        raise AuthError(ErrorCode.TWO_FACTOR_REQUIRED)
    return session_answer(request, auth, answer, remember=remember)
