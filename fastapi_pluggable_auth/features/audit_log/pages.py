"""The page of what happened to the account."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response

from ...dependencies import CurrentAuth, CurrentAuthentication
from ...routes.pages.rendering import render_page
from ...routes.pages.route import PageRoute
from ...routes.router import AuthRouter
from ...security.user_agents import device_of
from . import flows
from .schemas import AfterEvent

EVENTS: Final = 20
"""How many a page shows."""

router = AuthRouter(prefix="/account", tags=["account pages"], route_class=PageRoute, include_in_schema=False)


@router.get("/security/activity")
async def activity_page(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication, after: AfterEvent = None
) -> Response:
    """What happened, the newest first. A kind that has no words is shown by its name."""
    user = authentication.user
    page = await flows.list_events(auth, user_id=user.id, after=after, limit=EVENTS)
    return render_page(
        auth,
        request,
        "activity",
        user=user,
        events=[flows.shown(event) for event in page.events],
        next=page.next,
        device_of=device_of,
    )
