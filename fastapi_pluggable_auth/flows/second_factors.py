"""The second factors that there are."""

from __future__ import annotations

from typing import Final

from .factors import SecondFactor
from .twofa import AuthenticatorCodes

SECOND_FACTORS: Final[tuple[SecondFactor, ...]] = (AuthenticatorCodes(),)
