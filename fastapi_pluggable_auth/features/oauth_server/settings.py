"""The settings of the OAuth server."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from ...config import Settings
from ...config.values import CommaSeparated, Duration


class OAuthSettings(Settings):
    """The OAuth server."""

    oauth_client_hosts: CommaSeparated[str] = Field(
        default=[],
        description="Hosts such as `claude.ai`: clients that are known by an address are those of these hosts"
        " only, and their consent is remembered. Empty: those of any host, whose consent is asked each time.",
    )
    oauth_registration: bool = Field(
        default=False,
        description="Whether clients may register themselves (RFC 7591), as anybody can who reaches the app.",
    )
    oauth_openid: bool = Field(
        default=False,
        description="Whether users sign in to other apps with their account here (OpenID Connect). Needs a"
        " key pair: see JWT_ALGORITHM.",
    )
    oauth_access_token_expires: Duration = Field(
        default=timedelta(hours=1), gt=timedelta(0), description="Lifetime of an OAuth access token."
    )
    oauth_service_token_expires: Duration = Field(
        default=timedelta(minutes=10),
        gt=timedelta(0),
        description="Lifetime of an access token for another service, which checks it without asking the app:"
        " nothing ends it before.",
    )
    oauth_refresh_token_expires: Duration = Field(
        default=timedelta(days=30),
        gt=timedelta(0),
        description="Lifetime of an OAuth refresh token, from its last use.",
    )
    oauth_grant_max_age: Duration = Field(
        default=timedelta(days=90),
        gt=timedelta(0),
        description="After this time, a user has to allow an application anew.",
    )
