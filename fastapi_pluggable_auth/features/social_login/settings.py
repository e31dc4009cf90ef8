"""The settings of social login: the credentials of each provider, by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, create_model

from ...config import Settings
from ...config.urls import Place
from .providers import Provider


class SocialSettings(Settings):
    """Social login."""

    social_return_url: Place | None = Field(
        default=None,
        description="Page of a front-end that gets the one-time code, for `POST /auth/social/exchange`.",
    )


def settings_for(providers: Iterable[Provider]) -> type[SocialSettings]:
    """With AUTH_<NAME>_CLIENT_ID and AUTH_<NAME>_CLIENT_SECRET for each."""
    fields: dict[str, Any] = {}
    for provider in providers:
        name = provider.name.replace("-", "_")
        about = f"What {provider.label} knows the app by."
        fields[f"{name}_client_id"] = (str | None, Field(default=None, description=about))
        fields[f"{name}_client_secret"] = (
            str | None,
            Field(default=None, repr=False, description="Its secret."),
        )
    return create_model("SocialLoginSettings", __base__=SocialSettings, __module__=__name__, **fields)
