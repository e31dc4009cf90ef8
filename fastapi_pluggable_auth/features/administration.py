"""Administration of other accounts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter

from ..auth import Auth
from ..flows.admin import AdministrationError, AdministrationEventKind
from ..models import impersonation
from .feature import Feature


def _routers(_: Auth) -> Iterable[APIRouter]:
    from ..routes import admin  # here, as routes take long to import

    return [admin.router]


ADMINISTRATION: Final = Feature(
    name="administration",
    errors=AdministrationError,
    events=AdministrationEventKind,
    access_ended=(impersonation.ACCESS_ENDED,),
    routers=_routers,
)
