"""Verifying an address, and moving an account to another one."""

from __future__ import annotations

from tortoise.exceptions import IntegrityError

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..email.tokens import Link, Purpose, link_state
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..hooks import ChangingEmail, EmailChanged, EmailVerified
from ..models import AbstractUser
from ..security.clock import as_utc
from ..security.plaintext import Plaintext
from .ends import End, end_access
from .guesses import guessing
from .notices import mail_on_request, notify


async def owner_of(auth: Auth, purpose: Purpose, token: str | Plaintext) -> AbstractUser:
    """The account that a mailed link still works for; raises `AuthError(INVALID_LINK)`. Changes nothing."""
    token = Plaintext.of(token)
    link = auth.links.read(purpose, token.look())
    user = await auth.tables.user.get_or_none(id=link.user_id, is_active=True)
    if user is None or not _still_valid(purpose, link, user):
        raise AuthError(ErrorCode.INVALID_LINK)
    return user


async def verify_email(auth: Auth, token: str | Plaintext) -> None:
    """Marks the account verified, once, and ends what was begun on it before: whoever signed up with this
    address keeps no session, no token and no pending address. Raises `AuthError(INVALID_LINK)`."""
    token = Plaintext.of(token)
    async with auth.events.observe(EventKind.EMAIL_VERIFICATION) as observation:
        user = await owner_of(auth, Purpose.VERIFY, token)
        observation.user_id = user.id
        await _verify(auth, user)
    user.update_from_dict({"is_verified": True, "pending_email": None})
    await auth.hooks.fire(EmailVerified, user)


async def verify_email_with_password(auth: Auth, token: str | Plaintext, password: str | Plaintext) -> None:
    """`verify_email` by a person who also knows the account's password, so that nobody activates the
    password of a stranger who signed up first. Raises `AuthError`: INVALID_LINK, WRONG_PASSWORD, THROTTLED,
    OVERLOADED."""
    token, password = Plaintext.of(token), Plaintext.of(password)
    user = await owner_of(auth, Purpose.VERIFY, token)
    async with guessing(auth, user):
        if not (await auth.hasher.verify(password, user.hashed_password)).ok:
            raise AuthError(ErrorCode.WRONG_PASSWORD)
    await verify_email(auth, token)


async def resend_verification(auth: Auth, email: str) -> None:
    """Mails a new link if there is an account that needs one. Never tells, and does the same work for all."""
    await mail_on_request(auth, MailKind.VERIFY, email)


async def request_email_change(auth: Auth, user: AbstractUser, email: str, *, mail: bool) -> None:
    """Keeps the new address pending and mails a link to it, if so told. Belongs inside a transaction.

    Raises `AuthError(EMAIL_TAKEN)`; with `prevent_enumeration` the owner of the address is told instead.
    """
    taken = await auth.tables.user.exists(email=email)
    if taken and not auth.settings.prevent_enumeration:
        raise AuthError(ErrorCode.EMAIL_TAKEN)
    # A taken address is kept pending, too, as the account shows it; no link will confirm it.
    await auth.tables.user.filter(id=user.id).update(pending_email=email)
    kind, owner = (MailKind.ACCOUNT_EXISTS, None) if taken else (MailKind.EMAIL_CHANGE, user.id)
    if mail:
        await auth.outbox.add(kind, email, user_id=owner)


async def confirm_email_change(auth: Auth, token: str | Plaintext) -> None:
    """Moves the account to its pending address and tells the old one. Raises `AuthError`: INVALID_LINK,
    also when the address was taken meanwhile, and what a hook refuses."""
    token = Plaintext.of(token)
    async with auth.events.observe(EventKind.EMAIL_CHANGE) as observation:
        user = await owner_of(auth, Purpose.EMAIL_CHANGE, token)
        observation.user_id = user.id
        try:
            await _move(auth, user)
        except IntegrityError as error:
            raise AuthError(ErrorCode.INVALID_LINK) from error
    old_email, was_verified = user.email, user.is_verified
    user.update_from_dict({"email": user.pending_email, "pending_email": None, "is_verified": True})
    await auth.hooks.fire(EmailChanged, user, old_email)
    if not was_verified:
        await auth.hooks.fire(EmailVerified, user)


@transactional
async def _verify(auth: Auth, user: AbstractUser) -> None:
    unverified = auth.tables.user.filter(id=user.id, email=user.email, is_verified=False)
    if not await unverified.update(is_verified=True):
        raise AuthError(ErrorCode.INVALID_LINK)
    await end_access(auth, user.id, End.CLAIM)


@transactional
async def _move(auth: Auth, user: AbstractUser) -> None:
    unchanged = auth.tables.user.filter(
        id=user.id,
        email=user.email,
        pending_email=user.pending_email,
        hashed_password=user.hashed_password,
    )
    if not await unchanged.update(email=user.pending_email, pending_email=None, is_verified=True):
        raise AuthError(ErrorCode.INVALID_LINK)
    await notify(auth, MailKind.EMAIL_CHANGED, user, new_email=user.pending_email)
    await auth.hooks.fire(ChangingEmail, user, user.pending_email)


def _still_valid(purpose: Purpose, link: Link, user: AbstractUser) -> bool:
    if link.state is not None:
        return link.state == link_state(purpose, user)
    # Made by a helper that saw no account: only verification and reset can be told to be unused without it.
    if purpose is Purpose.VERIFY:
        return not user.is_verified
    changed = user.password_changed_at
    return purpose is Purpose.RESET and (changed is None or link.issued_at > as_utc(changed))
