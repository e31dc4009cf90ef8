"""Personal access tokens."""

from __future__ import annotations

from typing import Final

from ..flows.tokens import PersonalTokenError, PersonalTokenEventKind
from .feature import Feature

PERSONAL_TOKENS: Final = Feature(
    name="personal_tokens", errors=PersonalTokenError, events=PersonalTokenEventKind
)
