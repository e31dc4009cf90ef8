"""What administration brings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastapi import APIRouter

from ...auth import Auth
from ...flows.acting import WRITE, covers
from ...models import AbstractUser
from ..feature import Feature, Slot
from .flows import AdministrationError, AdministrationEventKind
from .models import ACCESS_ENDED


def _routers(auth: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    yield routes.router
    if auth.pages:
        from . import pages

        yield pages.router


def _may_invite(auth: Auth, user: AbstractUser) -> bool:
    return auth.settings.signup != "closed" and covers(auth, user, (), (WRITE,))


class Administration(Feature):
    """Administration of the accounts of others, by routes under `/admin`, and a page to invite people: for
    superusers, and for users who have a permission for it."""

    def __init__(self) -> None:
        super().__init__(
            name="administration",
            requires=("two_factor",),
            errors=AdministrationError,
            events=AdministrationEventKind,
            access_ended=(ACCESS_ENDED,),
            routers=_routers,
            slots=(Slot(place="navigation", template="administration_navigation.html", shown=_may_invite),),
            templates=Path(__file__).parent / "templates",
            words=Path(__file__).parent / "words",
        )
