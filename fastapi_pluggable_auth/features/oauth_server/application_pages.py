"""The page of the connected applications."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Form, Request, Response
from pydantic import BaseModel

from ...auth import Auth
from ...dependencies import CurrentAuth, CurrentAuthentication
from ...errors import AuthError
from ...flows.authentication import Authentication
from ...routes.ids import id_from
from ...routes.pages.forms import Problem, problem_with
from ...routes.pages.rendering import render_page, see_other
from ...routes.pages.route import PageRoute, back_to
from ...routes.router import AuthRouter
from ...schemas import Text
from . import grants
from .names import OAuthError
from .openid import all_scopes_of, sentences, words_of

PAGE: Final = "security/applications"

router = AuthRouter(
    prefix=f"/account/{PAGE}", tags=["account pages"], route_class=PageRoute, include_in_schema=False
)


class RemoveForm(BaseModel):
    """The application to remove, which the pressed button names."""

    application: Text = ""


@router.get("")
async def applications_page(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication
) -> Response:
    """The applications, with what each may do."""
    return await _page(auth, request, authentication)


router.get("/remove", name="back_from_application_remove")(back_to(PAGE))


@router.post("/remove")
async def remove_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[RemoveForm, Form()],
) -> Response:
    """Ends all access of an application."""
    try:
        await grants.remove_application(
            auth, authentication, id_from(form.application, OAuthError.APPLICATION_NOT_FOUND)
        )
    except AuthError as error:
        return await _page(auth, request, authentication, problem_with(error))
    return see_other(auth, request, PAGE, notice="application_removed")


async def _page(
    auth: Auth, request: Request, authentication: Authentication, problem: Problem | None = None
) -> Response:
    user = authentication.user
    words = words_of(auth, user, request.headers.get("accept-language", ""))
    return render_page(
        auth,
        request,
        "applications",
        user=user,
        problem=problem,
        applications=[grants.shown(each) for each in await grants.applications_of(auth, user.id)],
        scopes=sentences(auth, all_scopes_of(auth), words),
    )
