"""Signing in, with a code where two-factor is active, and out again; and the password once more, where a
change needs a recent login."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final

from fastapi import Depends, Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...dependencies import SIGN_IN_FIRST, CurrentAuth, EnrollingAuthentication, get_ended_authentication
from ...errors import AuthError, ErrorCode
from ...flows import login as login_flow
from ...flows import sessions as sessions_flow
from ...flows.authentication import Authentication
from ...flows.confirmation import confirms_by_mail
from ...flows.devices import may_trust
from ...flows.login import Challenge
from ...flows.session_tokens import TokenSet
from ...http.addresses import account_path, onward
from ...http.cookies import authenticate_cookies, authenticates_by_cookie, device_of, sign_in, sign_out
from ...http.csrf import check_form
from ...http.guards import first_of_login
from ...http.mail_note import forget_note, keep_note, mail_note
from ...http.rates import rate_limited
from ...schemas import LoginCodeRequest, LoginData, NamedLoginData, Reauthentication, Text, taken
from ...security.hashing import is_usable
from ...security.jwt import Transport
from ...security.redirects import safe_next
from ..router import AuthRouter
from .forms import CodeForm, NextForm, Problem, Rejected, Secret, problem_with
from .rendering import go_to, render_page, see_other
from .route import PageRoute, back_to

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


_ANSWERED_BY_MAIL: Final = frozenset({ErrorCode.EMAIL_NOT_VERIFIED, ErrorCode.PASSWORD_RESET_REQUIRED})
"""Refusals after which a mail is asked for, to the address that was typed."""


class RememberForm(NextForm):
    """Carries the path to go on to, and whether the browser is to stay signed in: a box to tick."""

    remember: Text = ""

    @property
    def remembers(self) -> bool:
        """Whether the box is ticked."""
        return self.remember == "yes"


class SignInForm(RememberForm):
    """An address or username, and the password."""

    email: Text = ""
    password: Secret


class ChallengeForm(CodeForm, RememberForm):
    """The code, for the challenge that the password has led to; with a box to tick, where none is to be asked
    for on this device for a while."""

    challenge: Secret
    trust: Text = ""


class ConfirmForm(CodeForm, NextForm):
    """The password once more, and the code while two-factor is active."""

    password: Secret


@router.get("/sign-in")
async def sign_in_page(auth: CurrentAuth, request: Request, next: str = "") -> Response:
    """The form, or straight on for users who are signed in."""
    if (authentication := await current_visitor(auth, request)) is not None:
        return await go_on(auth, request, authentication, next)
    note = mail_note(request, auth)
    return show_sign_in(auth, request, next, "" if note is None else note.email)


@router.post("/sign-in", dependencies=[Depends(check_form), rate_limited("login")])
async def sign_in_form(auth: CurrentAuth, request: Request, form: Annotated[SignInForm, Form()]) -> Response:
    """Signs in with the password, or leads on to the code."""
    first = first_of_login(request, auth)
    try:
        schema = NamedLoginData if auth.has_usernames else LoginData
        body = schema(email=form.email, password=form.password.take())
        shown = body.email, taken(body, "password")
        answer = await login_flow.begin_login(
            auth, *shown, device_of(request), transport=Transport.COOKIE, first=first
        )
    except (ValidationError, AuthError) as error:
        if isinstance(error, AuthError) and error.code in _ANSWERED_BY_MAIL and "@" in shown[0]:
            keep_note(request, auth, shown[0], next=safe_next(form.next))
        asks = first is not None and (first.next_is_asked or _is_throttled(error))
        return show_sign_in(auth, request, form.next, form.email, error, remember=form.remembers, asks=asks)
    return await show_answer(auth, request, answer, form.next, remember=form.remembers)


router.get("/sign-in/code", name="back_from_code")(back_to("sign-in"))


@router.post("/sign-in/code", dependencies=[Depends(check_form), rate_limited("login")])
async def code_form(auth: CurrentAuth, request: Request, form: Annotated[ChallengeForm, Form()]) -> Response:
    """Signs in with the code."""
    field = form.filled
    try:
        challenge = Challenge(form.challenge.look(), await login_flow.challenged(auth, form.challenge.copy()))
        answer = form.take() or taken(LoginCodeRequest(code=""), "code")  # which says what is wrong
        device = device_of(request)
        tokens = await login_flow.answer_challenge(
            auth,
            form.challenge,
            answer,
            device and replace(device, trust=form.trust == "yes"),
            transport=Transport.COOKIE,
        )
    except (ValidationError, AuthError) as error:
        if isinstance(error, AuthError) and error.code is ErrorCode.INVALID_TOKEN:
            return see_other(auth, request, "sign-in", notice="sign_in_again", next=safe_next(form.next))
        wrong = isinstance(error, AuthError) and error.code is ErrorCode.INVALID_CREDENTIALS
        said = AuthError(ErrorCode.INVALID_CODE) if wrong else error
        problem = problem_with(said, code=field)
        return _code_page(auth, request, challenge, form.next, problem, remember=form.remembers)
    return await show_answer(auth, request, tokens, form.next, remember=form.remembers)


@router.post("/sign-out")
async def sign_out_form(
    auth: CurrentAuth,
    request: Request,
    authentication: Annotated[Authentication, Depends(get_ended_authentication)],
    form: Annotated[NextForm, Form()],
) -> Response:
    """Ends this session; others go on. Leads to `next`, else to the sign-in page."""
    await sessions_flow.logout(auth, authentication, everywhere=False)
    sign_out(request, auth)
    if (page := safe_next(form.next)) is not None:
        return see_other(auth, request, page)
    return see_other(auth, request, "sign-in", notice="signed_out")


@router.get("/confirm-password")
async def confirm_password_page(
    auth: CurrentAuth, request: Request, authentication: EnrollingAuthentication, next: str = ""
) -> Response:
    """The form."""
    return await confirm_page(auth, request, authentication, next)


@router.post("/confirm-password", dependencies=[rate_limited("reauthenticate")])
async def confirm_password_form(
    auth: CurrentAuth,
    request: Request,
    authentication: EnrollingAuthentication,
    form: Annotated[ConfirmForm, Form()],
) -> Response:
    """The password, or the code where there is none, makes the login recent again, and leads back."""
    field = form.filled
    try:
        body = Reauthentication(password=form.password.take())
        shown = taken(body, "password"), form.take()
        await login_flow.reauthenticate(auth, authentication, *shown)
    except (ValidationError, AuthError) as error:
        return await confirm_page(auth, request, authentication, form.next, problem_with(error, code=field))
    return confirmed(auth, request, form.next)


def confirmed(auth: Auth, request: Request, next: str | None) -> Response:
    """Leads back to what needed a recent login."""
    back = safe_next(next) or account_path(request, auth, "profile")
    notice = "confirmed" if back.startswith(account_path(request, auth, "")) else None
    return see_other(auth, request, back, notice=notice)


async def current_visitor(auth: Auth, request: Request) -> Authentication | None:
    """Who is signed in in this browser; None where signing in comes first."""
    if not authenticates_by_cookie(request):
        return None
    try:
        return await authenticate_cookies(request, auth, allow_ended=False)
    except AuthError as error:
        if error.code not in SIGN_IN_FIRST:
            raise
        return None


async def show_answer(
    auth: Auth, request: Request, answer: TokenSet | Challenge, next: str | None, *, remember: bool = False
) -> Response:
    """Asks for the code, or signs this browser in and leads on. It forgets that when it is closed, unless it
    is to `remember`."""
    if isinstance(answer, Challenge):
        return _code_page(auth, request, answer, next, remember=remember)
    sign_in(request, auth, answer, remember=remember)
    forget_note(request)
    entered = await authenticate_cookies(request, auth, allow_ended=False)
    return await go_on(auth, request, entered, next)


async def go_on(auth: Auth, request: Request, authentication: Authentication, next: str | None) -> Response:
    """Leads a user who is signed in to `next`, or home; where two-factor has to be set up, or a feature has
    something to decide, there first."""
    address = onward(request, auth, next)
    if auth.lacks_two_factor(authentication.user):
        later = safe_next(address)
        return see_other(auth, request, "security", notice="two_factor_needed", next=later)
    for detour in auth.features.detours:
        if (notice := await detour(auth, authentication)) is not None:
            return see_other(auth, request, "security", notice=notice, next=safe_next(address))
    return go_to(address)


def _is_throttled(error: Rejected) -> bool:
    return isinstance(error, AuthError) and error.code is ErrorCode.THROTTLED


def show_sign_in(
    auth: Auth,
    request: Request,
    next: str | None,
    email: str = "",
    error: Rejected | None = None,
    *,
    remember: bool = False,
    asks: bool = False,
    **context: Any,
) -> Response:
    """The form, with what was wrong with the last try, and with what guards ask in the next one."""
    asks = asks or any(guard.login_after == 0 for guard in auth.features.guards)
    return render_page(
        auth,
        request,
        "sign_in",
        problem=problem_with(error),
        guarded="login" if asks else None,
        email=email,
        next=safe_next(next),
        remember=remember,
        **context,
    )


def _code_page(
    auth: Auth,
    request: Request,
    challenge: Challenge,
    next: str | None,
    problem: Problem | None = None,
    *,
    remember: bool,
) -> Response:
    return render_page(
        auth,
        request,
        "code",
        title=None if challenge.user.two_factor_active else "code.other_title",
        problem=problem,
        user=challenge.user,
        challenge=challenge.token,
        may_trust=may_trust(auth, challenge.user),
        next=safe_next(next),
        remember=remember,
    )


async def confirm_page(
    auth: Auth,
    request: Request,
    authentication: Authentication,
    next: str,
    problem: Problem | None = None,
) -> Response:
    """The form, with what was wrong with the last try."""
    user = authentication.user
    has_password = is_usable(user.hashed_password)
    values_of = {
        slot.template: await slot.values_for(auth, authentication)
        for slot in auth.features.slots_in("confirm_password")
    }
    elsewhere = any(values.get("confirms") for values in values_of.values())
    return render_page(
        auth,
        request,
        "confirm_password",
        title=None if has_password else "code.other_title",
        problem=problem,
        user=user,
        has_password=has_password,
        by_mail=confirms_by_mail(user),
        may_confirm=has_password or user.has_second_factor or elsewhere,
        values_of=values_of,
        next=safe_next(next),
    )
