"""What administration brings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter

from ...auth import Auth
from ..feature import Feature
from .flows import AdministrationError, AdministrationEventKind
from .models import ACCESS_ENDED


def _routers(_: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    return [routes.router]


ADMINISTRATION: Final = Feature(
    name="administration",
    errors=AdministrationError,
    events=AdministrationEventKind,
    access_ended=(ACCESS_ENDED,),
    routers=_routers,
)
