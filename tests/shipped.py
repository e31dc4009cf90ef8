"""What the kernel and the features of the package have together."""

from __future__ import annotations

from fastapi_pluggable_auth.features.feature import Features
from fastapi_pluggable_auth.features.shipped import SHIPPED

FEATURES = Features(SHIPPED)
ALL_CODES = [*FEATURES.errors.values()]
ALL_EVENT_KINDS = [*FEATURES.events.values()]
