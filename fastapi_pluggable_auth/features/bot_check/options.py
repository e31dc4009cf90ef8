"""What an app has chosen for its bot check."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from ...auth import Auth
from .names import NAME
from .services import SiteVerify, Widget
from .settings import BotCheckSettings

Check: TypeAlias = Callable[[str, str, str], "bool | Awaitable[bool]"]
"""A function of the app: of the token, the action and the client's address, True for a human."""


class BotCheckOptions(NamedTuple):
    """Who says whether it is a human, what the pages show, and when nobody is asked."""

    check: SiteVerify | Check
    widget: Widget | None
    login_after: int
    open_when_down: frozenset[str]


class Keys(NamedTuple):
    """Those of a service."""

    site_key: str
    secret_key: str
    are_for_tests: bool


def options_of(auth: Auth) -> BotCheckOptions:
    """Those of the app."""
    found: BotCheckOptions = auth.features.options_of(NAME)
    return found


def keys_of(auth: Auth, service: SiteVerify) -> Keys:
    """Those of the app. Raises `ValueError` where one is missing, or where those for tests are in an app for
    others."""
    settings, name = auth.features.settings_of(BotCheckSettings), service.name
    site_key = service.site_key or getattr(settings, f"{name}_site_key", None) or ""
    secret_key = service.secret_key or getattr(settings, f"{name}_secret_key", None)
    if not secret_key:
        raise ValueError(
            f"AUTH_{name.upper()}_SECRET_KEY is not set: {type(service).__name__} gives you one."
        )
    if not site_key and auth.pages:
        raise ValueError(f"AUTH_{name.upper()}_SITE_KEY is not set: the pages need it for their widget.")
    are_for_tests = secret_key in service.test_secrets
    if are_for_tests and not auth.settings.is_local:
        raise ValueError(
            f"AUTH_{name.upper()}_SECRET_KEY is one for tests, with which everyone passes: take your own."
        )
    return Keys(site_key, secret_key, are_for_tests)
