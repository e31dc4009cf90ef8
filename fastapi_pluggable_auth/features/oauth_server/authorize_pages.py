"""Where a client sends the browser of a user, and where the user decides (RFC 6749 section 3.1)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import Form, Request, Response
from pydantic import BaseModel

from ...auth import Auth
from ...dependencies import CurrentAuth, get_authentication
from ...errors import AuthError, ErrorCode
from ...flows.authentication import Authentication
from ...http.addresses import own_path
from ...http.browsers import is_browser
from ...http.csrf import FORM_FIELD, check_form
from ...http.rates import rate_limited
from ...lookup import auth_of
from ...routes.pages.forms import Secret
from ...routes.pages.rendering import go_to
from ...routes.pages.route import PageRoute
from ...routes.router import AuthRouter
from ...schemas import Text
from ...security.redirects import MAXIMUM_LENGTH
from .authorizing import (
    AuthorizationRequest,
    RedirectedError,
    ask,
    decide,
    read_request,
    refusal_of,
    remembered,
)
from .consent_pages import lead_on, show_consent, show_refusal
from .names import OAuthError
from .protocol import ProtocolError

PATH: Final = "oauth/authorize"

_BEGUN_ELSEWHERE: Final = frozenset({"cross-site", "none"})
"""What browsers say of a navigation that no form of the app has led to, which `form-action` would block."""

_JUST_NOW: Final = timedelta(seconds=30)
"""How old a login may be where a client asks for one (`prompt=login`, `max_age=0`): the one that just led
back here."""


class AuthorizeRoute(PageRoute):
    """A route whose own refusals are never sent to the client."""

    def refusal(self, request: Request, error: AuthError) -> Response:
        """The page that says so, or where to put it right."""
        if isinstance(error.code, OAuthError) and is_browser(request):
            return show_refusal(auth_of(request), request, error)
        return super().refusal(request, error)


router = AuthRouter(prefix=f"/{PATH}", tags=["oauth"], route_class=AuthorizeRoute, include_in_schema=False)


class DecisionForm(BaseModel):
    """What the user has decided."""

    request: Secret
    decision: Text = ""


@router.get("", dependencies=[rate_limited("oauth_authorize")])
async def authorize_page(auth: CurrentAuth, request: Request) -> Response:
    """Asks the user, after the sign-in page, or leads on at once."""
    try:
        asked = await read_request(auth, request.query_params.multi_items())
        authentication = await _signed_in(auth, request, asked)
        location = await remembered(auth, authentication, asked)
    except RedirectedError as error:
        if not error.silent:
            await get_authentication(request)
        return _lead(auth, request, error.location, automatic=error.trusted)
    if location is not None:
        return _lead(auth, request, location)
    return show_consent(auth, request, authentication, await ask(auth, authentication, asked))


@router.post("")
async def decision_form(
    auth: CurrentAuth, request: Request, form: Annotated[DecisionForm, Form()]
) -> Response:
    """Leads back to the client, with a code where the user allows it. The request of a client that comes as a
    form is led to the page, with the cookies that browsers do not send to a form of another site (OpenID
    Connect Core section 3.1.2.1)."""
    said = await request.form()
    if FORM_FIELD not in said and "client_id" in said:
        query = urlencode([(name, value) for name, value in said.multi_items() if isinstance(value, str)])
        if len(query) > 2 * MAXIMUM_LENGTH:
            raise AuthError(OAuthError.OAUTH_REQUEST_REFUSED)
        return go_to(f"{own_path(request, auth, PATH)}?{query}")
    authentication = await get_authentication(request)
    await check_form(request)
    location = await decide(auth, authentication, form.request, allow=form.decision == "allow")
    return lead_on(auth, request, location, authentication.user)


async def _signed_in(auth: Auth, request: Request, asked: AuthorizationRequest) -> Authentication:
    """The user, who has signed in just now where the client asks for that. Raises `AuthError`, answered by
    the page where to do so, and `RedirectedError` for `prompt=none`."""
    silent = "none" in asked.prompt
    try:
        authentication = await get_authentication(request)
    except AuthError as error:
        if silent:
            raise refusal_of(auth, asked, ProtocolError.LOGIN_REQUIRED, silent=True) from error
        raise
    if asked.hinted not in (None, str(authentication.user.id)):
        raise refusal_of(auth, asked, ProtocolError.LOGIN_REQUIRED, silent=silent)
    if auth.clock() - authentication.authenticated_at > _oldest(asked):
        if silent:
            raise refusal_of(auth, asked, ProtocolError.LOGIN_REQUIRED, silent=True)
        raise AuthError(ErrorCode.REAUTHENTICATION_REQUIRED)
    return authentication


def _oldest(asked: AuthorizationRequest) -> timedelta:
    """How old the login of the user may be (OpenID Connect Core section 3.1.2.1)."""
    if "login" in asked.prompt:
        return _JUST_NOW
    return timedelta.max if asked.max_age is None else max(asked.max_age, _JUST_NOW)


def _lead(auth: Auth, request: Request, location: str, *, automatic: bool = True) -> Response:
    """On to the client: by a redirect where nothing is in its way. A browser goes by itself only where the
    user or the operator trusts the client."""
    begun_elsewhere = request.headers.get("sec-fetch-site") in _BEGUN_ELSEWHERE
    if not is_browser(request) or (automatic and begun_elsewhere):
        return go_to(location)
    return lead_on(auth, request, location, automatic=automatic)
