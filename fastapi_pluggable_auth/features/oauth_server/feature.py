"""What the OAuth server brings."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final, cast

from fastapi import APIRouter

from ...arguments import require_scopes
from ...auth import Auth
from ...config import origin_of
from ...security.names import name_set
from ..feature import Credential, Feature, Slot
from .grants import export_applications
from .models import (
    ACCESS_ENDED,
    EXPIRED,
    OAuthClient,
    OAuthClientToken,
    OAuthDevice,
    OAuthGrant,
    OAuthToken,
)
from .names import FEATURE, OAuthError, OAuthEventKind, OAuthMail
from .openid import SCOPES, sign_in_scopes
from .resources import (
    all_resources,
    issuer_of,
    metadata_path,
    require_services,
    resource_at,
    scopes_of,
    service_problem,
)
from .settings import OAuthSettings
from .tokens import authenticate_token, is_access_token, is_allowed

_PATH: Final = re.compile(r"/|(/[A-Za-z0-9._~-]+)+")


def _routers(auth: Auth) -> Iterable[APIRouter]:
    if not auth.pages:
        raise ValueError("OAuthServer asks users on pages for their consent: include_auth(..., pages=True).")
    signs_in = bool(sign_in_scopes(auth))
    if signs_in:
        _require_sign_in(auth)
    if not all_resources(auth) and not signs_in:
        raise ValueError('OAuthServer needs resources: OAuthServer(resources=["/api"], ...).')
    if not scopes_of(auth) and not signs_in:
        raise ValueError("OAuthServer needs scopes: OAuthServer(scopes={...}), or those of PersonalTokens.")
    require_services(auth)
    from . import (
        application_pages,
        application_routes,
        authorize_pages,
        device_pages,
        device_routes,
        introspection_routes,
        metadata_routes,
        token_routes,
    )

    yield metadata_routes.metadata_router(auth)
    yield token_routes.router
    yield token_routes.preflights
    yield token_routes.revocation
    if auth.features.settings_of(OAuthSettings).oauth_registration:
        from . import register_routes

        yield register_routes.router
    yield device_routes.router
    yield introspection_routes.router
    yield authorize_pages.router
    yield device_pages.router
    if signs_in:
        from . import logout_pages, userinfo_routes

        yield userinfo_routes.router
        yield userinfo_routes.preflights
        yield logout_pages.router
    yield application_routes.router
    yield application_pages.router
    if "administration" in auth.features:
        from . import admin_routes

        yield admin_routes.router


def _require_sign_in(auth: Auth) -> None:
    """Raises `ValueError` where other apps could not check who signs in, or a scope would mean two things."""
    if auth.settings.jwt_algorithm.startswith("HS"):
        raise ValueError(
            "OAUTH_OPENID needs a key pair, whose public half other apps check ID tokens by: set "
            "AUTH_JWT_ALGORITHM to RS256 or ES256, and AUTH_JWT_PRIVATE_KEY."
        )
    if taken := sorted(scopes_of(auth).keys() & {*SCOPES}):
        raise ValueError(
            f"With OAUTH_OPENID, {taken[0]} is a scope of OpenID Connect: name yours another way."
        )


def _challenge(auth: Auth, path: str, scopes: frozenset[str]) -> dict[str, str]:
    """Where a client reads which server gives tokens, and for what (RFC 9728 section 5.1)."""
    resource = resource_at(auth, path)
    if resource is None:
        return {}
    root = origin_of(issuer_of(auth.settings))
    return {
        "resource_metadata": f"{root}{metadata_path(resource)}",
        "scope": " ".join(sorted(scopes & scopes_of(auth).keys())),
    }


class OAuthServer(Feature):
    """An OAuth 2.1 authorization server: users let other applications and agents use the app in their name.

    `resources` are paths of the app that tokens are for, such as `/mcp`: all that is below one belongs to it.
    The https address of another service is one as well, whose tokens it checks by the public keys of the app
    (RFC 9068).
    `scopes` names what may be allowed, each with a sentence for users; without any, those of personal access
    tokens. Routes ask for them by `require(scope=...)`. Neither is needed where users only sign in to other
    apps (OAUTH_OPENID). Without `settings`, those of the environment count.

    Raises `ValueError` for a resource that is neither, and for a scope that is not a name (RFC 6749 section
    3.3); where the app starts, without pages and without scopes, and with another service and no key pair.
    """

    def __init__(
        self,
        *,
        resources: Collection[str] = (),
        scopes: Mapping[str, str] | None = None,
        settings: OAuthSettings | None = None,
    ) -> None:
        _require_resources(resources)
        require_scopes(scopes or {})
        name_set(scopes or {})
        super().__init__(
            name=FEATURE,
            settings=settings or OAuthSettings,
            errors=OAuthError,
            events=OAuthEventKind,
            mails=OAuthMail,
            tables=(OAuthClient, OAuthGrant, OAuthToken, OAuthDevice, OAuthClientToken),
            expired=EXPIRED,
            access_ended=(ACCESS_ENDED,),
            scopes=dict(scopes or {}),
            options=tuple(resources),
            credentials=(
                Credential(matches=is_access_token, authenticate=authenticate_token, allows=is_allowed),
            ),
            challenge=_challenge,
            rates={
                "oauth_authorize": "60/minute",
                "oauth_token": "120/minute",
                "oauth_introspect": "1200/minute",
            },
            export={"applications": export_applications},
            routers=_routers,
            slots=(Slot(place="navigation", template="applications_navigation.html"),),
            templates=Path(__file__).parent / "templates",
            words=Path(__file__).parent / "words",
        )


def _require_resources(resources: object) -> None:
    """Raises `ValueError` for a resource that is neither a plain path nor the address of another service."""
    named = [resources] if isinstance(resources, str) else list(cast(Collection[object], resources))
    for each in named:
        if isinstance(each, str) and "://" in each:
            if (problem := service_problem(each)) is not None:
                raise ValueError(f"The resource {each!r} {problem}.")
        elif not (isinstance(each, str) and _PATH.fullmatch(each)):
            raise ValueError(f"{each!r} is not the path of a resource: write one such as /api.")
    if isinstance(resources, str):
        raise ValueError(f"resources is a text: write resources=[{resources!r}].")
