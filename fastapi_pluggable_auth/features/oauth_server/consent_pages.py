"""The pages of an authorization: consent, the way on, and the refusal of a request."""

from __future__ import annotations

from fastapi import Request, Response

from ...auth import Auth
from ...errors import AuthError
from ...flows.authentication import Authentication
from .authorizing import Consent


def show_consent(auth: Auth, request: Request, authentication: Authentication, consent: Consent) -> Response:
    """The page that asks the user: a form posts `request` (the value), `csrf_token` and `decision`, which is
    `allow` or `deny`, to `/oauth/authorize`."""
    raise NotImplementedError


def lead_on(auth: Auth, request: Request, location: str) -> Response:
    """A page that leads to the client without a script: `form-action 'self'` blocks the redirect of a form in
    Chromium."""
    raise NotImplementedError


def show_refusal(auth: Auth, request: Request, error: AuthError) -> Response:
    """The page for a request that must not be redirected."""
    raise NotImplementedError
