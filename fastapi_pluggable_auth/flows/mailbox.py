"""Whose mailbox it is: what somebody else may have put on an account before its address was verified."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from tortoise.fields.base import Field

from ..auth import Auth
from ..email.kinds import MailKind
from ..models import AbstractUser
from ..security.hashing import is_usable, unusable_hash
from .ends import NO_PENDING_EMAIL, End, end_access
from .notices import notify
from .passwords import changed_now


def verified(auth: Auth) -> dict[str, Any]:
    """The columns of an account whose address is verified now. The browser of the signup is done with."""
    return {"is_verified": True, "verified_at": auth.clock(), "signup_binding": None}


def binding_digest(email: str, value: str) -> str:
    """What the account keeps of the random value that the browser of the signup holds."""
    return hashlib.sha256(f"{email}\0{value}".encode()).hexdigest()


def signed_up_with(user: AbstractUser, value: str | None) -> bool:
    """Whether this value, of a browser's cookie, is that of the signup."""
    if value is None or user.signup_binding is None:
        return False
    return hmac.compare_digest(binding_digest(user.email, value), user.signup_binding)


def is_claimable(auth: Auth, user: AbstractUser) -> bool:
    """Whether the owner of the mailbox takes over an account that nobody is known to own: the address is not
    verified, and there was no login for which it had to be. One that nobody has signed up for, that has never
    had a password, and to which the app has signed nobody in, was made by an administrator or an import: no
    stranger has put anything there."""
    was_in = user.last_login_at is not None
    if user.is_verified or (was_in and auth.settings.require_verified_email):
        return False
    return was_in or user.signup_binding is not None or is_usable(user.hashed_password)


async def claim_mailbox(auth: Auth, user: AbstractUser, **changes: object) -> dict[str, object] | None:
    """Gives an account that `is_claimable` to the owner of the mailbox: drops whatever may be a stranger's,
    which is the password, all access, the second factor, what is pending, the name and what else users may
    fill in or leave empty; then writes the changes. Tells the owner by mail.

    Belongs inside a transaction. Returns what was written, None where the account is not what `user` says.
    """
    unclaimed = auth.tables.user.filter(
        id=user.id,
        email=user.email,
        hashed_password=user.hashed_password,
        is_active=True,
        is_verified=False,
    )
    removed = {"password_changed_at": changed_now(auth, user)}
    written = _emptied(auth) | verified(auth) | removed | changes
    if not await unclaimed.update(**written):
        return None
    await end_access(auth, user.id, End.CLAIM)
    await notify(auth, MailKind.MAILBOX_CLAIMED, user)
    return written


def _emptied(auth: Auth) -> dict[str, Any]:
    """The columns of an account on which nobody has left anything."""
    users = auth.tables.user._meta
    factors = {name: value for factor in auth.features.factors for name, value in factor.removed.items()}
    own = auth.profile_columns & users.fields_db_projection.keys() - AbstractUser._meta.fields_map.keys()
    return {
        **{name: _at_first(users.fields_map[name]) for name in own if _may_be_empty(users.fields_map[name])},
        **factors,
        **NO_PENDING_EMAIL,
        "hashed_password": unusable_hash(),
        "display_name": None,
    }


def _may_be_empty(column: Field[Any]) -> bool:
    return column.null or (column.default is not None and not column.unique)


def _at_first(column: Field[Any]) -> Any:
    """What a new account has where nothing is given for this column."""
    return column.default() if callable(column.default) else column.default
