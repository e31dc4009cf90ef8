"""Inviting people from the account pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Form, Request, Response
from pydantic import BaseModel, Field, ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...errors import AuthError
from ...flows.acting import covers
from ...models import AbstractUser
from ...routes.pages.forms import Rejected, problem_with
from ...routes.pages.rendering import render_page, see_other
from ...routes.pages.route import PageRoute
from ...routes.router import AuthRouter
from ...schemas import Text
from . import flows
from .routes import Writer, in_person
from .schemas import InvitationRequest

router = AuthRouter(
    prefix="/account",
    tags=["account pages"],
    route_class=PageRoute,
    include_in_schema=False,
    dependencies=[Depends(in_person)],
)


class InviteForm(BaseModel):
    """Whom to invite; `roles` are the boxes that are ticked."""

    email: Text = ""
    username: Text = ""
    roles: list[Text] = Field(default_factory=list)


@router.get("/invite")
async def invite_page(auth: CurrentAuth, request: Request, administrator: Writer) -> Response:
    """The form."""
    return _page(auth, request, administrator, InviteForm())


@router.post("/invite", name="send_invitation")
async def invite_form(
    auth: CurrentAuth, request: Request, administrator: Writer, form: Annotated[InviteForm, Form()]
) -> Response:
    """Mails the invitation."""
    roles = [role for role in form.roles if role in _offered(auth, administrator)]
    username = {"username": form.username} if auth.has_usernames else {}
    try:
        body = InvitationRequest.model_validate({"email": form.email, **username})
        await flows.invite(auth, administrator, body.email, roles=roles, columns=username)
    except (ValidationError, AuthError) as error:
        return _page(auth, request, administrator, form, error)
    return see_other(auth, request, "invite", notice="invited")


def _offered(auth: Auth, administrator: AbstractUser) -> list[str]:
    """The roles that the app names and this administrator may give."""
    return [role for role in auth.roles if covers(auth, administrator, (role,), ())]


def _page(
    auth: Auth,
    request: Request,
    administrator: AbstractUser,
    form: InviteForm,
    error: Rejected | None = None,
) -> Response:
    return render_page(
        auth,
        request,
        "invite_people",
        user=administrator,
        problem=problem_with(error),
        email=form.email,
        username=form.username,
        roles=_offered(auth, administrator),
        ticked=form.roles,
    )
