"""Administration of accounts, for superusers and those who have a permission for it."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Depends, Query, Request
from pydantic import BaseModel

from ...authorization import require
from ...dependencies import CurrentAuth, CurrentAuthentication
from ...errors import ErrorCode
from ...flows.acting import IMPERSONATE, READ, WRITE
from ...flows.authentication import refuse_impersonation
from ...http.cookies import transport_for, wants_cookies
from ...http.csrf import check_request
from ...http.demands import RECENT_LOGIN, SIGNED_IN
from ...http.responses import documented, merged_responses
from ...models import AbstractUser, User
from ...routes.bodies import columns_of
from ...routes.core import session_answer
from ...routes.router import AuthRouter
from ...schemas import CookieSession, PageSize, TokenPair
from . import flows, impersonation, users
from .flows import AdministrationError, acting_on
from .schemas import (
    AccountOut,
    AccountPage,
    AccountSession,
    AccountSummary,
    AfterAccount,
    InvitationRequest,
    Rights,
)


async def in_person(authentication: CurrentAuthentication) -> None:
    """Nobody administrates in the place of somebody else."""
    refuse_impersonation(authentication)


async def check_cookies(request: Request) -> None:
    """No page that is not the app's gives a browser cookies."""
    if wants_cookies(request):
        await check_request(request)


Reader = Annotated[User, Depends(require(permission=READ))]
Writer = Annotated[User, Depends(require(permission=WRITE, recent=True))]
Impersonator = Annotated[User, Depends(require(permission=IMPERSONATE, recent=True))]

REFUSALS: Final = (ErrorCode.PERMISSION_DENIED, ErrorCode.IMPERSONATION_FORBIDDEN)
WRITING: Final = documented(ErrorCode.USER_NOT_FOUND, ErrorCode.VALIDATION_ERROR, *REFUSALS, *RECENT_LOGIN)
NOT_ONESELF: Final = documented(
    ErrorCode.USER_NOT_FOUND,
    AdministrationError.OWN_ACCOUNT,
    ErrorCode.VALIDATION_ERROR,
    *REFUSALS,
    *RECENT_LOGIN,
)


def admin_router() -> AuthRouter:
    """For routes under `/admin`, which nobody uses in the place of somebody else."""
    return AuthRouter(
        prefix="/admin",
        tags=["admin"],
        about="Accounts of others, for superusers and users with a permission for it.",
        dependencies=[Depends(in_person)],
        responses=documented(*SIGNED_IN, *REFUSALS),
    )


router = admin_router()


@router.get(
    "/users",
    operation_id="admin_list_users",
    summary="List the accounts",
    responses=documented(ErrorCode.VALIDATION_ERROR),
)
async def list_users(
    auth: CurrentAuth,
    administrator: Reader,
    search: Annotated[str, Query(max_length=254, examples=["ada"])] = "",
    active: bool | None = None,
    verified: bool | None = None,
    role: Annotated[str | None, Query(max_length=254, examples=["editor"])] = None,
    after: AfterAccount = None,
    limit: PageSize = 50,
) -> AccountPage:
    """Accounts, the newest first. `search` is a part of the address or username; one or two letters are their
    beginning. `next` of one page is `after` of the next one: a signup in between moves no account from page
    to page."""
    cursor = None if after is None else users.Cursor.parse(after)
    page = await users.list_users(
        auth, search=search, active=active, verified=verified, role=role, after=cursor, limit=limit
    )
    accounts = [AccountSummary(**_columns(auth, user)) for user in page.users]
    return AccountPage(users=accounts, next=None if page.after is None else str(page.after))


@router.post(
    "/invitations",
    operation_id="admin_invite_user",
    summary="Invite somebody",
    status_code=201,
    responses=documented(
        ErrorCode.SIGNUP_CLOSED,
        ErrorCode.EMAIL_TAKEN,
        ErrorCode.USERNAME_TAKEN,
        ErrorCode.VALUE_REFUSED,
        ErrorCode.UNKNOWN_ROLE,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        *REFUSALS,
        *RECENT_LOGIN,
    ),
)
async def invite_user(auth: CurrentAuth, administrator: Writer, body: InvitationRequest) -> AccountSummary:
    """Mail somebody an invitation: a link that sets the password of a new account and verifies its address.
    As long as nobody has used the account, the mail can be sent again."""
    columns = invited_columns(body)
    user = await flows.invite(auth, administrator, body.email, roles=body.roles, columns=columns)
    return AccountSummary(**_columns(auth, user))


@router.get(
    "/users/{user_id}",
    operation_id="admin_get_user",
    summary="Show an account",
    responses=documented(ErrorCode.USER_NOT_FOUND, ErrorCode.VALIDATION_ERROR),
)
async def read_user(auth: CurrentAuth, administrator: Reader, user_id: UUID) -> AccountOut:
    """An account, with the sessions in which it is signed in."""
    account = await flows.read_account(auth, user_id)
    return AccountOut(
        **_columns(auth, account.user),
        recovery_codes=account.recovery_codes,
        sessions=[
            AccountSession(
                id=info.session.id,
                created_at=info.session.created_at,
                last_used_at=info.last_used_at,
                expires_at=info.session.expires_at,
                user_agent=info.session.user_agent,
                address=info.session.address,
                impersonated_by=info.session.impersonated_by,
            )
            for info in account.sessions
        ],
    )


@router.post(
    "/users/{user_id}/disable",
    operation_id="admin_disable_user",
    summary="Disable an account",
    status_code=204,
    responses=NOT_ONESELF,
)
async def disable_user(auth: CurrentAuth, administrator: Writer, user_id: UUID) -> None:
    """Refuse every login, and end all sessions at once."""
    async with acting_on(auth, administrator, user_id, oneself=False):
        await users.disable_user(auth, user_id)


@router.post(
    "/users/{user_id}/enable",
    operation_id="admin_enable_user",
    summary="Enable an account",
    status_code=204,
    responses=WRITING,
)
async def enable_user(auth: CurrentAuth, administrator: Writer, user_id: UUID) -> None:
    """Allow logins again; no earlier session comes back."""
    async with acting_on(auth, administrator, user_id):
        await users.enable_user(auth, user_id)


@router.post(
    "/users/{user_id}/require-password-reset",
    operation_id="admin_require_password_reset",
    summary="Require a new password",
    status_code=204,
    responses=WRITING,
)
async def require_password_reset(auth: CurrentAuth, administrator: Writer, user_id: UUID) -> None:
    """End all sessions, and refuse logins until the password is reset by mail."""
    async with acting_on(auth, administrator, user_id):
        await users.require_password_reset(auth, user_id)


@router.post(
    "/users/{user_id}/end-sessions",
    operation_id="admin_end_sessions",
    summary="Sign a user out everywhere",
    status_code=204,
    responses=WRITING,
)
async def end_sessions(auth: CurrentAuth, administrator: Writer, user_id: UUID) -> None:
    """Sign the user out everywhere, at once."""
    async with acting_on(auth, administrator, user_id):
        await users.end_sessions(auth, user_id)


@router.post(
    "/users/{user_id}/unlock",
    operation_id="admin_unlock_user",
    summary="Unlock an account",
    status_code=204,
    responses=WRITING,
)
async def unlock_user(auth: CurrentAuth, administrator: Writer, user_id: UUID) -> None:
    """Forget wrong passwords and codes, so that the user can sign in again after too many of them."""
    async with acting_on(auth, administrator, user_id):
        await users.unlock_user(auth, user_id)


@router.post(
    "/users/{user_id}/reset-two-factor",
    operation_id="admin_reset_two_factor",
    summary="Switch a user's two-factor off",
    status_code=204,
    responses=WRITING,
)
async def reset_two_factor(auth: CurrentAuth, administrator: Writer, user_id: UUID) -> None:
    """Switch two-factor off for a user who has lost it. The user is signed out everywhere and gets a
    mail."""
    async with acting_on(auth, administrator, user_id):
        await users.reset_two_factor(auth, user_id)


@router.post(
    "/users/{user_id}/grant",
    operation_id="admin_grant",
    summary="Give roles and permissions",
    responses=WRITING | documented(ErrorCode.UNKNOWN_ROLE),
)
async def grant(auth: CurrentAuth, administrator: Writer, user_id: UUID, body: Rights) -> AccountSummary:
    """Give roles and permissions, of those that one has. Superusers are made by superusers."""
    user = await flows.grant(auth, administrator, user_id, **body.model_dump())
    return AccountSummary(**_columns(auth, user))


@router.post(
    "/users/{user_id}/revoke",
    operation_id="admin_revoke",
    summary="Take roles and permissions",
    responses=NOT_ONESELF,
)
async def revoke(auth: CurrentAuth, administrator: Writer, user_id: UUID, body: Rights) -> AccountSummary:
    """Take roles and permissions, of those that one has."""
    user = await flows.revoke(auth, administrator, user_id, **body.model_dump())
    return AccountSummary(**_columns(auth, user))


@router.delete(
    "/users/{user_id}",
    operation_id="admin_delete_user",
    summary="Delete an account",
    status_code=204,
    responses=merged_responses(NOT_ONESELF, documented(ErrorCode.ACCOUNT_IN_USE)),
)
async def delete_user(auth: CurrentAuth, administrator: Writer, user_id: UUID) -> None:
    """Delete an account with everything that belongs to it."""
    async with acting_on(auth, administrator, user_id, oneself=False):
        await users.delete_user(auth, user_id)


@router.post(
    "/users/{user_id}/impersonate",
    operation_id="admin_impersonate",
    summary="Act as a user",
    dependencies=[Depends(check_cookies)],
    responses=documented(
        ErrorCode.USER_NOT_FOUND,
        AdministrationError.OWN_ACCOUNT,
        AdministrationError.ACCOUNT_DISABLED,
        ErrorCode.VALIDATION_ERROR,
        *REFUSALS,
        *RECENT_LOGIN,
    ),
)
async def impersonate(
    auth: CurrentAuth,
    request: Request,
    administrator: Impersonator,
    authentication: CurrentAuthentication,
    user_id: UUID,
) -> TokenPair | CookieSession:
    """Act as the user for a while. What needs the user's password is refused, and every event names who
    acts. Where cookies are on, a browser is signed in as the user from here on."""
    tokens = await impersonation.impersonate(
        auth,
        administrator,
        user_id,
        session_id=authentication.session_id,
        transport=transport_for(request),
    )
    return session_answer(request, auth, tokens)


def invited_columns(body: BaseModel) -> dict[str, Any]:
    """What an invitation says of the columns of the account."""
    return {name: value for name, value in columns_of(body).items() if name != "roles"}


def _columns(auth: CurrentAuth, user: AbstractUser) -> dict[str, object]:
    times = {name: getattr(user, name) for name in ("created_at", "last_login_at", "password_changed_at")}
    return {
        "id": user.id,
        "email": user.email,
        "username": getattr(user, "username", None) if auth.has_usernames else None,
        "display_name": user.display_name,
        "is_active": user.is_active,
        "is_verified": user.is_verified,
        "is_superuser": user.is_superuser,
        "roles": sorted(user.roles),
        "permissions": sorted(user.permissions),
        "two_factor": user.two_factor_active,
        "second_factors": sorted(user.second_factors),
        "password_reset_required": user.password_reset_required,
        **times,
    }
