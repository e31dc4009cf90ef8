"""The account of the user who asks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from tortoise.exceptions import IntegrityError
from tortoise.expressions import Q

from ..auth import Auth, transactional
from ..database import tables_that_refer
from ..email.kinds import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..failures import table_in
from ..hooks import AccountDeleted, BeforeAccountDeletion, BeforeEmailChange, DeletingAccount, ProfileChanged
from ..models import AbstractUser
from .authentication import Authentication, observed, require_recent_login
from .columns import column_values, conflicts_refused, require_free
from .email_change import request_email_change
from .ends import NO_PENDING_EMAIL, End, end_access
from .guesses import forget_guesses
from .notices import notify_former_address
from .throttle import may_mail

logger = logging.getLogger(__name__)


async def update_account(
    auth: Auth,
    authentication: Authentication,
    *,
    email: str | None = None,
    columns: Mapping[str, Any] | None = None,
    with_code: bool = False,
) -> AbstractUser:
    """Changes what is given and returns the account as it is now. A new address (in its normal form) takes
    effect when it confirms, by a link or, where the mail is to come `with_code`, by that; the present one
    takes such a change back; an empty display name is removed.
    Of the columns, those count that the user has.

    Raises `AuthError`: EMAIL_TAKEN, REAUTHENTICATION_REQUIRED and what a hook refuses (for the address),
    USERNAME_TAKEN, VALUE_REFUSED, VALIDATION_ERROR (for columns of the host).
    """
    user = authentication.user
    changes = column_values(auth, columns or {})
    if "display_name" in changes:
        changes["display_name"] = changes["display_name"] or None
    if email is None or email == user.email:
        await _update(auth, authentication, email, changes)
        return user
    async with observed(auth, EventKind.EMAIL_CHANGE_REQUEST, authentication):
        require_recent_login(auth, authentication)
        await auth.hooks.fire(BeforeEmailChange, user, email)
        # Counted on the one who asks, too: no account mails to strangers again and again.
        mail = all([await may_mail(auth, MailKind.EMAIL_CHANGE, whom) for whom in (email, user.id)])
        await _update(auth, authentication, email, changes, mail=mail, with_code=with_code)
    return user


async def _update(
    auth: Auth,
    authentication: Authentication,
    email: str | None,
    changes: Mapping[str, Any],
    *,
    mail: bool = False,
    with_code: bool = False,
) -> None:
    user = authentication.user
    await require_free(auth, changes, owner=user.id)
    try:
        async with conflicts_refused(auth, changes, owner=user.id):
            await _apply(auth, authentication, email, changes, mail=mail, with_code=with_code)
    except IntegrityError as error:
        raise AuthError(ErrorCode.VALUE_REFUSED) from error
    changed = tuple(name for name, value in changes.items() if getattr(user, name) != value)
    user.update_from_dict(dict(changes))
    if changed:
        await auth.hooks.fire(ProfileChanged, user, changed)


@transactional
async def _apply(
    auth: Auth,
    authentication: Authentication,
    email: str | None,
    changes: Mapping[str, Any],
    *,
    mail: bool,
    with_code: bool,
) -> None:
    user = authentication.user
    account = auth.tables.user.filter(id=user.id)
    if changes:
        await account.update(**changes)
    if email == user.email:
        if authentication.impersonated_by is None:
            await account.filter(pending_email__not_isnull=True).update(**NO_PENDING_EMAIL)
    elif email is not None:
        session_id = authentication.session_id
        await request_email_change(auth, user, email, session_id, mail=mail, with_code=with_code)


async def delete_account(auth: Auth, authentication: Authentication) -> None:
    """Deletes the account and all that hangs on it, and tells the owner by mail; the audit log keeps what was
    done to it, and nothing else. Raises `AuthError`: REAUTHENTICATION_REQUIRED, ACCOUNT_IN_USE, what a hook
    refuses."""
    user = authentication.user
    async with observed(auth, EventKind.ACCOUNT_DELETION, authentication):
        require_recent_login(auth, authentication)
        await auth.hooks.fire(BeforeAccountDeletion, user)
        await erase(auth, user)
    await auth.hooks.fire(AccountDeleted, user.id, user.email)


class AccountInUseError(AuthError):
    """ACCOUNT_IN_USE. `table` is the one whose rows refer to the account, for the operator only; empty where
    the database does not say."""

    def __init__(self, table: str) -> None:
        super().__init__(ErrorCode.ACCOUNT_IN_USE)
        self.table = table


class _StaysError(Exception):
    """The account is not what was to be deleted any more: rolls the transaction back."""


async def erase(auth: Auth, user: AbstractUser, *, only: Q | None = None) -> bool:
    """Deletes an account and all that hangs on it, and tells its owner by mail; whether there was one. With
    `only`, nobody is told, and one stays for which that does not hold any more, or that has a session. Raises
    `AccountInUseError`."""
    try:
        return await _erase(auth, user, only)
    except _StaysError:
        return False
    except IntegrityError as error:
        table = table_in(error)
        if not table:
            names = await tables_that_refer(user._meta.db, user._meta.db_table, user.id)
            table = ", ".join(names)
        logger.warning("Account %s was not deleted: rows of %s refer to it", user.id, table or "a table")
        raise AccountInUseError(table) from error


@transactional
async def _erase(auth: Auth, user: AbstractUser, only: Q | None) -> bool:
    # Its tokens before the account: a rotation holds its token while it stores the next one, and must not be
    # waited for with the account locked.
    await end_access(auth, user.id, End.DELETED)
    account = auth.tables.user.filter(Q() if only is None else only, id=user.id)
    # Locked from here on: what changes it comes before, and it stays, or finds it gone.
    if only is not None and (not await account.exists() or await _has_session(auth, user.id)):
        raise _StaysError
    await auth.hooks.fire(DeletingAccount, user)
    erased = await account.delete()
    if only is not None and not erased:
        raise _StaysError
    if erased and only is None:
        await notify_former_address(auth, MailKind.ACCOUNT_DELETED, user)
    await forget_guesses(auth, user.id)
    return bool(erased)


async def _has_session(auth: Auth, user_id: UUID) -> bool:
    for table in (auth.tables.session, auth.tables.refresh_token):
        if await table.filter(user_id=user_id).exists():
            return True
    return False
