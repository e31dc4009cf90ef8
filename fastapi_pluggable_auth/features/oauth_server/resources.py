"""What an app lets clients reach: its address as an issuer, its resources and its scopes."""

from __future__ import annotations

from collections.abc import Mapping

from ...auth import Auth
from ...config import AuthSettings
from .names import FEATURE


def issuer_of(settings: AuthSettings) -> str:
    """The issuer (RFC 8414 section 2): the public base URL without a slash at its end."""
    return settings.public_base_url.rstrip("/")


def resources_of(auth: Auth) -> dict[str, str]:
    """The absolute address of each resource (RFC 8707 section 2), by its path."""
    issuer = issuer_of(auth.settings)
    return {path: f"{issuer}{path.rstrip('/')}" for path in auth.features.options_of(FEATURE)}


def scopes_of(auth: Auth) -> Mapping[str, str]:
    """What clients may be allowed, each with a sentence for users: those of the feature, and without any
    those of personal access tokens."""
    return auth.features.scopes_of(FEATURE) or auth.features.scopes_of("personal_tokens")
