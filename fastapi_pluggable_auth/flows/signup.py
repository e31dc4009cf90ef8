"""Signing up."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from types import MappingProxyType
from typing import Any

from tortoise.exceptions import IntegrityError
from tortoise.fields.base import DatabaseDefault

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..hooks import BeforeSignup, SignedUp, SigningUp
from ..models import AbstractUser
from ..security.plaintext import Plaintext
from .columns import require_free, stored, storing
from .mailbox import binding_digest
from .notices import mail_anyway
from .password import require_good_password
from .throttle import may_mail


async def signup(
    auth: Auth,
    email: str,
    password: str | Plaintext,
    accept_language: str = "",
    columns: Mapping[str, Any] | None = None,
    binding: str | None = None,
) -> AbstractUser:
    """Creates an account and queues its verification mail; both are stored, or neither.

    `email` is in its normal form; `accept_language`, a header, chooses the language of the mails. Of the
    columns, those count that the user has. `binding` is the random value that the browser keeps, in which the
    link then verifies without a password. Raises `AuthError`: what a hook refuses, PASSWORD_REFUSALS,
    EMAIL_TAKEN, OVERLOADED, and for the columns USERNAME_TAKEN, VALUE_REFUSED, VALIDATION_ERROR. With
    `prevent_enumeration` a taken address gives an account that looks the same and is not stored.
    """
    password = Plaintext.of(password)
    async with auth.events.observe(EventKind.SIGNUP) as observation:
        values = stored(auth, columns or {})
        await auth.hooks.fire(BeforeSignup, email, MappingProxyType(values))
        await require_good_password(auth, password, email, values.get("username"))
        silent = auth.settings.prevent_enumeration
        # Before the address, on which the answer must not depend, and before the costly hash.
        await require_free(auth, values)
        # Looked up for either answer, and once, so that both take the same time.
        taken = await auth.tables.user.exists(email=email)
        if taken and not silent:
            raise AuthError(ErrorCode.EMAIL_TAKEN)
        language = auth.mailer.language_for(accept_language)
        hashed = await auth.hasher.hash(password)
        own = {"language": language, **values, "email": email, "hashed_password": hashed}
        if binding is not None:
            own["signup_binding"] = binding_digest(email, binding)
        user = auth.tables.user(**own)
        # Counted for a new address too, so that both take the same time.
        may_tell_owner = silent and await may_mail(auth, MailKind.ACCOUNT_EXISTS, email)
        try:
            async with storing(auth, values):
                user = await _store(auth, user)
            observation.user_id = user.id
        except IntegrityError as error:
            if not taken and not await auth.tables.user.exists(email=email):
                raise AuthError(ErrorCode.VALUE_REFUSED) from error
            if not silent:
                raise AuthError(ErrorCode.EMAIL_TAKEN) from error
            if may_tell_owner:
                await mail_anyway(auth, MailKind.ACCOUNT_EXISTS, email)
            _complete(user)
    if observation.user_id is not None:
        await auth.hooks.fire(SignedUp, user)
    return user


def _complete(user: AbstractUser) -> None:
    """Fills in what the database would have."""
    for name, field in user._meta.fields_map.items():
        if isinstance(getattr(user, name, None), DatabaseDefault):
            setattr(user, name, field.db_default)


@transactional
async def _store(auth: Auth, user: AbstractUser) -> AbstractUser:
    await user.save(force_create=True)
    await auth.outbox.add(MailKind.VERIFY, user.email, user_id=user.id)
    # A copy: another run of this transaction begins with nothing of what a hook did to its user.
    copied = copy(user)
    await auth.hooks.fire(SigningUp, copied)
    return copied
