"""The pages that ask for an address, and for the code that was mailed there."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...errors import AuthError
from ...http.cookies import device_of
from ...http.csrf import check_form
from ...http.rates import rate_limited
from ...routes.pages.forms import EmailForm, NextForm, Problem, Secret, problem_with
from ...routes.pages.rendering import render_page, see_other
from ...routes.pages.route import PageRoute, back_to
from ...routes.pages.sign_in import show_answer
from ...routes.router import AuthRouter
from ...schemas import EmailRequest, LoginCodeRequest, taken
from ...security.jwt import Transport
from ...security.plaintext import Plaintext
from ...security.redirects import safe_next
from . import addresses
from .names import SocialError
from .routes import ask_address

router = AuthRouter(
    prefix="/account/sign-in/social",
    tags=["account pages"],
    route_class=PageRoute,
    include_in_schema=False,
    dependencies=[Depends(check_form)],
)


class AddressForm(EmailForm, NextForm):
    """The address, for the one who has arrived."""

    token: Secret


class CodeForm(EmailForm, NextForm):
    """The code of the mail; with the token, another one can be asked for."""

    token: Secret
    challenge: Secret
    code: Secret


for path in ("address", "code"):
    router.get(f"/{path}", name=f"back_from_social_{path}")(back_to("sign-in"))


@router.post("/address", dependencies=[rate_limited("signup")])
async def social_address_form(
    auth: CurrentAuth, request: Request, form: Annotated[AddressForm, Form()]
) -> Response:
    """Mails a code, and asks for it."""
    language = request.headers.get("accept-language", "")
    try:
        email = EmailRequest(email=form.email).email
        challenge = await addresses.mail_address_code(auth, form.token.copy(), email, language)
    except (ValidationError, AuthError) as error:
        if isinstance(error, AuthError) and error.code is SocialError.SOCIAL_EXPIRED:
            return see_other(auth, request, "sign-in", notice="sign_in_again", next=safe_next(form.next))
        return ask_address(auth, request, form.token.look(), form.email, form.next, problem_with(error))
    return _code_page(auth, request, form.token.look(), challenge, email, form.next)


@router.post("/code", dependencies=[rate_limited("login")])
async def social_code_form(
    auth: CurrentAuth, request: Request, form: Annotated[CodeForm, Form()]
) -> Response:
    """Signs in with the code."""
    challenge = form.challenge.look()
    try:
        code = taken(LoginCodeRequest(code=form.code.take()), "code")
        shown = await addresses.sign_in_with_code(
            auth,
            Plaintext(challenge),
            code,
            device_of(request),
            in_two_steps=True,
            transport=Transport.COOKIE,
            accept_language=request.headers.get("accept-language", ""),
        )
    except (ValidationError, AuthError) as error:
        if isinstance(error, AuthError) and error.code is SocialError.SOCIAL_EXPIRED:
            return see_other(auth, request, "sign-in", notice="sign_in_again", next=safe_next(form.next))
        problem = problem_with(error)
        return _code_page(auth, request, form.token.look(), challenge, form.email, form.next, problem)
    return await show_answer(auth, request, shown.answer, shown.next, remember=shown.remember)


def _code_page(
    auth: Auth,
    request: Request,
    token: str,
    challenge: str,
    email: str,
    next: str | None,
    problem: Problem | None = None,
) -> Response:
    return render_page(
        auth,
        request,
        "social_code",
        problem=problem,
        token=token,
        challenge=challenge,
        email=email,
        next=safe_next(next),
    )
