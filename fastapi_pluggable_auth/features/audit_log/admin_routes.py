"""The audit log for administrators, where an app has administration too."""

from __future__ import annotations

from uuid import UUID

from ...dependencies import CurrentAuth
from ...errors import ErrorCode
from ...http.responses import documented
from ...schemas import PageSize
from ..administration.routes import Reader, admin_router
from . import flows
from .flows import AuditEventPage
from .schemas import AfterEvent, AuditEventOut, AuditPage

router = admin_router()


@router.get(
    "/activity",
    operation_id="admin_list_activity",
    summary="What happened to all accounts",
    responses=documented(ErrorCode.VALIDATION_ERROR),
)
async def list_all_activity(
    auth: CurrentAuth,
    administrator: Reader,
    user: UUID | None = None,
    actor: UUID | None = None,
    after: AfterEvent = None,
    limit: PageSize = 50,
) -> AuditPage:
    """What happened, the newest first: to an account (`user`), by an administrator (`actor`), or at all."""
    page = await flows.list_events(auth, user_id=user, actor_id=actor, after=after, limit=limit)
    return _audit_page(page)


@router.get(
    "/users/{user_id}/activity",
    operation_id="admin_list_user_activity",
    summary="What happened to an account",
    responses=documented(ErrorCode.VALIDATION_ERROR),
)
async def list_user_activity(
    auth: CurrentAuth, administrator: Reader, user_id: UUID, after: AfterEvent = None, limit: PageSize = 50
) -> AuditPage:
    """What happened to an account, the newest first; also to one that is deleted."""
    return _audit_page(await flows.list_events(auth, user_id=user_id, after=after, limit=limit))


def _audit_page(page: AuditEventPage) -> AuditPage:
    return AuditPage(
        events=[
            AuditEventOut(
                id=event.id,
                time=event.time,
                event=event.kind,
                outcome=event.outcome,
                reason=event.reason,
                factors=event.factors.split(),
                user_id=event.user_id,
                actor_id=event.actor_id,
                session_id=event.session_id,
                address=event.address,
                user_agent=event.user_agent,
            )
            for event in page.events
        ],
        next=page.next,
    )
