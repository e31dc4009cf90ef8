"""Every setting of the library. Nothing is read from the environment by importing this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .auth_settings import AuthSettings
from .base import PREFIX, Settings
from .limits import RECOMMENDED_RATES
from .tokens import DEFAULT_SECRET
from .urls import LOOPBACK_HOSTS, is_local, origin_of
from .values import LANGUAGE, MINIMUM_SECRET_BYTES

__all__ = [
    "DEFAULT_SECRET",
    "LANGUAGE",
    "LOOPBACK_HOSTS",
    "MINIMUM_SECRET_BYTES",
    "PREFIX",
    "RECOMMENDED_RATES",
    "AuthSettings",
    "Settings",
    "is_local",
    "origin_of",
    "settings",
]

settings: AuthSettings
"""The default instance, used wherever no other settings are passed. It is made when it is first named."""

if not TYPE_CHECKING:  # where a misspelt name is an error

    def __getattr__(name: str) -> AuthSettings:
        if name != "settings":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # One object for good, also where two threads come first.
        return globals().setdefault("settings", AuthSettings())
