"""Personal access tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter

from ..auth import Auth
from ..flows.tokens import PersonalTokenError, PersonalTokenEventKind, PersonalTokenMail, authenticate_token
from ..models import PersonalToken, personal_token
from ..security.personal import is_personal_token
from .feature import Credential, Feature


def _routers(_: Auth) -> Iterable[APIRouter]:
    from ..routes import tokens  # here, as routes take long to import

    return [tokens.router]


PERSONAL_TOKENS: Final = Feature(
    name="personal_tokens",
    errors=PersonalTokenError,
    events=PersonalTokenEventKind,
    mails=PersonalTokenMail,
    tables=(PersonalToken,),
    expired=(personal_token.EXPIRED,),
    access_ended=(personal_token.ACCESS_ENDED,),
    credentials=(Credential(matches=is_personal_token, authenticate=authenticate_token),),
    routers=_routers,
)
