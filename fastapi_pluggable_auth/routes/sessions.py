"""The sessions of the user who asks."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import Request, Response

from ..dependencies import CurrentAuth, CurrentAuthentication
from ..errors import ErrorCode
from ..flows import sessions as sessions_flow
from ..flows.sessions import PAGE
from ..http.addresses import path_of
from ..http.cookies import sign_out
from ..http.demands import SIGNED_IN
from ..http.responses import documented
from ..schemas import AfterSession, PageSize, SessionOut, TextId
from .ids import id_from
from .router import AuthRouter

router = AuthRouter(
    prefix="/account/sessions",
    tags=["sessions"],
    about="The devices on which the user is signed in.",
    responses=documented(*SIGNED_IN),
)


@router.get(
    "",
    operation_id="account_list_sessions",
    summary="List the sessions",
    responses=documented(ErrorCode.VALIDATION_ERROR),
)
async def list_sessions(
    auth: CurrentAuth,
    request: Request,
    response: Response,
    authentication: CurrentAuthentication,
    after: AfterSession = None,
    limit: PageSize = PAGE,
) -> list[SessionOut]:
    """The devices that are signed in, the latest used first. Where there are more, the header `Link` leads to
    the next page (RFC 8288)."""
    page = await sessions_flow.list_sessions(auth, authentication, after=after, limit=limit)
    if page.next is not None:
        query = urlencode({"after": page.next, "limit": limit})
        response.headers["Link"] = f'<{path_of(request)}?{query}>; rel="next"'
    return [SessionOut(**info.shown()) for info in page.sessions]


@router.delete(
    "/{session_id}",
    operation_id="account_end_session",
    summary="End a session",
    status_code=204,
    responses=documented(
        ErrorCode.SESSION_NOT_FOUND, ErrorCode.IMPERSONATION_FORBIDDEN, ErrorCode.VALIDATION_ERROR
    ),
)
async def end_session(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication, session_id: TextId
) -> None:
    """Sign one device out, at once."""
    session = id_from(session_id, ErrorCode.SESSION_NOT_FOUND)
    await sessions_flow.end_own_session(auth, authentication, session)
    if session == authentication.session_id:
        sign_out(request, auth)
