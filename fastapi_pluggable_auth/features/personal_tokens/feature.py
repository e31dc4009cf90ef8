"""What personal access tokens bring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from fastapi import APIRouter

from ...arguments import require_scopes
from ...auth import Auth
from ...security.names import name_set
from ..feature import Credential, Feature
from .flows import PersonalTokenError, PersonalTokenEventKind, PersonalTokenMail, authenticate_token
from .models import ACCESS_ENDED, EXPIRED, PersonalToken
from .secret import is_secret


def _routers(_: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    return [routes.router]


class PersonalTokens(Feature):
    """Personal access tokens (API keys), which users make at `/account/tokens` for their programs. `scopes`
    names what one may be made for, each with a sentence for its owner; routes ask for it by
    `require(scope=...)`.

    Raises `TypeError` where scopes are not sentences by name, and `ValueError` for one that is not a name
    (RFC 6749 section 3.3).
    """

    def __init__(self, *, scopes: Mapping[str, str]) -> None:
        require_scopes(scopes)
        name_set(scopes)
        super().__init__(
            name="personal_tokens",
            errors=PersonalTokenError,
            events=PersonalTokenEventKind,
            mails=PersonalTokenMail,
            tables=(PersonalToken,),
            expired=(EXPIRED,),
            access_ended=(ACCESS_ENDED,),
            scopes=dict(scopes),
            credentials=(Credential(matches=is_secret, authenticate=authenticate_token),),
            routers=_routers,
            words=Path(__file__).parent / "words",
        )
