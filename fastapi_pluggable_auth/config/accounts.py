"""Accounts."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from .base import Settings
from .values import CommaSeparated, Duration, EncryptionKey, Secret


class AccountSettings(Settings):
    """Accounts."""

    signup: Literal["open", "invited", "closed"] = Field(
        default="open", description="Who gets an account: anyone, people who are invited, or nobody."
    )
    invite_token_ttl: Duration = Field(
        default=timedelta(days=3), description="Lifetime of the links of invitations."
    )
    require_verified_email: bool = Field(
        default=True, description="Refuse a login until the address is verified."
    )
    prevent_enumeration: bool = Field(
        default=False,
        description="Answer a signup for a taken address like any other and mail its owner instead.",
    )
    verify_by_get: bool = Field(
        default=True,
        description="Let a program verify an address by GET; a scanner that asks like one does so, too.",
    )
    verify_token_ttl: Duration = Field(
        default=timedelta(hours=24), description="Lifetime of verification and e-mail change links."
    )
    unverified_account_ttl: Duration = Field(
        default=timedelta(0),
        description="How long an account that somebody signed up for may stay unverified, before the purge"
        " deletes it. 0: for ever.",
    )
    reset_token_ttl: Duration = Field(
        default=timedelta(hours=1), description="Lifetime of password reset links."
    )
    app_name: str = Field(
        default="MyApp",
        min_length=1,
        description="Name of the app in mails, pages and authenticators; its older name is `TOTP_ISSUER`.",
    )
    totp_encryption_key: EncryptionKey | None = Field(
        default=None,
        repr=False,
        description="Encrypts two-factor secrets in the database; 32 random bytes or more, as text.",
    )
    totp_previous_keys: CommaSeparated[Secret] = Field(
        default=[], repr=False, description="Earlier such keys, by commas, that still decrypt."
    )
    require_two_factor: bool = Field(
        default=False, description="Allow users without two-factor nothing but setting it up."
    )
    trusted_device_ttl: Duration = Field(
        default=timedelta(0),
        le=timedelta(days=30),
        description="For how long users may have no second factor asked for on a device; 0 for never.",
    )
    notify_new_device: bool = Field(
        default=False, description="Mail the owner when a browser signs in that the account has not seen."
    )

    @property
    def totp_issuer(self) -> str:
        """The same as `app_name`, under the name of 0.1."""
        return self.app_name

    @totp_issuer.setter
    def totp_issuer(self, name: str) -> None:
        self.app_name = name

    def enumeration_problem(self) -> str | None:
        """What keeps `prevent_enumeration` from holding, in one sentence."""
        if self.prevent_enumeration and not self.require_verified_email:
            return (
                "AUTH_PREVENT_ENUMERATION needs AUTH_REQUIRE_VERIFIED_EMAIL: anyone who signs up with an "
                "address and can sign in at once knows that it was new."
            )
        return None

    def unverified_problem(self) -> str | None:
        """What is wrong with the end of unverified accounts, in one sentence."""
        if timedelta(0) < self.unverified_account_ttl < self.verify_token_ttl:
            return (
                "AUTH_UNVERIFIED_ACCOUNT_TTL is shorter than AUTH_VERIFY_TOKEN_TTL: accounts are deleted"
                " while their links still work."
            )
        return None
