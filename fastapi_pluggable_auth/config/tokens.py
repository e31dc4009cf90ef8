"""Tokens and sessions."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Literal

from pydantic import Field

from .base import Settings
from .values import CommaSeparated, Duration, Secret

DEFAULT_SECRET: Final = "CHANGE_ME"  # noqa: S105
"""The placeholder that `jwt_secret` starts with; nothing is ever signed with it."""


class TokenSettings(Settings):
    """Tokens and sessions."""

    jwt_secret: Secret = Field(
        default=DEFAULT_SECRET,
        repr=False,
        description="HMAC key that signs every token; 32 random bytes or more.",
    )
    jwt_algorithm: Literal[
        "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512"
    ] = Field(default="HS256", description="Signature algorithm.")
    jwt_private_key: str | None = Field(
        default=None,
        repr=False,
        description="For RS and ES algorithms: the private key, as PEM or the path of a PEM file.",
    )
    jwt_previous_keys: CommaSeparated[Secret] = Field(
        default=[],
        repr=False,
        description="Earlier secrets or (public) keys, by commas, whose tokens are still good.",
    )
    jwt_issuer: str | None = Field(
        default=None, description="`iss` of every token; `PUBLIC_BASE_URL` when empty."
    )
    jwt_audience: str | None = Field(default=None, description="`aud` of every token; the issuer when empty.")
    access_token_expires: Duration = Field(
        default=timedelta(minutes=15), description="Lifetime of an access token."
    )
    refresh_token_expires: Duration = Field(
        default=timedelta(days=7),
        description="Lifetime of a refresh token: how long a session may stay idle.",
    )
    session_max_age: Duration = Field(
        default=timedelta(days=30), description="Absolute lifetime of a session; a refresh never extends it."
    )
    refresh_reuse_leeway: Duration = Field(
        default=timedelta(seconds=10),
        description="How long a spent refresh token that comes back counts as a race between tabs.",
    )
    refresh_idempotent: bool = Field(
        default=False,
        description="Answer a retry with a pair instead of 401: the same one, or after the leeway another.",
    )
    spent_token_retention: Duration = Field(
        default=timedelta(hours=1),
        description="How long a session in use keeps the rows of its spent refresh tokens, if access tokens"
        " do not last longer.",
    )
    max_sessions: int = Field(
        default=100,
        ge=0,
        description="Sessions that a user may have; a login beyond ends the oldest. 0: no limit.",
    )
    single_session: bool = Field(default=False, description="A refresh ends every other session of the user.")
    personal_token_expires: Duration = Field(
        default=timedelta(days=90),
        description="Lifetime of a personal access token whose owner asks for none.",
    )
    personal_token_max_age: Duration = Field(
        default=timedelta(days=365),
        description="The longest lifetime of such a token. 0: no limit, and tokens without end.",
    )
    max_personal_tokens: int = Field(
        default=50, ge=1, description="Personal access tokens that a user may have at a time."
    )
    reauth_ttl: Duration = Field(
        default=timedelta(minutes=15), description="How recent a login must be for sensitive changes."
    )

    @property
    def signs_with_secret(self) -> bool:
        """Whether only this app can check a token, as no key is public."""
        return self.jwt_algorithm.startswith("HS")
