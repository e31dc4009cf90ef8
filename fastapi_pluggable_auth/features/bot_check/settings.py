"""The settings of the bot check: the keys of its service, by its name."""

from __future__ import annotations

from typing import Any

from pydantic import Field, create_model

from ...config import Settings
from .services import SiteVerify


class BotCheckSettings(Settings):
    """The bot check."""


def settings_for(service: SiteVerify) -> type[BotCheckSettings]:
    """With AUTH_<NAME>_SITE_KEY and AUTH_<NAME>_SECRET_KEY."""
    kind = type(service).__name__
    fields: dict[str, Any] = {
        f"{service.name}_site_key": (
            str | None,
            Field(default=None, description=f"Key of the {kind} widget in pages; it is public."),
        ),
        f"{service.name}_secret_key": (
            str | None,
            Field(default=None, repr=False, description=f"Secret with which {kind} is asked about tokens."),
        ),
    }
    made: type[BotCheckSettings] = create_model(
        f"{kind}Settings", __base__=BotCheckSettings, __module__=__name__, **fields
    )
    return made
