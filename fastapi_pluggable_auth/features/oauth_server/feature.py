"""What the OAuth server brings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from fastapi import APIRouter

from ...arguments import require_scopes
from ...auth import Auth
from ...security.names import name_set
from ..feature import Credential, Feature, Slot
from .grants import export_applications
from .models import ACCESS_ENDED, EXPIRED, OAuthClient, OAuthGrant, OAuthToken
from .names import FEATURE, OAuthError, OAuthEventKind, OAuthMail
from .settings import OAuthSettings
from .tokens import authenticate_token, is_access_token


def _routers(auth: Auth) -> Iterable[APIRouter]:
    if not auth.pages:
        raise ValueError("OAuthServer asks users on pages for their consent: include_auth(..., pages=True).")
    from . import application_pages, application_routes

    yield application_routes.router
    yield application_pages.router
    if "administration" in auth.features:
        from . import admin_routes

        yield admin_routes.router


class OAuthServer(Feature):
    """An OAuth 2.1 authorization server: users let other applications and agents use the app in their name.

    `resources` are paths of the app that tokens are for, such as `/mcp`: all that is below one belongs to it.
    `scopes` names what may be allowed, each with a sentence for users; without any, those of personal access
    tokens. Routes ask for them by `require(scope=...)`. Without `settings`, those of the environment count.

    Raises `ValueError` for a resource that is not a path, and for a scope that is not a name (RFC 6749
    section 3.3); where the app starts, without pages and without scopes.
    """

    def __init__(
        self,
        *,
        resources: Collection[str],
        scopes: Mapping[str, str] | None = None,
        settings: OAuthSettings | None = None,
    ) -> None:
        require_scopes(scopes or {})
        name_set(scopes or {})
        super().__init__(
            name=FEATURE,
            settings=settings or OAuthSettings,
            errors=OAuthError,
            events=OAuthEventKind,
            mails=OAuthMail,
            tables=(OAuthClient, OAuthGrant, OAuthToken),
            expired=EXPIRED,
            access_ended=(ACCESS_ENDED,),
            scopes=dict(scopes or {}),
            options=tuple(resources),
            credentials=(Credential(matches=is_access_token, authenticate=authenticate_token),),
            rates={"oauth_authorize": "60/minute", "oauth_token": "120/minute"},
            export={"applications": export_applications},
            routers=_routers,
            slots=(Slot(place="navigation", template="applications_navigation.html"),),
            templates=Path(__file__).parent / "templates",
            words=Path(__file__).parent / "words",
        )
