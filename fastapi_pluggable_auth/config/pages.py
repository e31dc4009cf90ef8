"""Pages."""

from __future__ import annotations

from pydantic import Field

from .base import Settings
from .urls import PageAddress


class PageSettings(Settings):
    """How the pages look, and what they link to."""

    page_logo_url: PageAddress | None = Field(
        default=None,
        description="Picture above every page instead of the app's name: a path of this host, or https.",
    )
    page_favicon_url: PageAddress | None = Field(
        default=None, description="Icon of the pages in the browser's tabs: a path of this host, or https."
    )
    terms_url: PageAddress | None = Field(
        default=None, description="Your terms of use, which the pages link to, sign-up above all."
    )
    privacy_url: PageAddress | None = Field(
        default=None, description="Your privacy policy, which the pages link to, sign-up above all."
    )
