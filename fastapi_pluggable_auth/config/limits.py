"""Guessing and mail bombing."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, IPvAnyNetwork
from pydantic_settings import NoDecode

from .base import Settings
from .values import CommaSeparated, Duration, parts

RECOMMENDED_RATES: Final = {
    "signup": "20/hour",
    "login": "30/minute",
    "reauthenticate": "30/minute",
    "refresh": "120/minute",
    "verify": "60/hour",
    "resend": "20/hour",
    "forgot_password": "20/hour",
    "reset_password": "60/hour",
    "change_password": "30/minute",
    "password_strength": "120/minute",
    "update_account": "60/hour",
    "export_account": "20/hour",
}
"""Per client address, for the routes of every app; generous, as many people may share one. Guessing is slowed
down per account beside."""


def _rates(value: object) -> object:
    """`recommended`, or pairs of route and rate by commas."""
    if not isinstance(value, str):
        return value
    rates: dict[str, str] = {}
    for part in parts(value):
        name, _, rate = part.partition("=")
        rates |= RECOMMENDED_RATES if part == "recommended" else {name.strip(): rate.strip()}
    return rates


class LimitSettings(Settings):
    """Guessing and mail bombing."""

    throttle_free_attempts: int = Field(
        default=5,
        ge=1,
        description="Wrong passwords or codes for an account, from one network or known device, before each"
        " next one has to wait.",
    )
    throttle_daily_limit: int = Field(
        default=100,
        ge=1,
        description="Wrong passwords for an account in 24 hours, on devices that it does not know, before"
        " only a mailed link helps.",
    )
    throttle_first_pause: Duration = Field(
        default=timedelta(seconds=1), description="The first such pause; each one is twice as long."
    )
    throttle_longest_pause: Duration = Field(
        default=timedelta(minutes=15), description="The longest pause: nobody is locked out for good."
    )
    throttle_forget_after: Duration = Field(
        default=timedelta(hours=24), description="Quiet time after which wrong attempts are forgotten."
    )
    mail_limit: int = Field(
        default=3, ge=1, description="Mails of one kind that requests may send to an address per period."
    )
    mail_limit_period: Duration = Field(default=timedelta(hours=1), description="The period of that limit.")

    rate_limits: Annotated[dict[str, str], NoDecode, BeforeValidator(_rates)] = Field(
        default={},
        description="Requests per client: `recommended`, or such as `login=30/minute,signup=20/hour`.",
    )
    rate_limit_storage: str = Field(
        default="memory://",
        repr=False,
        description="Where these are counted: in each worker's memory, or for all in `redis://host:6379`.",
    )
    trusted_proxies: CommaSeparated[IPvAnyNetwork] = Field(
        default=[], description="Addresses and networks, by commas, whose `X-Forwarded-For` is believed."
    )
