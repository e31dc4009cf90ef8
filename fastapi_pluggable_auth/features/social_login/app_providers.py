"""The providers of an app: which there are, and what they know the app by."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from ...auth import Auth
from ...errors import AuthError
from .names import SocialError
from .providers import Provider
from .settings import SocialSettings


def providers_of(auth: Auth) -> Mapping[str, Provider]:
    """The providers of the app, by their names."""
    found: Mapping[str, Provider] = auth.features.options_of("social_login")
    return found


def provider_named(auth: Auth, name: str) -> Provider:
    """Raises `AuthError(PROVIDER_UNKNOWN)`."""
    found = providers_of(auth).get(name)
    if found is None:
        raise AuthError(SocialError.PROVIDER_UNKNOWN)
    return found


def label_of(auth: Auth, name: str) -> str:
    """What people call a provider, also one that the app has no more."""
    found = providers_of(auth).get(name)
    return name.capitalize() if found is None else found.label


def credentials_of(auth: Auth, provider: Provider) -> tuple[str, str | None]:
    """The client id, and the secret where there is one. Raises `ValueError` where the app has no client
    id."""
    settings, name = auth.features.settings_of(SocialSettings), provider.name.replace("-", "_")
    client_id = provider.client_id or getattr(settings, f"{name}_client_id", None)
    if not client_id:
        raise ValueError(f"AUTH_{name.upper()}_CLIENT_ID is not set: {provider.label} gives you one.")
    if provider.make_secret is not None:
        return client_id, provider.make_secret(client_id, auth.clock().timestamp())
    return client_id, provider.client_secret or getattr(settings, f"{name}_client_secret", None)


def redirect_uri(auth: Auth, provider: Provider) -> str:
    """Where it sends browsers back to. Each provider has its own, so that the answer of one cannot be taken
    for that of another."""
    return auth.settings.public_url(f"auth/social/{quote(provider.name)}/callback")
