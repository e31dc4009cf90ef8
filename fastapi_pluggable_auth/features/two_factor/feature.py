"""What two-factor brings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter

from ...auth import Auth
from ...flows.authentication import Authentication
from ..feature import Feature, Slot
from .flows import (
    AuthenticatorCodes,
    TwoFactorError,
    TwoFactorEventKind,
    TwoFactorMail,
    pending_enrolment,
    remaining_recovery_codes,
)
from .models import ACCESS_ENDED, RecoveryCode


def _routers(auth: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    yield routes.router
    if auth.pages:
        from . import pages

        yield pages.router


async def _on_the_security_page(auth: Auth, authentication: Authentication) -> dict[str, Any]:
    """The secret while it is pending, with its picture, and how many recovery codes are left."""
    enrolment = await pending_enrolment(auth, authentication)
    return {
        "enrolment": enrolment,
        "image": enrolment.qr_base64 if enrolment else None,
        "remaining": await remaining_recovery_codes(auth, authentication.user),
    }


async def _exported(auth: Auth, authentication: Authentication) -> dict[str, Any]:
    user = authentication.user
    return {
        "active": user.two_factor_active,
        "recovery_codes_remaining": await remaining_recovery_codes(auth, user),
        "recovery_codes_created_at": user.recovery_codes_at,
    }


TWO_FACTOR: Final = Feature(
    name="two_factor",
    errors=TwoFactorError,
    events=TwoFactorEventKind,
    mails=TwoFactorMail,
    tables=(RecoveryCode,),
    access_ended=ACCESS_ENDED,
    export={"two_factor": _exported},
    rates={"two_factor": "30/minute"},
    factors=(AuthenticatorCodes(),),
    routers=_routers,
    slots=(Slot(place="security", template="two_factor_security.html", values=_on_the_security_page),),
    templates=Path(__file__).parent / "templates",
    words=Path(__file__).parent / "words",
)
