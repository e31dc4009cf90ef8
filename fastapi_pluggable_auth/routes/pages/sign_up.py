"""Creating an account."""

from __future__ import annotations

from fastapi import Depends, Request, Response
from pydantic import ValidationError

from ...cookies import bind_signup, check_form, new_signup_binding
from ...dependencies import CurrentAuth, rate_limited
from ...errors import AuthError
from ...flows import signup as signup_flow
from ...schemas import EmailRequest, ResetPassword, UsernameRequest, taken
from ..router import AuthRouter
from .forms import Typed, TypedSecret, problem_with
from .rendering import render_page, see_other
from .route import PageRoute

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


@router.get("/sign-up")
async def sign_up_page(auth: CurrentAuth, request: Request) -> Response:
    """The form."""
    return render_page(auth, request, "sign_up", email="", username="")


@router.post("/sign-up", dependencies=[Depends(check_form), rate_limited("signup")])
async def sign_up_form(
    auth: CurrentAuth,
    request: Request,
    new_password: TypedSecret,
    email: Typed = "",
    username: Typed = "",
) -> Response:
    """Creates the account; the link is in the mail."""
    language, binding = request.headers.get("accept-language", ""), new_signup_binding(request, auth)
    try:
        address = EmailRequest(email=email).email
        columns = UsernameRequest(username=username).model_dump() if auth.has_usernames else {}
        password = taken(ResetPassword(new_password=new_password.take()), "new_password")
        await signup_flow.signup(auth, address, password, language, columns, binding)
    except (ValidationError, AuthError) as error:
        problem = problem_with(error)
        return render_page(auth, request, "sign_up", problem=problem, email=email, username=username)
    response = see_other(auth, request, "sign-in", notice="signed_up")
    bind_signup(response, auth, binding)
    return response
