"""Administration."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from .base import Settings
from .values import Duration


class AdministrationSettings(Settings):
    """Administration."""

    audit_log: bool = Field(
        default=False, description="Turns on the audit log, as `features=[AuditLog()]` does in the app."
    )
    audit_retention: Duration = Field(
        default=timedelta(days=90), description="How long the audit log keeps an event."
    )
    impersonation_max_age: Duration = Field(
        default=timedelta(hours=1),
        description="How long an administrator may act as a user; no refresh extends it.",
    )
