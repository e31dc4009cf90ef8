"""The log of security events in the database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from fastapi import APIRouter

from ..auth import Auth
from ..models import AuditEvent, audit
from .feature import Feature


def _routers(_: Auth) -> Iterable[APIRouter]:
    from ..routes import activity  # here, as routes take long to import

    return [activity.router]


AUDIT_LOG: Final = Feature(name="audit_log", tables=(AuditEvent,), expired=(audit.EXPIRED,), routers=_routers)
