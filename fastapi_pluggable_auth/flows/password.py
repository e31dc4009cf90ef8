"""Forgotten, reset and changed passwords."""

from __future__ import annotations

from uuid import UUID

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..email.tokens import Purpose
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Outcome
from ..hooks import BeforePasswordChange, EmailVerified, MailboxClaimed, PasswordChanged
from ..models import AbstractUser
from ..security.guessing import Rating
from ..security.hashing import is_usable
from ..security.passwords import context_of, require_uncommon
from ..security.plaintext import Plaintext
from .authentication import Authentication, observed, refuse_impersonation, require_recent_login
from .devices import Device, remember_device
from .email import owner_of
from .ends import End, end_access, without_begun
from .guesses import counted_guess, forget_passwords
from .link_codes import as_code, mail_with_code, open_code
from .mailbox import claim_mailbox, is_claimable, verified
from .notices import mail_on_request, notify
from .passwords import check_password, columns_of_new, is_rehashed


async def forgot_password(auth: Auth, email: str) -> None:
    """Mails a reset link if there is an account. Never says whether there is, and does the same work either
    way."""
    async with auth.events.observe(EventKind.PASSWORD_RESET_REQUEST):
        await mail_on_request(auth, MailKind.RESET, email)


async def mail_reset_code(auth: Auth, email: str) -> str:
    """The same with a code beside the link; gives the challenge that it answers."""
    async with auth.events.observe(EventKind.PASSWORD_RESET_REQUEST):
        return await mail_with_code(auth, Purpose.RESET, email)


async def reset_password(
    auth: Auth, token: str | Plaintext, new_password: str | Plaintext, device: Device | None = None
) -> str | None:
    """Sets a new password, ends every session and personal access token and, as the link was mailed, verifies
    the address. On one that was never verified it is a claim: nothing of the signup is left. A `device` given
    is known from now on: its value is returned.

    Raises `AuthError`: INVALID_LINK, OVERLOADED, PASSWORD_REFUSALS and what a hook refuses (neither of which
    spends the link).
    """
    given = Plaintext.of(token), Plaintext.of(new_password)
    return await _set_by_mail(auth, Purpose.RESET, *given, device)


async def reset_with_code(
    auth: Auth,
    challenge: str | Plaintext,
    code: str | Plaintext,
    new_password: str | Plaintext,
    device: Device | None = None,
) -> str | None:
    """Does what `reset_password` does with the link that the code stands for. Raises `AuthError`:
    MAILED_CODE_REFUSED, MAILED_CODE_EXPIRED, THROTTLED, OVERLOADED, PASSWORD_REFUSALS and what a hook refuses
    (neither of which spends the code)."""
    link = await open_code(auth, Purpose.RESET, Plaintext.of(challenge), Plaintext.of(code))
    with as_code():
        return await reset_password(auth, link.token, new_password, device)


async def claim_account(auth: Auth, token: str | Plaintext, new_password: str | Plaintext) -> None:
    """Sets a new password with the link of a verification: so the owner of the mailbox takes over what a
    stranger signed up for, or starts afresh. Else as `reset_password`. Raises `AuthError`: INVALID_LINK,
    OVERLOADED, PASSWORD_REFUSALS and what a hook refuses."""
    await _set_by_mail(auth, Purpose.VERIFY, Plaintext.of(token), Plaintext.of(new_password))


async def claim_with_code(
    auth: Auth, challenge: str | Plaintext, code: str | Plaintext, new_password: str | Plaintext
) -> None:
    """Does what `claim_account` does with the link that the code stands for. Raises as `reset_with_code`."""
    link = await open_code(auth, Purpose.VERIFY, Plaintext.of(challenge), Plaintext.of(code))
    with as_code():
        await claim_account(auth, link.token, new_password)


async def accept_invitation(auth: Auth, token: str | Plaintext, new_password: str | Plaintext) -> None:
    """Sets the first password of an invited account and, as the link was mailed, verifies the address; signs
    nobody in. Raises `AuthError`: INVALID_LINK, OVERLOADED, PASSWORD_REFUSALS and what a hook refuses."""
    given = Plaintext.of(token), Plaintext.of(new_password)
    await _set_by_mail(auth, Purpose.INVITE, *given, kind=EventKind.INVITATION_ACCEPTED)


async def _set_by_mail(
    auth: Auth,
    purpose: Purpose,
    token: Plaintext,
    new_password: Plaintext,
    device: Device | None = None,
    *,
    kind: EventKind = EventKind.PASSWORD_RESET,
) -> str | None:
    async with auth.events.observe(kind) as observation:
        user = await owner_of(auth, purpose, token)
        observation.user_id = user.id
        await auth.hooks.fire(BeforePasswordChange, user, by_reset=True)
        was_verified, claims = user.is_verified, is_claimable(auth, user)
        enrolled = [factor for factor in auth.features.factors if await factor.enrolled(auth, user)]
        end = End.CLAIM if claims else End.RESET
        if not await _set_password(auth, user, new_password, end, **verified(auth)):
            raise AuthError(ErrorCode.INVALID_LINK)
    if claims:
        await auth.events.emit(EventKind.MAILBOX_CLAIMED, Outcome.SUCCESS, observation)
    await forget_passwords(auth, user.id)
    await auth.hooks.fire(PasswordChanged, user, by_reset=True)
    if not was_verified:
        await auth.hooks.fire(EmailVerified, user)
    if claims:
        await auth.hooks.fire(MailboxClaimed, user)
        for factor in enrolled:
            await factor.report_removal(auth, user)
    return None if device is None else await remember_device(auth, user.id, device)


async def change_password(
    auth: Auth,
    authentication: Authentication,
    old_password: str | Plaintext,
    new_password: str | Plaintext,
) -> None:
    """Sets a new password and ends every session, the current one too; personal access tokens stay.

    Raises `AuthError`: PASSWORD_NOT_SET where there is none to change, WRONG_PASSWORD, PASSWORD_REFUSALS,
    what a hook refuses, THROTTLED, OVERLOADED, IMPERSONATION_FORBIDDEN.
    """
    old_password, new_password = Plaintext.of(old_password), Plaintext.of(new_password)
    async with observed(auth, EventKind.PASSWORD_CHANGE, authentication):
        refuse_impersonation(authentication)
        if not is_usable(authentication.user.hashed_password):
            raise AuthError(ErrorCode.PASSWORD_NOT_SET)
        await _change(auth, authentication, old_password, new_password)


async def set_password(auth: Auth, authentication: Authentication, new_password: str | Plaintext) -> None:
    """Sets the first password of an account that has none, and ends every session as a change does.

    Raises `AuthError`: REAUTHENTICATION_REQUIRED, PASSWORD_EXISTS, PASSWORD_REFUSALS, what a hook refuses,
    OVERLOADED, IMPERSONATION_FORBIDDEN.
    """
    new_password, user = Plaintext.of(new_password), authentication.user
    async with observed(auth, EventKind.PASSWORD_CHANGE, authentication):
        require_recent_login(auth, authentication)
        if is_usable(user.hashed_password):
            raise AuthError(ErrorCode.PASSWORD_EXISTS)
        await auth.hooks.fire(BeforePasswordChange, user, by_reset=False)
        end = End.PASSWORD_CHANGED
        if not await _set_password(auth, user, new_password, end, authentication.session_id):
            raise AuthError(ErrorCode.PASSWORD_EXISTS)
    await auth.hooks.fire(PasswordChanged, user, by_reset=False)


async def _change(
    auth: Auth, authentication: Authentication, old_password: Plaintext, new_password: Plaintext
) -> None:
    user, session_id = authentication.user, authentication.session_id
    async with counted_guess(auth, user, session_id=session_id):
        if not await check_password(auth, user, old_password):
            raise AuthError(ErrorCode.WRONG_PASSWORD)
        await auth.hooks.fire(BeforePasswordChange, user, by_reset=False)
        end = End.PASSWORD_CHANGED
        if not await _set_password(auth, user, new_password, end, session_id):
            raise AuthError(ErrorCode.WRONG_PASSWORD)
    await auth.hooks.fire(PasswordChanged, user, by_reset=False)


async def require_good_password(
    auth: Auth, password: str | Plaintext, email: str, display_name: str | None = None
) -> None:
    """Raises `AuthError` with one of the PASSWORD_REFUSALS."""
    password = Plaintext.of(password)
    settings = auth.settings
    require_uncommon(password.look(), _context(auth, email, display_name))
    if settings.check_breaches:
        from ..security.breaches import require_unbreached

        await require_unbreached(settings, password)


async def rate_password(
    auth: Auth, password: str | Plaintext, email: str = "", display_name: str | None = None
) -> Rating:
    """How good a password would be for an account with this address. Asks neither the database nor anybody
    else, and keeps nothing.

    Raises `AuthError`: PASSWORD_TOO_COMMON, PASSWORD_TOO_PERSONAL, OVERLOADED.
    """
    password = Plaintext.of(password)
    context = _context(auth, email, display_name)
    require_uncommon(password.look(), context)
    return await auth.meter.rate(password, context)


def _context(auth: Auth, email: str, display_name: str | None) -> list[str]:
    settings = auth.settings
    return context_of(email, settings.app_name, display_name, *settings.password_context_words)


async def _set_password(
    auth: Auth,
    user: AbstractUser,
    password: Plaintext,
    end: End,
    session_id: UUID | None = None,
    **changes: object,
) -> bool:
    """Whether the password was set: only where it still is the one that was looked at, so that of two changes
    at once one wins."""
    await require_good_password(auth, password, user.email, user.display_name)
    changes |= columns_of_new(auth, user, await auth.hasher.hash(password))
    written = await _replace(auth, user, changes, end, session_id)
    if written is None and await is_rehashed(auth, user):
        written = await _replace(auth, user, changes, end, session_id)
    if written is None:
        return False
    user.update_from_dict(written)
    user.update_from_dict(await without_begun(auth, user))
    return True


@transactional
async def _replace(
    auth: Auth, user: AbstractUser, changes: dict[str, object], end: End, session_id: UUID | None
) -> dict[str, object] | None:
    """What was written; None where the account has changed since it was looked at."""
    if end is End.CLAIM:
        return await claim_mailbox(auth, user, **changes)
    unchanged = auth.tables.user.filter(
        id=user.id, email=user.email, hashed_password=user.hashed_password, is_active=True
    )
    if end is End.PASSWORD_CHANGED:  # not by a user who lost all access while this was hashed
        unchanged = unchanged.filter(access_epoch=user.access_epoch)
    if not await unchanged.update(**changes):
        return None
    await end_access(auth, user.id, end, session_id)
    if user.is_verified or is_usable(user.hashed_password):  # else it is the first one, from a mail there
        await notify(auth, MailKind.PASSWORD_CHANGED, user)
    return changes
