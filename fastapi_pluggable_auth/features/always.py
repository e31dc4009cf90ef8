"""The features that an app has without naming them."""

from __future__ import annotations

from typing import Final

from ..config import AuthSettings
from .feature import Feature
from .two_factor.feature import TWO_FACTOR

ALWAYS: Final[tuple[Feature, ...]] = (TWO_FACTOR,)


def always_on(settings: AuthSettings) -> tuple[Feature, ...]:
    """Those of every app, and the audit log where the setting AUDIT_LOG asks for it."""
    if not settings.audit_log:
        return ALWAYS
    from .audit_log.feature import AuditLog  # here, as what is off is not imported

    return (*ALWAYS, AuditLog())
