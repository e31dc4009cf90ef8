"""Signing up."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from types import MappingProxyType
from typing import Any

from tortoise.exceptions import IntegrityError
from tortoise.fields.base import DatabaseDefault

from ..auth import Auth, transactional
from ..email.kinds import MailKind
from ..errors import AuthError, ErrorCode
from ..events import EventKind
from ..features.feature import FirstWayIn
from ..hooks import BeforeSignup, SignedUp, SigningUp
from ..models import AbstractUser, every
from ..models.user import U
from ..security.hashing import unusable_hash
from ..security.plaintext import Plaintext
from .columns import (
    column_values,
    conflicts_refused,
    extra_values,
    require_all,
    require_free,
    require_known_references,
    taken_columns,
)
from .link_codes import begin_signup_code
from .mailbox import binding_digest
from .notices import mail_anyway
from .password import require_good_password
from .throttle import may_mail


async def signup(
    auth: Auth[U],
    email: str,
    password: str | Plaintext | None,
    accept_language: str = "",
    columns: Mapping[str, Any] | None = None,
    binding: str | None = None,
    *,
    instead: FirstWayIn | None = None,
    challenge: str | None = None,
) -> U:
    """Creates an account and queues its verification mail; both are stored, or neither.

    `email` is in its normal form; `accept_language`, a header, chooses the language of the mails. Of the
    columns, those are stored that the user has; hooks get the others as `extra`. `binding` is the random
    value that the browser keeps, in which the link then verifies without a password. An account without a
    password has another way in `instead`. With a `challenge`, of `pending.new_value`, the mail has a code as
    well, which answers it. Raises `AuthError`:
    SIGNUP_CLOSED unless the setting `signup` is `open`, what a hook refuses, PASSWORD_REFUSALS, EMAIL_TAKEN,
    OVERLOADED, and for the columns USERNAME_TAKEN, VALUE_REFUSED, VALIDATION_ERROR, also for one that needs a
    value and has none. With
    `prevent_enumeration` a taken address, username or other value that has to be unique gives an account that
    looks the same and is not stored: only a mail to the address tells, as a username that was free before a
    signup tells whether that signup made an account.
    """
    password = None if password is None else Plaintext.of(password)
    async with auth.events.observe(EventKind.SIGNUP) as observation:
        if auth.settings.signup != "open":
            raise AuthError(ErrorCode.SIGNUP_CLOSED)
        values, extra = column_values(auth, columns or {}), extra_values(auth, columns or {})
        await auth.hooks.fire(BeforeSignup, email, MappingProxyType(values), extra)
        require_all(auth, values)
        if password is not None:
            await require_good_password(auth, password, email, values.get("username"))
        silent = auth.settings.prevent_enumeration
        # Before the address, on which the answer must not depend, and before the costly hash.
        clashing = await taken_columns(auth, values) if silent else []
        await (require_known_references if silent else require_free)(auth, values)
        # Looked up for either answer, and once, so that both take the same time.
        taken = await every(auth.tables.user).filter(email=email).exists()
        if taken and not silent:
            raise AuthError(ErrorCode.EMAIL_TAKEN)
        language = auth.mailer.language_for(accept_language)
        hashed = unusable_hash() if password is None else await auth.hasher.hash(password)
        first = {} if instead is None else instead.columns
        own = {"language": language, **values, **first, "email": email, "hashed_password": hashed}
        # Where no browser keeps one, of a value that nobody has: so it says as well that a signup made it.
        if not own.get("is_verified"):
            own["signup_binding"] = binding_digest(email, binding or secrets.token_urlsafe(32))
        user = auth.tables.user(**own)
        # Counted for a new address too, so that both take the same time.
        may_tell = silent and await may_mail(auth, MailKind.ACCOUNT_EXISTS, email)
        try:
            async with nullcontext() if silent else conflicts_refused(auth, values):
                user = await _insert(auth, user, extra, instead, challenge)
            observation.user_id = user.id
        except IntegrityError as error:
            if not (taken or clashing):  # another request was faster, or it is something else
                taken = await every(auth.tables.user).filter(email=email).exists()
                clashing = await taken_columns(auth, values)
            if not (taken or clashing):
                raise AuthError(ErrorCode.VALUE_REFUSED) from error
            if not silent:
                raise AuthError(ErrorCode.EMAIL_TAKEN) from error
            if may_tell:
                await _tell_by_mail(auth, email, language, taken=taken, clashing=clashing)
            if challenge is not None:
                await begin_signup_code(auth, challenge, email, None)
            _complete(user)
    if observation.user_id is not None:
        await _tell_hooks(auth, user, extra)
    return user


async def _tell_by_mail(
    auth: Auth, email: str, language: str | None, *, taken: bool, clashing: Sequence[str]
) -> None:
    if taken:
        await mail_anyway(auth, MailKind.ACCOUNT_EXISTS, email)
    else:
        columns = ", ".join(name.replace("_", " ") for name in clashing)
        await mail_anyway(auth, MailKind.SIGNUP_CLASH, email, columns=columns, language=language)


async def _tell_hooks(auth: Auth, user: AbstractUser, extra: Mapping[str, Any]) -> None:
    """With `prevent_enumeration` after the answer: the time that they take would show a new account."""
    if not auth.settings.prevent_enumeration:
        await auth.hooks.fire(SignedUp, user, extra)
    elif auth.hooks.hear(SignedUp):
        await auth.autonomous.after_answer(lambda: auth.hooks.fire(SignedUp, user, extra))


def _complete(user: AbstractUser) -> None:
    """Fills in what the database would have."""
    for name, field in user._meta.fields_map.items():
        if isinstance(getattr(user, name, None), DatabaseDefault):
            setattr(user, name, field.db_default)


@transactional
async def _insert(
    auth: Auth[U], user: U, extra: Mapping[str, Any], instead: FirstWayIn | None, challenge: str | None
) -> U:
    await user.save(force_create=True)
    if instead is not None:
        await instead.store(auth, user)
    if not user.is_verified:
        waiting = None
        if challenge is not None:
            waiting = await begin_signup_code(auth, challenge, user.email, user)
        await auth.outbox.add(MailKind.VERIFY, user.email, user_id=user.id, waiting=waiting)
    # A copy: another run of this transaction begins with nothing of what a hook did to its user.
    copied = copy(user)
    await auth.hooks.fire(SigningUp, copied, extra)
    return copied
