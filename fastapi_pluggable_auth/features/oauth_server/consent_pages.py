"""The pages of an authorization: consent, the way on, and the refusal of a request."""

from __future__ import annotations

from fastapi import Request, Response

from ...auth import Auth
from ...errors import AuthError
from ...flows.authentication import Authentication
from ...http.addresses import address_of
from ...models import AbstractUser
from ...routes.pages.forms import problem_of
from ...routes.pages.rendering import render_page
from .authorizing import Consent
from .clients import client_host
from .models import OPERATOR
from .openid import sentences, words_of
from .redirects import shown_host


def show_consent(auth: Auth, request: Request, authentication: Authentication, consent: Consent) -> Response:
    """The page that asks the user: a form posts `request` (the value), `csrf_token` and `decision`, which is
    `allow` or `deny`, to `/oauth/authorize`. Another one signs out, and leads back to this page."""
    client, user = consent.request.client, authentication.user
    words = words_of(auth, user, request.headers.get("accept-language", ""))
    return render_page(
        auth,
        request,
        "oauth_consent",
        user=user,
        client=client.name,
        client_host=client_host(client),
        known=client.origin == OPERATOR,
        redirect_host=consent.redirect_host,
        local=consent.local,
        sentences=[*sentences(auth, consent.request.scopes, words).values()],
        value=consent.value,
        next=address_of(request),
    )


def lead_on(
    auth: Auth,
    request: Request,
    location: str,
    user: AbstractUser | None = None,
    *,
    automatic: bool = True,
) -> Response:
    """A page that leads to the client without a script: `form-action 'self'` blocks the redirect of a form in
    Chromium. One that is not `automatic` waits for the user, who sees the host."""
    host = None if automatic else shown_host(location)
    return render_page(
        auth, request, "oauth_decided", user=user, location=location, automatic=automatic, host=host
    )


def show_refusal(auth: Auth, request: Request, error: AuthError) -> Response:
    """The page for a request that must not be redirected, with what is wrong for the makers of the client."""
    detail = error.detail if error.detail != error.code.detail else ""
    return render_page(
        auth, request, "oauth_refused", problem=problem_of(error), code=error.code.code, detail=detail
    )
