"""Administration of other accounts."""

from __future__ import annotations

from typing import Final

from ..flows.admin import AdministrationError, AdministrationEventKind
from .feature import Feature

ADMINISTRATION: Final = Feature(
    name="administration", errors=AdministrationError, events=AdministrationEventKind
)
