"""The account of the user who asks."""

from __future__ import annotations

from ..auth import Auth, transactional
from ..models import AbstractUser
from .email import request_email_change
from .sessions import Authentication, require_recent_login


class Unset:
    """The type of `UNSET`: a field that the request does not name."""


UNSET = Unset()


@transactional
async def update_account(
    auth: Auth,
    authentication: Authentication,
    *,
    email: str | None = None,
    display_name: str | Unset | None = UNSET,
) -> AbstractUser:
    """Changes what is given and returns the account as it is now. A new address (in its normal form) takes
    effect when it confirms; a display name of None is removed.

    Raises `AuthError`: EMAIL_TAKEN, REAUTHENTICATION_REQUIRED (for the address).
    """
    user = authentication.user
    moving = email is not None and email != user.email
    if moving:
        require_recent_login(auth, authentication)
    if not isinstance(display_name, Unset):
        await auth.tables.user.filter(id=user.id).update(display_name=display_name)
        user.display_name = display_name
    if moving and email is not None:
        await request_email_change(auth, user, email)
    return user


@transactional
async def delete_account(auth: Auth, authentication: Authentication) -> None:
    """Deletes the account and all that hangs on it. Raises `AuthError(REAUTHENTICATION_REQUIRED)`."""
    require_recent_login(auth, authentication)
    user_id = authentication.user.id
    # Tokens first: a rotation holds its token while it stores the next one, and must not be waited for with
    # the account locked.
    await auth.tables.refresh_token.filter(user_id=user_id).delete()
    await auth.tables.user.filter(id=user_id).delete()
