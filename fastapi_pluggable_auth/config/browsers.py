"""Browsers."""

from __future__ import annotations

from pydantic import Field

from .base import Settings
from .urls import AnyOrigin, Place, WebOrigin
from .values import CommaSeparated


class BrowserSettings(Settings):
    """Browsers."""

    cookies: bool = Field(
        default=False, description="Give browsers their tokens in cookies instead of in the body."
    )
    trusted_origins: CommaSeparated[WebOrigin] = Field(
        default=[],
        description="Other origins of the same site, by commas, whose pages may use the cookies.",
    )
    token_origins: CommaSeparated[AnyOrigin] = Field(
        default=[],
        description="Origins of apps in a web view, by commas, to which `COOKIES` still gives tokens.",
    )
    clear_site_data: bool = Field(
        default=False,
        description="Have browsers delete all that the site has stored in them when a user signs out.",
    )
    home_url: Place = Field(
        default="/",
        description="Where the pages lead on to: a path of this app, or an address. Unless set, the profile"
        " page in an app that answers nothing at `/`.",
    )
    sign_in_url: str | None = Field(
        default=None,
        description="Your own sign-in page, for `current_user_or_redirect` and mails; the built-in one when"
        " empty.",
    )
    sign_up_url: str | None = Field(
        default=None, description="Your own sign-up page, for mails; the built-in one when empty."
    )
    forgot_password_url: str | None = Field(
        default=None,
        description="Your own page to ask for a new password, for mails; the built-in one when empty.",
    )
    security_url: str | None = Field(
        default=None,
        description="Your own page for password, two-factor and sessions, for mails; the built-in one when"
        " empty.",
    )
