"""What administration brings."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter

from ...auth import Auth
from ..feature import Feature
from .flows import AdministrationError, AdministrationEventKind
from .models import ACCESS_ENDED


def _routers(_: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    return [routes.router]


class Administration(Feature):
    """Administration of the accounts of others, by routes under `/admin`: for superusers, and for users who
    have a permission for it."""

    def __init__(self) -> None:
        super().__init__(
            name="administration",
            requires=("two_factor",),
            errors=AdministrationError,
            events=AdministrationEventKind,
            access_ended=(ACCESS_ENDED,),
            routers=_routers,
        )
