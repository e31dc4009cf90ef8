"""Database and hooks."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from .base import Settings
from .values import Duration, ZoneName


class DatabaseSettings(Settings):
    """Database and hooks."""

    database_timeout: Duration = Field(
        default=timedelta(seconds=5),
        description="How long a request waits for the database before it gets 503.",
    )

    upgrade_zone: ZoneName | None = Field(
        default=None,
        description="For `tortoise migrate`: the time zone of moments that were stored without one; UTC when"
        " empty.",
    )
    hook_timeout: Duration = Field(
        default=timedelta(seconds=10), description="How long a hook may take before or after its flow."
    )
