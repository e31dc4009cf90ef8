"""The features that come with the package."""

from __future__ import annotations

from typing import Final

from .administration.feature import Administration
from .audit_log.feature import AuditLog
from .feature import Feature
from .personal_tokens.feature import PersonalTokens
from .two_factor import TWO_FACTOR

SHIPPED: Final[tuple[Feature, ...]] = (
    TWO_FACTOR,
    PersonalTokens(scopes={}),
    AuditLog(),
    Administration(),
)
