"""Personal access tokens."""

from __future__ import annotations

from typing import Final

from ..flows.tokens import PersonalTokenError, PersonalTokenEventKind
from ..models import PersonalToken, personal_token
from .feature import Feature

PERSONAL_TOKENS: Final = Feature(
    name="personal_tokens",
    errors=PersonalTokenError,
    events=PersonalTokenEventKind,
    tables=(PersonalToken,),
    expired=(personal_token.EXPIRED,),
    access_ended=(personal_token.ACCESS_ENDED,),
)
