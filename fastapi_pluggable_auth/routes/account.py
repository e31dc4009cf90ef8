"""The account of the user who asks."""

from __future__ import annotations

from fastapi import Depends, HTTPException, Request

from ..dependencies import CurrentAuth, CurrentAuthentication, CurrentUser
from ..errors import PASSWORD_REFUSALS, ErrorCode
from ..flows import account as account_flow
from ..flows import password as password_flow
from ..flows import sessions as sessions_flow
from ..http.addresses import account_path
from ..http.browsers import is_browser
from ..http.cookies import sign_out
from ..http.demands import RECENT_LOGIN, SIGNED_IN
from ..http.rates import rate_limited
from ..http.responses import documented
from ..schemas import ChangePassword, ProfileUpdate, SetPassword, UserOut, taken
from .bodies import asks_for_code, columns_of
from .router import AuthRouter
from .twofa import disable_two_factor

router = AuthRouter(
    prefix="/account",
    tags=["account"],
    about="The account of the user who asks.",
    responses=documented(*SIGNED_IN),
)


def send_to_page(auth: CurrentAuth, request: Request) -> None:
    """A browser gets the account page, where there are pages."""
    if auth.pages and is_browser(request):
        location = account_path(request, auth, "profile")
        raise HTTPException(303, headers={"Location": location, "Cache-Control": "no-store"})


@router.get(
    "",
    operation_id="account_get",
    summary="Show the account",
    response_model=UserOut,
    dependencies=[Depends(send_to_page)],
)
async def read_account(user: CurrentUser) -> object:
    """The account."""
    return user


@router.patch(
    "",
    operation_id="account_update",
    summary="Change the profile",
    dependencies=[rate_limited("update_account")],
    response_model=UserOut,
    responses=documented(
        ErrorCode.EMAIL_TAKEN,
        ErrorCode.USERNAME_TAKEN,
        ErrorCode.VALUE_REFUSED,
        *RECENT_LOGIN,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.RATE_LIMITED,
    ),
)
async def update_account(
    auth: CurrentAuth, authentication: CurrentAuthentication, body: ProfileUpdate
) -> object:
    """Change the profile. A new address needs a recent login, and takes effect when the link mailed to it is
    used; until then the answer shows the old one. With `mailed_code` the mail has a code as well, for
    `POST /auth/email-change/code` in the same session."""
    columns, with_code = columns_of(body, given=True), asks_for_code(body)
    return await account_flow.update_account(
        auth, authentication, email=body.email, columns=columns, with_code=with_code
    )


@router.delete(
    "",
    operation_id="account_delete",
    summary="Delete the account",
    status_code=204,
    responses=documented(*RECENT_LOGIN, ErrorCode.ACCOUNT_IN_USE),
)
async def delete_account(auth: CurrentAuth, request: Request, authentication: CurrentAuthentication) -> None:
    """Delete the account with everything that belongs to it. Needs a recent login."""
    await account_flow.delete_account(auth, authentication)
    sign_out(request, auth)


@router.post(
    "/change-password",
    operation_id="account_change_password",
    summary="Change the password",
    dependencies=[rate_limited("change_password")],
    status_code=204,
    responses=documented(
        ErrorCode.WRONG_PASSWORD,
        ErrorCode.PASSWORD_NOT_SET,
        ErrorCode.IMPERSONATION_FORBIDDEN,
        *PASSWORD_REFUSALS,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.THROTTLED,
        ErrorCode.PASSWORD_LOCKED,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def change_password(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication, body: ChangePassword
) -> None:
    """Set a new password. Every session ends, this one too: log in again."""
    old, new = taken(body, "old_password"), taken(body, "new_password")
    await password_flow.change_password(auth, authentication, old, new)
    sign_out(request, auth)


@router.post(
    "/set-password",
    operation_id="account_set_password",
    summary="Set a first password",
    dependencies=[rate_limited("change_password")],
    status_code=204,
    responses=documented(
        ErrorCode.PASSWORD_EXISTS,
        *RECENT_LOGIN,
        *PASSWORD_REFUSALS,
        ErrorCode.VALIDATION_ERROR,
        ErrorCode.OVERLOADED,
        ErrorCode.RATE_LIMITED,
    ),
)
async def set_password(
    auth: CurrentAuth, request: Request, authentication: CurrentAuthentication, body: SetPassword
) -> None:
    """Set the first password of an account that has none. Needs a recent login. Every session ends, this one
    too: log in with the password."""
    await password_flow.set_password(auth, authentication, taken(body, "new_password"))
    sign_out(request, auth)


# An app that mounts the routers by hand gets it by this one.
router.post(
    "/2fa/disable",
    operation_id="account_disable_two_factor",
    summary="Switch two-factor off",
    status_code=204,
    responses=documented(*RECENT_LOGIN),
)(disable_two_factor)


@router.post(
    "/logout-others",
    operation_id="account_logout_others",
    summary="Sign out the other devices",
    status_code=204,
    responses=documented(ErrorCode.IMPERSONATION_FORBIDDEN),
)
async def logout_others(auth: CurrentAuth, authentication: CurrentAuthentication) -> None:
    """End every session of the user but this one."""
    await sessions_flow.logout_others(auth, authentication)
