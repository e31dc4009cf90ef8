"""The user's name, e-mail address and password."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request, Response
from pydantic import BaseModel, ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth, CurrentAuthentication
from ...email.kinds import MailKind
from ...errors import AuthError
from ...flows import account as account_flow
from ...flows import email_change as email_change_flow
from ...flows import password as password_flow
from ...flows.authentication import Authentication, is_recent
from ...flows.link_codes import change_has_code
from ...http.cookies import sign_out
from ...http.rates import rate_limited
from ...schemas import EmailRequest, ProfileUpdate, Reauthentication, ResetPassword, SetPassword, Text, taken
from ...security.hashing import is_usable
from ..bodies import columns_of, own_body
from ..export import exported
from ..router import AuthRouter
from .faults import UnfilledError
from .forms import (
    EmailForm,
    MailedCodeForm,
    NewPasswordForm,
    Problem,
    Secret,
    problem_with,
    problem_with_fields,
)
from .own_fields import OwnField, entered_in, filled, own_fields, shown_in
from .rendering import render_page, see_other
from .route import PageRoute, back_to

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


class NameForm(BaseModel):
    """The name, beside the fields that the app adds."""

    display_name: Text = ""


class PasswordForm(NewPasswordForm):
    """The password that there is, and the new one."""

    password: Secret


@router.get("/profile")
async def profile_page(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication
) -> Response:
    """The forms."""
    return await _profile_page(auth, request, authentication)


for path in ("name", "email", "email/code", "keep-email", "password", "set-password", "export"):
    router.get(f"/profile/{path}", name=f"back_from_{path.replace('/', '_')}")(back_to("profile"))


@router.post("/profile/name", dependencies=[rate_limited("update_account")])
async def name_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[NameForm, Form()],
) -> Response:
    """Sets the name, and what the app asks for beside it."""
    try:
        await _save(auth, request, authentication, form.display_name)
    except UnfilledError as error:
        return await _profile_page(auth, request, authentication, problem_with_fields(error, "name"))
    except AuthError as error:
        return await _profile_page(auth, request, authentication, problem_with(error, "name"))
    return see_other(auth, request, "profile", notice="saved")


@router.post("/profile/email", dependencies=[rate_limited("update_account")])
async def email_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[EmailForm, Form()],
) -> Response:
    """Mails a link to a new address."""
    try:
        address = EmailRequest(email=form.email).email
        new = address != authentication.user.email
        with_code = auth.mailer.shows_code(MailKind.EMAIL_CHANGE)
        await account_flow.update_account(auth, authentication, email=address, with_code=with_code)
    except (ValidationError, AuthError) as error:
        return await _profile_page(auth, request, authentication, problem_with(error, "email"))
    return see_other(auth, request, "profile", notice="address_mailed" if new else "saved")


@router.post("/profile/email/code", dependencies=[rate_limited("verify")])
async def email_code_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[MailedCodeForm, Form()],
) -> Response:
    """Confirms the new address with the code that was mailed to it."""
    try:
        await email_change_flow.confirm_with_code(auth, authentication, form.take())
    except AuthError as error:
        return await _profile_page(auth, request, authentication, problem_with(error, "email_code"))
    return see_other(auth, request, "profile", notice="saved")


@router.post("/profile/keep-email", dependencies=[rate_limited("update_account")])
async def keep_email_form(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication
) -> Response:
    """Takes the change of the address back."""
    try:
        await account_flow.update_account(auth, authentication, email=authentication.user.email)
    except AuthError as error:
        return await _profile_page(auth, request, authentication, problem_with(error, "keep_email"))
    return see_other(auth, request, "profile", notice="saved")


@router.post("/profile/export", dependencies=[rate_limited("export_account")])
async def export_form(auth: CurrentAuth, authentication: CurrentAuthentication) -> Response:
    """The user's data, as a file. A user who signed in long ago confirms the password first."""
    return await exported(auth, authentication)


@router.post("/profile/password", dependencies=[rate_limited("change_password")])
async def password_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[PasswordForm, Form()],
) -> Response:
    """Sets another password, which ends every session."""
    try:
        old = taken(Reauthentication(password=form.password.take()), "password")
        chosen = taken(ResetPassword(new_password=form.new_password.take()), "new_password")
        await password_flow.change_password(auth, authentication, old, chosen)
    except (ValidationError, AuthError) as error:
        return await _profile_page(auth, request, authentication, problem_with(error, "password"))
    return _signed_out(auth, request)


@router.post("/profile/set-password", dependencies=[rate_limited("change_password")])
async def set_password_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[NewPasswordForm, Form()],
) -> Response:
    """Sets a first password, which ends every session."""
    try:
        chosen = taken(SetPassword(new_password=form.new_password.take()), "new_password")
        await password_flow.set_password(auth, authentication, chosen)
    except (ValidationError, AuthError) as error:
        return await _profile_page(auth, request, authentication, problem_with(error, "set_password"))
    return _signed_out(auth, request)


def _signed_out(auth: Auth, request: Request) -> Response:
    sign_out(request, auth)
    return see_other(auth, request, "sign-in", notice="password_changed")


async def _save(auth: Auth, request: Request, authentication: Authentication, display_name: str) -> None:
    body, fields = _body_of(auth)
    entered = entered_in(fields, await request.form())
    changes = filled(body, fields, entered, {"display_name": display_name})
    columns = columns_of(changes, given=True)
    await account_flow.update_account(
        auth, authentication, columns=columns | {"display_name": changes.display_name or ""}
    )


def _body_of(auth: Auth) -> tuple[type[ProfileUpdate], tuple[OwnField, ...]]:
    body: type[ProfileUpdate] = own_body(ProfileUpdate, auth.bodies)
    return body, own_fields(body, auth.tables.user)


async def _profile_page(
    auth: Auth, request: Request, authentication: Authentication, problem: Problem | None = None
) -> Response:
    user, (_, fields) = authentication.user, _body_of(auth)
    entered = {"display_name": user.display_name or "", **shown_in(fields, user)}
    if problem is not None and problem.form == "name":
        form = await request.form()
        entered |= {**entered_in(fields, form), "display_name": str(form.get("display_name", ""))}
    return render_page(
        auth,
        request,
        "profile",
        user=user,
        problem=problem,
        own_fields=fields,
        entered=entered,
        recent=is_recent(auth, authentication),
        has_code=user.pending_email is not None and await change_has_code(auth, authentication),
        has_password=is_usable(user.hashed_password),
    )
