"""Name, e-mail address and password of whoever is signed in."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import Form, Request, Response
from pydantic import ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth, CurrentAuthentication
from ...errors import AuthError
from ...flows import account as account_flow
from ...flows import password as password_flow
from ...flows.authentication import Authentication, is_recent
from ...http.cookies import sign_out
from ...http.rates import count_by_client
from ...schemas import EmailRequest, ProfileUpdate, Reauthentication, ResetPassword, SetPassword, taken
from ...security.hashing import is_usable
from ..bodies import columns_of, own_body
from ..router import AuthRouter
from .faults import UnfilledError
from .forms import Problem, Typed, TypedSecret, problem_with, problem_with_fields
from .own_fields import OwnField, filled, own_fields, shown_in, typed_in
from .rendering import render_page, see_other
from .route import PageRoute

PASSWORDS: Final = ("password", "set_password")

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


@router.get("/profile")
async def profile_page(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication
) -> Response:
    """The forms."""
    return await _profile_page(auth, request, authentication)


@router.post("/profile")
async def profile_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[Literal["name", "email", "keep_email", "password", "set_password"], Form()],
    password: TypedSecret,
    new_password: TypedSecret,
    display_name: Typed = "",
    email: Typed = "",
) -> Response:
    """Sets the name, mails a link to a new address or takes that back, or sets a new or first password,
    which ends every session."""
    await count_by_client(request, auth, "change_password" if form in PASSWORDS else "update_account")
    try:
        match form:
            case "name":
                await _save(auth, request, authentication, display_name)
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
            case "set_password":
                chosen = taken(SetPassword(new_password=new_password.take()), "new_password")
                await password_flow.set_password(auth, authentication, chosen)
                sign_out(request, auth)
                return see_other(auth, request, "sign-in", notice="password_changed")
    except UnfilledError as error:
        return await _profile_page(auth, request, authentication, problem_with_fields(error, form))
    except (ValidationError, AuthError) as error:
        return await _profile_page(auth, request, authentication, problem_with(error, form))


async def _save(auth: Auth, request: Request, authentication: Authentication, display_name: str) -> None:
    body, fields = _body_of(auth)
    typed = typed_in(fields, await request.form())
    changes = filled(body, fields, typed, {"display_name": display_name})
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
    typed = {"display_name": user.display_name or "", **shown_in(fields, user)}
    if problem is not None and problem.form == "name":
        form = await request.form()
        typed |= {**typed_in(fields, form), "display_name": str(form.get("display_name", ""))}
    return render_page(
        auth,
        request,
        "profile",
        user=user,
        problem=problem,
        own_fields=fields,
        typed=typed,
        recent=is_recent(auth, authentication),
        has_password=is_usable(user.hashed_password),
    )
