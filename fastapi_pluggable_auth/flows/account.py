"""The account of the user who asks."""

from __future__ import annotations

from uuid import UUID

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..events import EventKind
from ..models import AbstractUser
from .email import request_email_change
from .sessions import Authentication, observed, require_recent_login
from .throttle import may_mail


class Unset:
    """The type of `UNSET`: a field that the request does not name."""


UNSET = Unset()


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
    new_email = None if email == user.email else email
    if new_email is None:
        await _update(auth, user, None, display_name, mail=False)
        return user
    async with observed(auth, EventKind.EMAIL_CHANGE_REQUEST, authentication):
        require_recent_login(auth, authentication)
        # Counted on the one who asks, too: no account mails to strangers again and again.
        asked, asking = new_email, str(user.id)
        mail = all([await may_mail(auth, MailKind.EMAIL_CHANGE, whom) for whom in (asked, asking)])
        await _update(auth, user, new_email, display_name, mail=mail)
    return user


@transactional
async def _update(
    auth: Auth, user: AbstractUser, new_email: str | None, display_name: str | Unset | None, *, mail: bool
) -> None:
    if not isinstance(display_name, Unset):
        await auth.tables.user.filter(id=user.id).update(display_name=display_name)
        user.display_name = display_name
    if new_email is not None:
        await request_email_change(auth, user, new_email, mail=mail)


async def delete_account(auth: Auth, authentication: Authentication) -> None:
    """Deletes the account and all that hangs on it. Raises `AuthError(REAUTHENTICATION_REQUIRED)`."""
    async with observed(auth, EventKind.ACCOUNT_DELETION, authentication):
        require_recent_login(auth, authentication)
        await _delete(auth, authentication.user.id)


@transactional
async def _delete(auth: Auth, user_id: UUID) -> None:
    # Tokens first: a rotation holds its token while it stores the next one, and must not be waited for with
    # the account locked.
    await auth.tables.refresh_token.filter(user_id=user_id).delete()
    await auth.tables.user.filter(id=user_id).delete()
