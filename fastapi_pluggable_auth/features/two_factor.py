"""Two-factor authentication."""

from __future__ import annotations

from typing import Final

from ..flows.twofa import TwoFactorError, TwoFactorEventKind, TwoFactorMail
from ..models import RecoveryCode, recovery_code
from .feature import Feature

TWO_FACTOR: Final = Feature(
    name="two_factor",
    errors=TwoFactorError,
    events=TwoFactorEventKind,
    mails=TwoFactorMail,
    tables=(RecoveryCode,),
    access_ended=(recovery_code.ACCESS_ENDED,),
)
