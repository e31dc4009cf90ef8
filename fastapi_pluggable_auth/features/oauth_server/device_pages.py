"""The page where users type the code of a device, and let it in (RFC 8628 section 3.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final

from fastapi import Form, Request, Response
from pydantic import BaseModel

from ...auth import Auth
from ...dependencies import CurrentAuth, CurrentAuthentication
from ...errors import AuthError
from ...flows.authentication import Authentication
from ...models import AbstractUser
from ...routes.ids import id_from
from ...routes.pages.forms import Problem, Secret, problem_with
from ...routes.pages.rendering import render_page, see_other
from ...routes.pages.route import PageRoute, back_to
from ...routes.router import AuthRouter
from ...schemas import Text
from .clients import client_host
from .devices import Waiting, decide, shown_code, verify
from .models import OPERATOR
from .names import OAuthError
from .openid import sentences, words_of

PAGE: Final = "device"

router = AuthRouter(
    prefix=f"/account/{PAGE}", tags=["account pages"], route_class=PageRoute, include_in_schema=False
)


class UserCodeForm(BaseModel):
    """The code that a device shows."""

    user_code: Secret


class DecisionForm(BaseModel):
    """What the user has decided about a device."""

    device: Text = ""
    decision: Text = ""


@router.get("")
async def device_page(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication, user_code: Text = ""
) -> Response:
    """Asks for the code. One in the address fills the field in, and does nothing more (RFC 8628 section
    5.4)."""
    return _page(auth, request, authentication.user, shown_code(user_code))


@router.post("")
async def user_code_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[UserCodeForm, Form()],
) -> Response:
    """Shows what the device asks for."""
    try:
        waiting = await verify(auth, authentication, form.user_code)
    except AuthError as error:
        problem = problem_with(error)
        return _page(
            auth, request, authentication.user, problem=problem and replace(problem, field="user_code")
        )
    return _ask(auth, request, authentication, waiting)


router.get("/decide", name="back_from_device_decide")(back_to(PAGE))


@router.post("/decide")
async def device_decision_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[DecisionForm, Form()],
) -> Response:
    """Lets the device in, or does not."""
    try:
        device_id = id_from(form.device, OAuthError.OAUTH_REQUEST_EXPIRED)
        allowed = await decide(auth, authentication, device_id, allowed=form.decision == "allow")
    except AuthError as error:
        return _page(auth, request, authentication.user, problem=problem_with(error))
    return see_other(auth, request, PAGE, notice="device_allowed" if allowed else "device_denied")


def _page(
    auth: Auth,
    request: Request,
    user: AbstractUser,
    user_code: str = "",
    problem: Problem | None = None,
) -> Response:
    return render_page(auth, request, "oauth_device", user=user, user_code=user_code, problem=problem)


def _ask(auth: Auth, request: Request, authentication: Authentication, waiting: Waiting) -> Response:
    """The page that asks the user: a form posts `device` (its id), `csrf_token` and `decision`, which is
    `allow` or `deny`. Another account has to begin anew: this one has the device."""
    client, user = waiting.client, authentication.user
    words = words_of(auth, user, request.headers.get("accept-language", ""))
    return render_page(
        auth,
        request,
        "oauth_device_consent",
        user=user,
        client=client.name,
        client_host=client_host(client),
        known=client.origin == OPERATOR,
        sentences=[*sentences(auth, waiting.device.scopes, words).values()],
        user_code=waiting.user_code,
        device=waiting.device.id,
    )
