"""The features that every app has."""

from __future__ import annotations

from typing import Final

from .feature import Feature
from .two_factor.feature import TWO_FACTOR

ALWAYS: Final[tuple[Feature, ...]] = (TWO_FACTOR,)
