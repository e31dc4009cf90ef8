"""What two-factor brings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter

from ...auth import Auth
from ..feature import Feature
from .flows import AuthenticatorCodes, TwoFactorError, TwoFactorEventKind, TwoFactorMail
from .models import ACCESS_ENDED, RecoveryCode


def _routers(_: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    return [routes.router]


TWO_FACTOR: Final = Feature(
    name="two_factor",
    errors=TwoFactorError,
    events=TwoFactorEventKind,
    mails=TwoFactorMail,
    tables=(RecoveryCode,),
    access_ended=ACCESS_ENDED,
    rates={"two_factor": "30/minute"},
    factors=(AuthenticatorCodes(),),
    routers=_routers,
)
