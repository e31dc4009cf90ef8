"""Signing in: the one gate that every way of logging in goes through."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tortoise.exceptions import ValidationError
from tortoise.expressions import Q

from ..auth import Auth, transactional
from ..errors import AuthError, ErrorCode
from ..events import EventKind, Observation
from ..models import AbstractUser
from .sessions import Authentication, TokenSet, observed, session_id_of, start_session
from .throttle import guessing
from .twofa import Accepted, accept_code, store_accepted, tell_accepted


async def login(auth: Auth, name: str, password: str, code: str | None = None) -> TokenSet:
    """Starts a session. `name` is an address in its normal form or, where users have one, a folded username;
    `code` is a time-based or a recovery code.

    Raises `AuthError`: INVALID_CREDENTIALS for an unknown or disabled account, a wrong password or code, all
    in the same time; EMAIL_NOT_VERIFIED, PASSWORD_RESET_REQUIRED and TWO_FACTOR_REQUIRED only after the right
    password; THROTTLED, OVERLOADED and TWO_FACTOR_UNAVAILABLE.
    """
    async with auth.events.observe(EventKind.LOGIN) as observation:
        async with guessing(auth, name):
            user = await _account(auth, name)
            observation.user_id = user.id if user else None
            verification = await auth.hasher.verify(password, user.hashed_password if user else None)
            if user is None or not verification.ok or not user.is_active:
                raise AuthError(ErrorCode.INVALID_CREDENTIALS)
            observation.factors = ("pwd",)
            if user.password_reset_required:
                raise AuthError(ErrorCode.PASSWORD_RESET_REQUIRED)
            if auth.settings.require_verified_email and not user.is_verified:
                raise AuthError(ErrorCode.EMAIL_NOT_VERIFIED)
            accepted = _second_factor(auth, user, code)
            new_hash = {"hashed_password": verification.replacement} if verification.replacement else {}
            tokens = await _start(auth, user, accepted, new_hash)
        observation.session_id = tokens.session_id
        await _tell(auth, accepted, observation)
    return tokens


async def reauthenticate(
    auth: Auth, authentication: Authentication, password: str, code: str | None = None
) -> None:
    """Makes the session's login recent again. Raises `AuthError(REAUTHENTICATION_FAILED)` when the password
    or code is wrong, TWO_FACTOR_REQUIRED when the code is missing, OVERLOADED, TWO_FACTOR_UNAVAILABLE."""
    user = authentication.user
    async with observed(auth, EventKind.REAUTHENTICATION, authentication) as observation:
        try:
            async with guessing(auth, user.email):
                verification = await auth.hasher.verify(password, user.hashed_password)
                if not verification.ok:
                    raise AuthError(ErrorCode.INVALID_CREDENTIALS)
                observation.factors = ("pwd",)
                accepted = _second_factor(auth, user, code)
                await _renew(auth, authentication, accepted)
        except AuthError as error:
            if error.code is ErrorCode.INVALID_CREDENTIALS:
                raise AuthError(ErrorCode.REAUTHENTICATION_FAILED) from error
            raise
        await _tell(auth, accepted, observation)


async def _account(auth: Auth, name: str) -> AbstractUser | None:
    users = auth.tables.user
    if "@" in name or "username" not in users._meta.fields_map:
        return await users.get_or_none(Q(email=name))
    try:
        user = await users.get_or_none(Q(username=name))
    except ValidationError:  # too long for any
        return None
    # Some collations take names for one that are not, and each would have guesses of its own.
    return user if user is not None and getattr(user, "username", None) == name else None


def _second_factor(auth: Auth, user: AbstractUser, code: str | None) -> Accepted | None:
    """What follows from the code; None where no second factor is asked for."""
    if user.totp_secret is None or (code is None and not user.two_factor_active):
        return None
    if code is None:
        raise AuthError(ErrorCode.TWO_FACTOR_REQUIRED)
    accepted = accept_code(auth, user, code)
    if accepted is None:
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
    return accepted


async def _tell(auth: Auth, accepted: Accepted | None, observation: Observation) -> None:
    if accepted is not None:
        observation.factors = ("pwd", accepted.factor)
        await tell_accepted(auth, accepted, observation)


@transactional
async def _start(
    auth: Auth, user: AbstractUser, accepted: Accepted | None, changes: dict[str, Any]
) -> TokenSet:
    await _still_right(auth, user, accepted, changes, keep=None)
    return await start_session(auth, user)


@transactional
async def _renew(auth: Auth, authentication: Authentication, accepted: Accepted | None) -> None:
    await _still_right(auth, authentication.user, accepted, {}, keep=session_id_of(authentication))
    if authentication.session is not None:
        renewed = auth.tables.session.filter(id=authentication.session.id)
        await renewed.update(authenticated_at=auth.clock())


async def _still_right(
    auth: Auth, user: AbstractUser, accepted: Accepted | None, changes: dict[str, Any], *, keep: UUID | None
) -> None:
    """Writes the changes only where password and second factor still are what was checked.

    The row is locked from here on, so that a password change, a reset or the same code in another request
    comes before (and this login fails) or after (and ends this session).
    """
    if not await store_accepted(
        auth,
        user,
        accepted or Accepted(),
        keep=keep,
        changes={"last_login_at": auth.clock(), **changes},
        hashed_password=user.hashed_password,
        is_active=True,
    ):
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
