"""What the audit log brings."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter

from ...auth import Auth
from ...events import SecurityEvent
from ...hooks import DeletingAccount
from ..feature import Feature
from .models import ACCESS_ENDED, EXPIRED, AuditEvent
from .recording import forget_whereabouts, record


def _routers(auth: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    yield routes.router
    if "administration" in auth.features:
        from . import admin_routes

        yield admin_routes.router


class AuditLog(Feature):
    """An audit log: security events of accounts are kept in the database for `audit_retention`. Users read
    theirs at `/account/activity`, and with `Administration`, administrators read all."""

    def __init__(self) -> None:
        super().__init__(
            name="audit_log",
            hooks=((SecurityEvent, record), (DeletingAccount, forget_whereabouts)),
            tables=(AuditEvent,),
            expired=(EXPIRED,),
            access_ended=ACCESS_ENDED,
            routers=_routers,
        )
