"""What personal access tokens bring."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fastapi import APIRouter

from ...auth import Auth
from ..feature import Credential, Feature
from .flows import PersonalTokenError, PersonalTokenEventKind, PersonalTokenMail, authenticate_token
from .models import ACCESS_ENDED, EXPIRED, PersonalToken
from .secret import is_secret


def _routers(_: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    return [routes.router]


PERSONAL_TOKENS: Final = Feature(
    name="personal_tokens",
    errors=PersonalTokenError,
    events=PersonalTokenEventKind,
    mails=PersonalTokenMail,
    tables=(PersonalToken,),
    expired=(EXPIRED,),
    access_ended=(ACCESS_ENDED,),
    credentials=(Credential(matches=is_secret, authenticate=authenticate_token),),
    routers=_routers,
    templates=Path(__file__).parent / "templates",
)
