"""What a provider knows the app by."""

from __future__ import annotations

from ...auth import Auth
from .providers import Provider
from .settings import SocialSettings


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
