"""What the audit log brings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastapi import APIRouter

from ...auth import Auth
from ...events import SecurityEvent
from ...hooks import DeletingAccount
from ..feature import Feature, Slot
from .flows import export_events
from .models import ACCESS_ENDED, EXPIRED, AuditEvent
from .recording import forget_whereabouts, record


def _routers(auth: Auth) -> Iterable[APIRouter]:
    from . import routes  # here, as routes take long to import

    yield routes.router
    if auth.pages:
        from . import pages

        yield pages.router
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
            export={"activity": export_events},
            routers=_routers,
            slots=(Slot(place="navigation", template="activity_navigation.html"),),
            templates=Path(__file__).parent / "templates",
            words=Path(__file__).parent / "words",
        )
