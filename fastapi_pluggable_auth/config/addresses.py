"""Addresses."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field

from .base import Settings
from .urls import LinkPage, is_local


class AddressSettings(Settings):
    """Addresses."""

    public_base_url: str = Field(
        default="http://localhost:8000",
        description="Where users reach the app; every mailed link starts with it.",
    )
    allow_http: bool = Field(
        default=False,
        description="Start although `PUBLIC_BASE_URL` is public and not https. For development only.",
    )
    route_prefix: str = Field(
        default="",
        pattern=r"^(/[^/\s{}%?#\\]+)*$",  # which every path and every link has as it is
        description="Path in front of `/auth` and `/account`, such as `/api`.",
    )
    verify_url: LinkPage | None = Field(
        default=None, description="Front-end page for verification links, with `{token}` in it."
    )
    reset_url: LinkPage | None = Field(
        default=None, description="Front-end page for password reset links, with `{token}` in it."
    )
    invite_url: LinkPage | None = Field(
        default=None, description="Front-end page for the links of invitations, with `{token}` in it."
    )
    email_change_url: LinkPage | None = Field(
        default=None, description="Front-end page for e-mail change links, with `{token}` in it."
    )

    @property
    def is_local(self) -> bool:
        """Whether users reach the app on this machine only, which relaxes the start-up checks."""
        return is_local(self.public_base_url)

    @property
    def is_https(self) -> bool:
        """Whether users reach the app over TLS."""
        return urlsplit(self.public_base_url).scheme == "https"

    def public_url(self, path: str) -> str:
        """The address of one of the app's own paths, as users see it; joined with exactly one slash."""
        return f"{self.public_base_url.rstrip('/')}{self.route_prefix}/{path.lstrip('/')}"

    def base_url_problem(self) -> str | None:
        """What is wrong with the public base URL, in one sentence."""
        url = urlsplit(self.public_base_url)
        # A single label and `.test` (RFC 6761) are not public names: containers and tests have them.
        public = "." in (url.hostname or "") and not str(url.hostname).endswith(".test")
        if url.scheme == "https" or (url.scheme == "http" and (self.is_local or not public)):
            return None
        return "AUTH_PUBLIC_BASE_URL is not https: tokens and mailed links travel in the clear."
