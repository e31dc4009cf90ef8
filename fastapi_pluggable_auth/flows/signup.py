"""Signing up."""

from __future__ import annotations

from tortoise.exceptions import IntegrityError

from ..auth import Auth, transactional
from ..email.outbox import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..models import AbstractUser
from .notices import mail_on_request
from .password import require_good_password


async def signup(auth: Auth, email: str, password: str) -> AbstractUser:
    """Creates an account and queues its verification mail; both are stored, or neither.

    `email` is in its normal form. Raises `AuthError`: PASSWORD_REFUSALS, EMAIL_TAKEN, OVERLOADED. With
    `prevent_enumeration` a taken address gives an account that looks the same and is not stored.
    """
    async with auth.events.observe(EventKind.SIGNUP) as observation:
        user = await _signup(auth, email, password)
        observation.user_id = user.id
    return user


async def _signup(auth: Auth, email: str, password: str) -> AbstractUser:
    await require_good_password(auth, password, email)
    open_about_it = not auth.settings.prevent_enumeration
    if open_about_it and await auth.tables.user.exists(email=email):
        raise AuthError(ErrorCode.EMAIL_TAKEN)
    user = auth.tables.user(email=email, hashed_password=await auth.hasher.hash(password))
    try:
        await _store(auth, user)
    except IntegrityError as error:
        if open_about_it:
            raise AuthError(ErrorCode.EMAIL_TAKEN) from error
        await mail_on_request(auth, MailKind.ACCOUNT_EXISTS, email)
    return user


@transactional
async def _store(auth: Auth, user: AbstractUser) -> None:
    await user.save(force_create=True)
    await auth.outbox.add(MailKind.VERIFY, user.email, user_id=user.id)
