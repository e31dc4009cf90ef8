"""What an operator does in the place of an owner: sets a password, and says that an address is the owner's.
No route of administrators does either (ASVS 6.4.6)."""

from __future__ import annotations

from uuid import UUID

from ...auth import Auth, transactional
from ...email.kinds import MailKind
from ...errors import AuthError, ErrorCode
from ...events import EventKind
from ...flows.ends import End, end_access
from ...flows.guesses import forget_passwords
from ...flows.mailbox import verified
from ...flows.notices import notify
from ...flows.password import require_good_password
from ...flows.passwords import columns_of_new
from ...hooks import BeforePasswordChange, EmailVerified, PasswordChanged
from ...models import AbstractUser
from ...security.passwords import is_storable
from ...security.plaintext import Plaintext
from .users import find_user


async def set_password(auth: Auth, user_id: UUID, password: str | Plaintext) -> None:
    """Sets a password that the owner is told of by other means, ends all sessions, personal access tokens and
    known devices, and tells the owner by mail that it was changed.

    Raises `AuthError`: USER_NOT_FOUND, VALIDATION_ERROR, PASSWORD_REFUSALS, what a hook refuses, OVERLOADED.
    """
    password = Plaintext.of(password)
    async with auth.events.observe(EventKind.PASSWORD_RESET, user_id=user_id):
        user = await find_user(auth, user_id)
        if not is_storable(password.look()):
            raise AuthError(ErrorCode.VALIDATION_ERROR)
        await auth.hooks.fire(BeforePasswordChange, user, by_reset=True)
        await require_good_password(auth, password, user.email, user.display_name)
        await _replace(auth, user, await auth.hasher.hash(password))
    await forget_passwords(auth, user_id)
    await auth.hooks.fire(PasswordChanged, user, by_reset=True)


async def verify_user(auth: Auth, user_id: UUID) -> None:
    """Marks the address verified, as its owner is known by other means. The password stays; what was begun
    with it ends, which is every session, token and pending address. Doing so again changes nothing. Raises
    `AuthError(USER_NOT_FOUND)`."""
    async with auth.events.observe(EventKind.EMAIL_VERIFICATION, user_id=user_id):
        await find_user(auth, user_id)
        changed = await _verify(auth, user_id)
    if changed:
        await auth.hooks.fire(EmailVerified, await find_user(auth, user_id))


@transactional
async def _replace(auth: Auth, user: AbstractUser, hashed: str) -> None:
    changes = columns_of_new(auth, user, hashed)
    if not await auth.tables.user.filter(id=user.id).update(**changes):
        raise AuthError(ErrorCode.USER_NOT_FOUND)
    await end_access(auth, user.id, End.ADMINISTRATOR)
    await notify(auth, MailKind.PASSWORD_CHANGED, user)
    user.update_from_dict(changes)


@transactional
async def _verify(auth: Auth, user_id: UUID) -> bool:
    """Whether it was not before."""
    unverified = auth.tables.user.filter(id=user_id, is_verified=False)
    if not await unverified.update(**verified(auth)):
        return False
    await end_access(auth, user_id, End.VERIFIED)
    return True
