"""Administration of other accounts."""

from __future__ import annotations

from typing import Final

from ..flows.admin import AdministrationError, AdministrationEventKind
from ..models import impersonation
from .feature import Feature

ADMINISTRATION: Final = Feature(
    name="administration", errors=AdministrationError,
    events=AdministrationEventKind, access_ended=(impersonation.ACCESS_ENDED,)
)
