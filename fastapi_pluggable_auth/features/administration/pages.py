"""Inviting people from the account pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Form, Request, Response
from pydantic import BaseModel, Field

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...errors import AuthError
from ...flows.acting import covers
from ...models import AbstractUser
from ...routes.bodies import own_body
from ...routes.body_checks import is_not_stored
from ...routes.pages.faults import UnfilledError
from ...routes.pages.forms import Problem, problem_with, problem_with_fields
from ...routes.pages.own_fields import OwnField, entered_in, filled, own_fields
from ...routes.pages.rendering import render_page, see_other
from ...routes.pages.route import PageRoute
from ...routes.router import AuthRouter
from ...schemas import Text, UserCreate
from . import flows
from .routes import Writer, in_person, invited_columns
from .schemas import InvitationRequest

router = AuthRouter(
    prefix="/account",
    tags=["account pages"],
    route_class=PageRoute,
    include_in_schema=False,
    dependencies=[Depends(in_person)],
)


class InviteForm(BaseModel):
    """Whom to invite, beside the fields that the app adds; `roles` are the boxes that are ticked."""

    email: Text = ""
    roles: list[Text] = Field(default_factory=list)


@router.get("/invite")
async def invite_page(auth: CurrentAuth, request: Request, administrator: Writer) -> Response:
    """The form."""
    entered = {field.name: field.default or "" for field in _fields(auth)}
    return _page(auth, request, administrator, InviteForm(), entered)


@router.post("/invite", name="send_invitation")
async def invite_form(
    auth: CurrentAuth, request: Request, administrator: Writer, form: Annotated[InviteForm, Form()]
) -> Response:
    """Mails the invitation."""
    roles = [role for role in form.roles if role in _offered(auth, administrator)]
    fields = _fields(auth)
    entered = entered_in(fields, await request.form())
    try:
        body = filled(own_body(InvitationRequest, auth.bodies), fields, entered, {"email": form.email})
        await flows.invite(auth, administrator, body.email, roles=roles, columns=invited_columns(body))
    except UnfilledError as error:
        return _page(auth, request, administrator, form, entered, problem_with_fields(error))
    except AuthError as error:
        return _page(auth, request, administrator, form, entered, problem_with(error))
    return see_other(auth, request, "invite", notice="invited")


def _offered(auth: Auth, administrator: AbstractUser) -> list[str]:
    """The roles that the app names and this administrator may give."""
    return [role for role in auth.roles if covers(auth, administrator, (role,), ())]


def _fields(auth: Auth) -> tuple[OwnField, ...]:
    """Those of a signup that are stored."""
    body: type[UserCreate] = own_body(UserCreate, auth.bodies)
    fields = own_fields(body, auth.tables.user)
    return tuple(field for field in fields if not is_not_stored(body.model_fields[field.name]))


def _page(
    auth: Auth,
    request: Request,
    administrator: AbstractUser,
    form: InviteForm,
    entered: dict[str, str],
    problem: Problem | None = None,
) -> Response:
    return render_page(
        auth,
        request,
        "invite_people",
        user=administrator,
        problem=problem,
        email=form.email,
        own_fields=_fields(auth),
        entered=entered,
        roles=_offered(auth, administrator),
        ticked=form.roles,
    )
