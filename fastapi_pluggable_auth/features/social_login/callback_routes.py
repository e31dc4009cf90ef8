"""Where a browser goes on from a sign-in elsewhere: where it was begun, or to the page of a front-end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from ...auth import Auth
from ...errors import AuthError, ErrorCode
from ...http.addresses import account_path, wanted, with_query
from ...http.browsers import is_browser
from ...http.route import AuthRoute
from ...lookup import auth_of
from ...security.cookies import Cookies, received_cookies
from .names import SocialError
from .settings import SocialSettings
from .states import Purpose, State, cookie_of, opened

# The pages of the library are imported where they are used: an app may have none.

SIGNED_OUT: Final = frozenset({ErrorCode.NOT_AUTHENTICATED, ErrorCode.INVALID_TOKEN})


class CallbackRoute(AuthRoute):
    """Where a browser comes back to: whatever goes wrong, it gets a page with a way on."""

    def refusal(self, request: Request, error: AuthError) -> Response:
        """The sign-in page that says so, or that of the front-end; JSON for what is not a browser."""
        auth = auth_of(request)
        if not is_browser(request):
            return super().refusal(request, error)
        if auth.pages:
            return refused(auth, request, error)
        if auth.features.settings_of(SocialSettings).social_return_url is not None:
            return to_front_end(auth, error=error.code.code)
        return super().refusal(request, error)

    def invalid(self, request: Request, errors: Sequence[Any]) -> Response:
        """What no provider sends."""
        return self.refusal(request, AuthError(SocialError.SOCIAL_REFUSED))


def begun_by(auth: Auth, request: Request, provider: str, value: str) -> State:
    """What this browser has begun with this state. Raises `AuthError(SOCIAL_EXPIRED)`."""
    names = Cookies(secure=auth.settings.is_https)
    values = received_cookies(request.scope["headers"]).get(names.of_feature(cookie_of(value)), [])
    return opened(auth, provider, value, values[0] if len(values) == 1 else None)


def to_front_end(auth: Auth, **said: str | None) -> Response:
    """The page of the front-end, which is to read this in its address."""
    url = auth.features.settings_of(SocialSettings).social_return_url or auth.settings.home_url
    headers = {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
    return RedirectResponse(with_query(url, **said), 303, headers)


def refused(auth: Auth, request: Request, error: AuthError) -> Response:
    """The page of the library for what was refused on the way to a provider or back from it."""
    from ...routes.pages.sign_in import show_sign_in

    try:
        asked = request.query_params
        state = begun_by(auth, request, request.path_params.get("provider", ""), asked.get("state", ""))
    except AuthError:
        state = None
    if state is None:
        return show_sign_in(auth, request, wanted(request), error=error)
    if state.purpose != "sign_in":
        return refused_there(auth, request, error, state.next, state.purpose)
    if state.challenge is not None and auth.features.settings_of(SocialSettings).social_return_url:
        return to_front_end(auth, error=error.code.code, next=state.next)
    return show_sign_in(auth, request, state.next, error=error)


def lead_on(auth: Auth, request: Request, state: State, notice: str) -> Response:
    """Leads on, with a notice where the next page is one of the library."""
    from ...routes.pages.rendering import see_other

    page = state.next or section(auth, request)
    ours = page.startswith(account_path(request, auth, ""))
    return see_other(auth, request, page, notice=notice if ours else None)


def refused_there(
    auth: Auth, request: Request, error: AuthError, next: str | None, purpose: Purpose
) -> Response:
    """The page where somebody who is signed in goes on. By another address, as the browser sends its cookies
    there."""
    from ...routes.pages.rendering import go_to, see_other

    code = error.code
    if code in SIGNED_OUT:
        return see_other(auth, request, "sign-in", next=section(auth, request))
    if code is ErrorCode.REAUTHENTICATION_REQUIRED:
        return see_other(auth, request, "confirm-password", next=section(auth, request, next))
    page = "security/identities" if purpose == "link" else "security/identities/unconfirmed"
    return go_to(with_query(account_path(request, auth, page), refused=code.code, next=next))


def section(auth: Auth, request: Request, next: str | None = None) -> str:
    """The section of the security page."""
    return f"{with_query(account_path(request, auth, 'security'), next=next)}#identities"
