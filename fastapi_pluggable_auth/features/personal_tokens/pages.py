"""The page of the personal access tokens: made, shown once, and revoked."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from fastapi import Form, Request, Response
from pydantic import BaseModel, ValidationError

from ...auth import Auth
from ...dependencies import CurrentAuth, CurrentAuthentication
from ...errors import AuthError
from ...flows.authentication import Authentication, is_recent
from ...routes.ids import id_from
from ...routes.pages.faults import Fault, UnfilledError, faults_of
from ...routes.pages.forms import Problem, problem_with, problem_with_fields
from ...routes.pages.rendering import render_page, see_other
from ...routes.pages.route import PageRoute, back_to
from ...routes.router import AuthRouter
from ...schemas import Text
from . import flows
from .flows import PersonalTokenError
from .schemas import PersonalTokenCreate

DAY: Final = 86400
LIFETIMES: Final = (7, 30, 90, 365)
"""In days, those that the page offers where the app allows them."""

router = AuthRouter(
    prefix="/account/security/tokens",
    tags=["account pages"],
    route_class=PageRoute,
    include_in_schema=False,
)


class TokenForm(BaseModel):
    """A token to make; `days` is its lifetime, 0 for no end."""

    name: Text = ""
    scopes: list[Text] = []
    days: Text = ""


class RevokeForm(BaseModel):
    """The token to revoke, which the pressed button names."""

    token: Text = ""


@router.get("")
async def tokens_page(auth: CurrentAuth, request: Request, authentication: CurrentAuthentication) -> Response:
    """The tokens, and the form for another one."""
    return await _page(auth, request, authentication, TokenForm())


for path in ("create", "revoke"):
    router.get(f"/{path}", name=f"back_from_token_{path}")(back_to("security/tokens"))


@router.post("/create")
async def create_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[TokenForm, Form()],
) -> Response:
    """Makes a token, and shows it: no other answer does."""
    seconds = int(form.days) * DAY if form.days.isdecimal() and len(form.days) < 6 else None
    try:
        body = PersonalTokenCreate(name=form.name, scopes=form.scopes, expires_in=seconds)
        lifetime = None if seconds is None else timedelta(seconds=seconds)
        made = await flows.create_token(auth, authentication, body.name, body.scopes, lifetime)
    except ValidationError as error:
        faults = faults_of(error, {})
        if "scopes" in faults:
            faults["scopes"] = Fault("choice")
        problem = problem_with_fields(UnfilledError(faults), "create")
        return await _page(auth, request, authentication, form, problem)
    except AuthError as error:
        return await _page(auth, request, authentication, form, problem_with(error, "create"))
    user = authentication.user
    return render_page(
        auth, request, "new_token", user=user, token=flows.shown(made.token), secret=made.secret
    )


@router.post("/revoke")
async def revoke_form(
    auth: CurrentAuth,
    request: Request,
    authentication: CurrentAuthentication,
    form: Annotated[RevokeForm, Form()],
) -> Response:
    """Ends a token."""
    try:
        await flows.revoke_token(
            auth, authentication, id_from(form.token, PersonalTokenError.TOKEN_NOT_FOUND)
        )
    except AuthError as error:
        return await _page(auth, request, authentication, TokenForm(), problem_with(error, "revoke"))
    return see_other(auth, request, "security/tokens", notice="token_revoked")


async def _page(
    auth: Auth,
    request: Request,
    authentication: Authentication,
    entered: TokenForm,
    problem: Problem | None = None,
) -> Response:
    user = authentication.user
    tokens = [flows.shown(token) for token in await flows.list_tokens(auth, user.id)]
    usual = auth.settings.personal_token_expires.days
    return render_page(
        auth,
        request,
        "tokens",
        user=user,
        problem=problem,
        tokens=tokens,
        scopes=auth.features.scopes_of("personal_tokens"),
        lifetimes=_lifetimes(auth),
        entered=entered,
        days=entered.days or str(usual),
        recent=is_recent(auth, authentication),
    )


def _lifetimes(auth: Auth) -> list[int]:
    """The days that can be chosen, 0 where a token may have no end."""
    longest = auth.settings.personal_token_max_age
    offered = {*LIFETIMES, auth.settings.personal_token_expires.days, longest.days} - {0}
    allowed = sorted(days for days in offered if not longest or timedelta(days=days) <= longest)
    return allowed if longest else [*allowed, 0]
