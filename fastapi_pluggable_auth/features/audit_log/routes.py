"""What happened to the account of the user who asks."""

from __future__ import annotations

from ...dependencies import CurrentAuth, CurrentUser
from ...errors import ErrorCode
from ...http.demands import SIGNED_IN
from ...http.responses import documented
from ...routes.router import AuthRouter
from ...schemas import PageSize
from . import flows
from .schemas import Activity, ActivityEvent, AfterEvent

router = AuthRouter(
    prefix="/account/activity",
    tags=["activity"],
    about="What happened to the account of the user who asks.",
    responses=documented(*SIGNED_IN),
)


@router.get(
    "",
    operation_id="account_list_activity",
    summary="What happened to the account",
    responses=documented(ErrorCode.VALIDATION_ERROR),
)
async def list_activity(
    auth: CurrentAuth, user: CurrentUser, after: AfterEvent = None, limit: PageSize = 50
) -> Activity:
    """What happened to the account, the newest first. `next` of one page is `after` of the next one. Where
    an administrator did it, nothing tells who and from where."""
    page = await flows.list_events(auth, user_id=user.id, after=after, limit=limit)
    return Activity(
        events=[ActivityEvent(**flows.shown(event)) for event in page.events],
        next=page.next,
    )
