"""The personal access tokens of the user who asks. Mounted where the app names scopes."""

from __future__ import annotations

from datetime import timedelta

from ...dependencies import CurrentAuth, CurrentAuthentication, CurrentUser
from ...errors import ErrorCode
from ...http.demands import RECENT_LOGIN, SIGNED_IN
from ...http.responses import documented
from ...routes.ids import id_from
from ...routes.router import AuthRouter
from ...schemas import TextId
from . import flows
from .flows import PersonalTokenError
from .schemas import NewPersonalToken, PersonalTokenCreate, PersonalTokenOut

router = AuthRouter(
    prefix="/account/tokens",
    tags=["personal access tokens"],
    about="Tokens of the user for programs, each with scopes.",
    responses=documented(*SIGNED_IN),
)


@router.post(
    "",
    operation_id="account_create_token",
    summary="Make a token",
    status_code=201,
    responses=documented(
        PersonalTokenError.UNKNOWN_SCOPE,
        PersonalTokenError.TOKEN_LIFETIME_REFUSED,
        PersonalTokenError.TOO_MANY_TOKENS,
        *RECENT_LOGIN,
        ErrorCode.VALIDATION_ERROR,
    ),
)
async def create_token(
    auth: CurrentAuth, authentication: CurrentAuthentication, body: PersonalTokenCreate
) -> NewPersonalToken:
    """Make a token for a program. Needs a recent login; the token is shown in this answer only."""
    lifetime = None if body.expires_in is None else timedelta(seconds=body.expires_in)
    made = await flows.create_token(auth, authentication, body.name, body.scopes, lifetime)
    return NewPersonalToken(**flows.shown(made.token), token=made.secret)


@router.get("", operation_id="account_list_tokens", summary="List the tokens")
async def list_tokens(auth: CurrentAuth, user: CurrentUser) -> list[PersonalTokenOut]:
    """The tokens that have not expired, the newest first."""
    return [PersonalTokenOut(**flows.shown(token)) for token in await flows.list_tokens(auth, user.id)]


@router.delete(
    "/{token_id}",
    operation_id="account_revoke_token",
    summary="Revoke a token",
    status_code=204,
    responses=documented(
        PersonalTokenError.TOKEN_NOT_FOUND, ErrorCode.IMPERSONATION_FORBIDDEN, ErrorCode.VALIDATION_ERROR
    ),
)
async def revoke_token(auth: CurrentAuth, authentication: CurrentAuthentication, token_id: TextId) -> None:
    """Revoke a token, at once."""
    await flows.revoke_token(auth, authentication, id_from(token_id, PersonalTokenError.TOKEN_NOT_FOUND))
