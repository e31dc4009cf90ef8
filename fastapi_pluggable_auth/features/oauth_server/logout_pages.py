"""Where an app sends a user whom it wants signed out here too; the user decides, as anybody may do so."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request, Response
from pydantic import BaseModel

from ...auth import Auth
from ...dependencies import CurrentAuth
from ...flows import sessions as sessions_flow
from ...flows.authentication import Authentication
from ...http.addresses import own_path, with_query
from ...http.cookies import sign_out
from ...http.csrf import FORM_FIELD, check_form
from ...models import AbstractUser
from ...routes.pages.rendering import go_to, render_page, see_other
from ...routes.pages.route import PageRoute
from ...routes.pages.sign_in import current_visitor
from ...routes.router import AuthRouter
from ...schemas import Text
from .clients import client_host, is_trusted
from .consent_pages import lead_on
from .end_session import Logout, read_logout
from .redirects import shown_host

PATH = "oauth/logout"

router = AuthRouter(prefix=f"/{PATH}", tags=["oauth"], route_class=PageRoute, include_in_schema=False)


class LogoutForm(BaseModel):
    """What a client asks for, by a form of its own or by the one of the page."""

    id_token_hint: Text = ""
    client_id: Text = ""
    post_logout_redirect_uri: Text = ""
    state: Text = ""


@router.get("", name="oauth_logout")
async def logout_page(auth: CurrentAuth, request: Request) -> Response:
    """Asks the user, or leads on one who is not signed in."""
    visitor = await current_visitor(auth, request)
    asked = await read_logout(auth, request.query_params.multi_items(), _user(visitor))
    if visitor is None and asked.location is not None and asked.client is not None:
        return lead_on(auth, request, asked.location, automatic=is_trusted(auth, asked.client))
    return _show(auth, request, visitor, asked)


@router.post("", name="oauth_logout_form")
async def logout_form(auth: CurrentAuth, request: Request, form: Annotated[LogoutForm, Form()]) -> Response:
    """Ends this session, where the form is the one of the page; that of a client leads to the page."""
    if FORM_FIELD not in await request.form():
        return go_to(with_query(own_path(request, auth, PATH), **form.model_dump()))
    await check_form(request)
    visitor = await current_visitor(auth, request)
    asked = await read_logout(auth, [*form.model_dump().items()], _user(visitor))
    if visitor is not None:
        await sessions_flow.logout(auth, visitor, everywhere=False)
    sign_out(request, auth)
    if asked.location is None:
        return see_other(auth, request, "sign-in", notice="signed_out")
    return lead_on(auth, request, asked.location)


def _user(visitor: Authentication | None) -> AbstractUser | None:
    return None if visitor is None else visitor.user


def _show(auth: Auth, request: Request, visitor: Authentication | None, asked: Logout) -> Response:
    """The page: a form posts `client_id`, `post_logout_redirect_uri`, `state` and `csrf_token` to
    `/oauth/logout`."""
    client = asked.client
    return render_page(
        auth,
        request,
        "oauth_logout",
        user=_user(visitor),
        client=None if client is None else client.name,
        client_host=None if client is None else client_host(client),
        client_id="" if client is None else client.client_id,
        redirect_host=None if asked.location is None else shown_host(asked.location),
        redirect_uri=asked.redirect_uri,
        state=asked.state,
        detail=f"The request of the application: {asked.problem}." if asked.problem else "",
    )
