"""Signing up."""

from __future__ import annotations

from tortoise.exceptions import IntegrityError

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..models import AbstractUser
from .password import require_good_password
from .throttle import may_mail


async def signup(auth: Auth, email: str, password: str, accept_language: str = "") -> AbstractUser:
    """Creates an account and queues its verification mail; both are stored, or neither.

    `email` is in its normal form; `accept_language`, a header, chooses the language of the mails. Raises
    `AuthError`: PASSWORD_REFUSALS, EMAIL_TAKEN, OVERLOADED. With `prevent_enumeration` a taken address gives
    an account that looks the same and is not stored.
    """
    async with auth.events.observe(EventKind.SIGNUP) as observation:
        await require_good_password(auth, password, email)
        silent = auth.settings.prevent_enumeration
        if not silent and await auth.tables.user.exists(email=email):
            raise AuthError(ErrorCode.EMAIL_TAKEN)
        language = auth.mailer.language_for(accept_language)
        hashed = await auth.hasher.hash(password)
        user = auth.tables.user(email=email, hashed_password=hashed, language=language)
        # Counted for a new address too, so that both take the same time.
        may_tell_owner = silent and await may_mail(auth, MailKind.ACCOUNT_EXISTS, email)
        try:
            await _store(auth, user)
            observation.user_id = user.id
        except IntegrityError as error:
            if not silent:
                raise AuthError(ErrorCode.EMAIL_TAKEN) from error
            if may_tell_owner:
                await auth.outbox.add(MailKind.ACCOUNT_EXISTS, email)
    return user


@transactional
async def _store(auth: Auth, user: AbstractUser) -> None:
    await user.save(force_create=True)
    await auth.outbox.add(MailKind.VERIFY, user.email, user_id=user.id)
