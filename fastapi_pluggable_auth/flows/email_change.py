"""Moving an account to another address: asked for, confirmed by a link, or stopped."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tortoise.exceptions import IntegrityError
from tortoise.queryset import QuerySet

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..email.tokens import Purpose
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..hooks import ChangingEmail, EmailChanged, EmailVerified
from ..models import AbstractUser, every, exact
from ..security.plaintext import Plaintext
from .authentication import Authentication, is_live, refuse_impersonation
from .email import owner_of
from .ends import NO_PENDING_EMAIL, End, end_access, without_begun
from .link_codes import as_code, begin_change_code, open_change_code
from .notices import notify, notify_former_address
from .passwords import is_rehashed


async def request_email_change(
    auth: Auth,
    user: AbstractUser,
    email: str,
    session_id: UUID | None,
    *,
    mail: bool,
    with_code: bool = False,
) -> None:
    """Keeps the new address pending for the session that asks, mails a link to it, which may come with a
    code, and one to the old address that stops the change. Without mail nothing is pending from then on.
    Belongs inside a transaction.

    Raises `AuthError(EMAIL_TAKEN)`; with `prevent_enumeration` the owner of the address gets a mail instead.
    """
    taken = await every(auth.tables.user).filter(email=email).exists()
    if taken and not auth.settings.prevent_enumeration:
        raise AuthError(ErrorCode.EMAIL_TAKEN)
    account = auth.tables.user.filter(id=user.id)
    if not mail:  # the owner must have had a mail about the address
        await account.update(**NO_PENDING_EMAIL)
        return
    # A taken address is kept pending, too, as the account shows it; no link will confirm it.
    await account.update(pending_email=email, pending_email_session=session_id)
    waiting = await begin_change_code(auth, user, email, session_id) if with_code else None
    if taken:
        await auth.outbox.add(MailKind.ACCOUNT_EXISTS, email)
    else:
        await auth.outbox.add(MailKind.EMAIL_CHANGE, email, user_id=user.id, waiting=waiting)
    await notify(auth, MailKind.STOP_EMAIL_CHANGE, user, new_email=email)


async def confirm_email_change(auth: Auth, token: str | Plaintext) -> None:
    """Moves the account to its pending address, tells the old one, and ends every session but the one that
    asked for it, which still has to be there. Raises `AuthError`: INVALID_LINK, also when the address was
    taken meanwhile, and what a hook refuses."""
    token = Plaintext.of(token)
    async with auth.events.observe(EventKind.EMAIL_CHANGE) as observation:
        user = await owner_of(auth, Purpose.EMAIL_CHANGE, token)
        observation.user_id = user.id
        moved = {"email": user.pending_email, "is_verified": True, "verified_at": auth.clock()}
        try:
            if not await _move(auth, user, moved) and not (
                await is_rehashed(auth, user) and await _move(auth, user, moved)
            ):
                raise AuthError(ErrorCode.INVALID_LINK)
        except IntegrityError as error:
            if not await auth.tables.user.exists(email=user.pending_email):
                raise  # a constraint of the host
            raise AuthError(ErrorCode.INVALID_LINK) from error
    old_email, was_verified = user.email, user.is_verified
    user.update_from_dict({**await without_begun(auth, user), **moved})
    await auth.hooks.fire(EmailChanged, user, old_email)
    if not was_verified:
        await auth.hooks.fire(EmailVerified, user)


async def confirm_with_code(auth: Auth, authentication: Authentication, code: str | Plaintext) -> None:
    """Does what `confirm_email_change` does with the link that the code stands for, in the session that asked
    for the change. Raises `AuthError`: MAILED_CODE_REFUSED, MAILED_CODE_EXPIRED, THROTTLED,
    IMPERSONATION_FORBIDDEN and what a hook refuses."""
    refuse_impersonation(authentication)
    link = await open_change_code(auth, authentication, Plaintext.of(code))
    with as_code():
        await confirm_email_change(auth, link.token)


async def stop_email_change(auth: Auth, token: str | Plaintext) -> None:
    """Forgets the pending address, by the link that was mailed to the present one. Raises
    `AuthError(INVALID_LINK)`."""
    token = Plaintext.of(token)
    async with auth.events.observe(EventKind.EMAIL_CHANGE_STOPPED) as observation:
        user = await owner_of(auth, Purpose.STOP_EMAIL_CHANGE, token)
        observation.user_id = user.id
        if not await _as_read(auth, user).update(**NO_PENDING_EMAIL):
            raise AuthError(ErrorCode.INVALID_LINK)


@transactional
async def _move(auth: Auth, user: AbstractUser, moved: dict[str, Any]) -> bool:
    """Applies these changes, and returns whether the account still was what was looked at. Raises
    `AuthError(INVALID_LINK)` where the session that asked is gone."""
    unchanged = _as_read(auth, user).filter(hashed_password=user.hashed_password, is_active=True)
    session_id = user.pending_email_session
    if not await unchanged.update(**NO_PENDING_EMAIL, **moved):
        return False
    if session_id is not None and not await _lives(auth, session_id):
        raise AuthError(ErrorCode.INVALID_LINK)
    await end_access(auth, user.id, End.EMAIL_CHANGED, session_id)
    await notify_former_address(auth, MailKind.EMAIL_CHANGED, user, new_email=user.pending_email)
    await auth.hooks.fire(ChangingEmail, user, user.pending_email)
    return True


def _as_read(auth: Auth, user: AbstractUser) -> QuerySet[AbstractUser]:
    """The account, where the change that is pending still is the one that was read."""
    return auth.tables.user.filter(
        id=user.id,
        email=user.email,
        pending_email=user.pending_email,
        pending_email_session=user.pending_email_session,
    )


async def _lives(auth: Auth, session_id: UUID) -> bool:
    """Also looked at here, as a session that expires ends nothing that was begun in it."""
    session = await exact(auth.tables.session.all(), id=session_id, revoked_at=None)
    return session is not None and is_live(auth, None, session.expires_at)
