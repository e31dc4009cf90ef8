"""Name, e-mail address and password of whoever is signed in."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...cookies import sign_out
from ...dependencies import CurrentAuth, CurrentAuthentication, count_by_client
from ...errors import AuthError
from ...flows import account as account_flow
from ...flows import password as password_flow
from ...flows.authentication import Authentication, is_recent
from ...schemas import EmailRequest, ProfileUpdate, Reauthentication, ResetPassword, taken
from ..router import AuthRouter
from .forms import Rejected, Typed, TypedSecret, problem_with
from .rendering import render_page, see_other
from .route import PageRoute

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


@router.get("/profile")
async def profile_page(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication
) -> Response:
    """The forms."""
    return _profile_page(auth, request, authentication)


@router.post("/profile")
async def profile_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[Literal["name", "email", "keep_email", "password"], Form()],
    password: TypedSecret,
    new_password: TypedSecret,
    display_name: Typed = "",
    email: Typed = "",
) -> Response:
    """Sets the name, mails a link to a new address or takes that back, or sets a new password, which ends
    every session."""
    await count_by_client(request, auth, "change_password" if form == "password" else "update_account")
    try:
        match form:
            case "name":
                name = ProfileUpdate(display_name=display_name).display_name
                await account_flow.update_account(auth, authentication, columns={"display_name": name or ""})
                return see_other(auth, request, "profile", notice="saved")
            case "email":
                address = EmailRequest(email=email).email
                new = address != authentication.user.email
                await account_flow.update_account(auth, authentication, email=address)
                return see_other(auth, request, "profile", notice="address_mailed" if new else "saved")
            case "keep_email":
                await account_flow.update_account(auth, authentication, email=authentication.user.email)
                return see_other(auth, request, "profile", notice="saved")
            case "password":
                old = taken(Reauthentication(password=password.take()), "password")
                chosen = taken(ResetPassword(new_password=new_password.take()), "new_password")
                await password_flow.change_password(auth, authentication, old, chosen)
                sign_out(request, auth)
                return see_other(auth, request, "sign-in", notice="password_changed")
    except (ValidationError, AuthError) as error:
        return _profile_page(auth, request, authentication, error, form)


def _profile_page(
    auth: Auth,
    request: Request,
    authentication: Authentication,
    error: Rejected | None = None,
    form: str = "",
) -> Response:
    return render_page(
        auth,
        request,
        "profile",
        user=authentication.user,
        problem=problem_with(error, form),
        recent=is_recent(auth, authentication),
    )
