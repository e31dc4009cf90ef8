"""Creating an account."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Form, Request, Response

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...email.kinds import MailKind
from ...errors import AuthError, ErrorCode
from ...flows import signup as signup_flow
from ...flows.pending import new_value
from ...http.cookies import bind_signup, new_signup_binding
from ...http.csrf import check_form
from ...http.guards import ask_first
from ...http.mail_note import keep_note, mail_note
from ...http.rates import rate_limited
from ...schemas import UserCreate, taken
from ...security.plaintext import Plaintext
from ...security.redirects import safe_next
from ..bodies import columns_of, first_way_in, own_body
from ..router import AuthRouter
from .faults import UnfilledError
from .forms import EmailForm, NewPasswordForm, NextForm, Problem, problem_with, problem_with_fields
from .own_fields import OwnField, entered_in, filled, own_fields
from .rendering import render_page, see_other
from .route import PageRoute


async def require_open(auth: CurrentAuth) -> None:
    """Raises `AuthError(SIGNUP_CLOSED)` where nobody signs up by themselves."""
    if auth.settings.signup != "open":
        raise AuthError(ErrorCode.SIGNUP_CLOSED)


class SignUpRoute(PageRoute):
    """There is no such page where nobody signs up by themselves."""

    def refusal(self, request: Request, error: AuthError) -> Response:
        """As of any page, but 404 for that."""
        response = super().refusal(request, error)
        if error.code is ErrorCode.SIGNUP_CLOSED:
            response.status_code = 404
        return response


class AddressForm(EmailForm, NextForm):
    """An address, beside the fields that the app adds."""


class SignUpForm(AddressForm, NewPasswordForm):
    """The same with a password."""


router = AuthRouter(
    prefix="/account",
    tags=["account pages"],
    route_class=SignUpRoute,
    include_in_schema=False,
    dependencies=[Depends(require_open)],
)


@router.get("/sign-up")
async def sign_up_page(auth: CurrentAuth, request: Request, next: str = "") -> Response:
    """The form, with the address for which a mail was asked before."""
    _, fields = body_of(auth)
    note = mail_note(request, auth)
    entered = {field.name: field.default or "" for field in fields}
    return _page(auth, request, entered, next, "" if note is None else note.email)


@router.post("/sign-up", dependencies=[Depends(check_form), rate_limited("signup")])
async def sign_up_form(auth: CurrentAuth, request: Request, form: Annotated[SignUpForm, Form()]) -> Response:
    """Creates the account; the link is in the mail, as the page says that follows."""
    body, _ = body_of(auth)
    return await signed_up(auth, request, form, body, "password", form.new_password)


async def signed_up(
    auth: Auth,
    request: Request,
    form: AddressForm,
    body: type[UserCreate],
    field: str,
    value: Any,
    **context: Any,
) -> Response:
    """The same with what the form has for a `field` of this body: the password, or what is in its place. The
    page has the `context` where the account is refused."""
    language, binding = request.headers.get("accept-language", ""), new_signup_binding(request, auth)
    _, fields = body_of(auth)
    entered = entered_in(fields, await request.form())
    next = safe_next(form.next)
    try:
        account = filled(body, fields, entered, {"email": form.email, field: _shown(value)})
        await ask_first(request, auth, "signup")
        columns = columns_of(account)
        password = taken(account, "password") if account.password else None
        instead = await first_way_in(auth, account, binding)
        challenge = new_value() if auth.mailer.shows_code(MailKind.VERIFY) else None
        said = auth, account.email, password, language, columns, binding
        await signup_flow.signup(*said, instead=instead, challenge=challenge)
    except UnfilledError as error:
        return _page(auth, request, entered, next, form.email, problem_with_fields(error), **context)
    except AuthError as error:
        if error.code is ErrorCode.EMAIL_TAKEN:
            keep_note(request, auth, account.email, next=next)
        return _page(auth, request, entered, next, form.email, problem_with(error), **context)
    keep_note(request, auth, account.email, awaited="signup", next=next, signed_up=True, challenge=challenge)
    response = see_other(auth, request, "check-mail")
    bind_signup(response, auth, binding)
    return response


def _shown(value: Any) -> Any:
    return value.take() if isinstance(value, Plaintext) else value


def body_of(auth: Auth) -> tuple[type[UserCreate], tuple[OwnField, ...]]:
    """The body of a signup by the page, and what it asks for beside an address and a password."""
    body: type[UserCreate] = own_body(UserCreate, auth.bodies)
    return body, own_fields(body, auth.tables.user)


def _page(
    auth: Auth,
    request: Request,
    entered: dict[str, str],
    next: str | None,
    email: str,
    problem: Problem | None = None,
    **context: Any,
) -> Response:
    _, fields = body_of(auth)
    return render_page(
        auth,
        request,
        "sign_up",
        problem=problem,
        guarded="signup",
        email=email,
        next=safe_next(next),
        own_fields=fields,
        entered=entered,
        username=entered.get("username", ""),
        **context,
    )
