"""What personal access tokens bring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from ...arguments import require_scopes
from ...auth import Auth
from ...flows.authentication import Authentication
from ...security.names import name_set
from ..feature import Credential, Feature, Slot
from .flows import (
    PersonalTokenError,
    PersonalTokenEventKind,
    PersonalTokenMail,
    authenticate_token,
    list_tokens,
    shown,
)
from .models import ACCESS_ENDED, EXPIRED, PersonalToken
from .secret import is_secret


def _routers(auth: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    yield routes.router
    if auth.pages:
        from . import pages

        yield pages.router


async def _exported(auth: Auth, authentication: Authentication) -> list[dict[str, Any]]:
    return [shown(token) for token in await list_tokens(auth, authentication.user.id)]


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
            export={"personal_tokens": _exported},
            scopes=dict(scopes),
            credentials=(Credential(matches=is_secret, authenticate=authenticate_token),),
            routers=_routers,
            slots=(Slot(place="navigation", template="tokens_navigation.html"),),
            templates=Path(__file__).parent / "templates",
            words=Path(__file__).parent / "words",
        )
