"""Deleting one's account."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request, Response
from pydantic import BaseModel

from ...dependencies import CurrentAuth, CurrentAuthentication
from ...flows import account as account_flow
from ...flows.authentication import require_recent_login
from ...http.cookies import sign_out
from ...schemas import Text
from ..router import AuthRouter
from .forms import Problem
from .rendering import render_page, see_other
from .route import PageRoute

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)

NOT_SURE = Problem("not_sure", "sure", "", 422, {})


class DeleteForm(BaseModel):
    """A box to tick, whose value is `yes`."""

    sure: Text = ""


@router.get("/delete")
async def delete_page(auth: CurrentAuth, request: Request, authentication: CurrentAuthentication) -> Response:
    """The form. A user who signed in long ago confirms the password first."""
    require_recent_login(auth, authentication)
    return render_page(auth, request, "delete", user=authentication.user)


@router.post("/delete")
async def delete_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[DeleteForm, Form()],
) -> Response:
    """Deletes the account, once the box is ticked."""
    if form.sure != "yes":
        return render_page(auth, request, "delete", user=authentication.user, problem=NOT_SURE)
    await account_flow.delete_account(auth, authentication)
    sign_out(request, auth)
    return see_other(auth, request, "sign-in", notice="deleted")
