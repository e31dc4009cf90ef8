"""The features that come with the package."""

from __future__ import annotations

from typing import Final

from .administration.feature import ADMINISTRATION
from .audit_log.feature import AUDIT_LOG
from .feature import Feature
from .personal_tokens.feature import PERSONAL_TOKENS
from .two_factor import TWO_FACTOR

SHIPPED: Final[tuple[Feature, ...]] = (TWO_FACTOR, PERSONAL_TOKENS, AUDIT_LOG, ADMINISTRATION)
