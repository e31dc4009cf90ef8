"""Signing in: the one gate that every way of logging in goes through."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ..auth import Auth, transactional
from ..errors import AuthError, ErrorCode
from ..models import AbstractUser
from . import twofa
from .sessions import Authentication, Device, TokenSet, session_id_of, start_session
from .throttle import guessing


async def login(
    auth: Auth, email: str, password: str, code: str | None = None, device: Device | None = None
) -> TokenSet:
    """Starts a session. `email` is in its normal form, `code` the six digits of two-factor.

    Raises `AuthError`: INVALID_CREDENTIALS for an unknown or disabled account, a wrong password or code, all
    in the same time; EMAIL_NOT_VERIFIED and TWO_FACTOR_REQUIRED only after the right password; THROTTLED and
    OVERLOADED.
    """
    async with guessing(auth, email):
        return await _login(auth, email, password, code, device or Device())


async def _login(auth: Auth, email: str, password: str, code: str | None, device: Device) -> TokenSet:
    user = await auth.tables.user.get_or_none(email=email)
    verification = await auth.hasher.verify(password, user.hashed_password if user else None)
    if user is None or not verification.ok or not user.is_active:
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
    if auth.settings.require_verified_email and not user.is_verified:
        raise AuthError(ErrorCode.EMAIL_NOT_VERIFIED)
    now = auth.clock()
    changes = _changes_of_login(user, code, now)
    if verification.replacement is not None:
        changes["hashed_password"] = verification.replacement
    return await _start(auth, user, changes, device)


async def reauthenticate(
    auth: Auth, authentication: Authentication, password: str, code: str | None = None
) -> None:
    """Makes the session's login recent again. Raises `AuthError(REAUTHENTICATION_FAILED)` when the password
    or code is wrong, TWO_FACTOR_REQUIRED when the code is missing, OVERLOADED."""
    user = authentication.user
    try:
        async with guessing(auth, user.email):
            verification = await auth.hasher.verify(password, user.hashed_password)
            if not verification.ok:
                raise AuthError(ErrorCode.INVALID_CREDENTIALS)
            await _renew(auth, authentication, _changes_of_login(user, code, auth.clock()))
    except AuthError as error:
        if error.code is ErrorCode.INVALID_CREDENTIALS:
            raise AuthError(ErrorCode.REAUTHENTICATION_FAILED) from error
        raise


@transactional
async def _start(auth: Auth, user: AbstractUser, changes: dict[str, Any], device: Device) -> TokenSet:
    await _still_right(auth, user, changes, keep=None)
    return await start_session(auth, user, device)


@transactional
async def _renew(auth: Auth, authentication: Authentication, changes: dict[str, Any]) -> None:
    await _still_right(auth, authentication.user, changes, keep=session_id_of(authentication))
    if authentication.session is not None:
        renewed = auth.tables.session.filter(id=authentication.session.id)
        await renewed.update(authenticated_at=auth.clock())


def _changes_of_login(user: AbstractUser, code: str | None, now: datetime) -> dict[str, Any]:
    """What a login writes to the account, if the second factor allows it."""
    changes: dict[str, Any] = {"last_login_at": now}
    if user.totp_secret is None or (code is None and not user.two_factor_active):
        return changes
    if code is None:
        raise AuthError(ErrorCode.TWO_FACTOR_REQUIRED)
    accepted = twofa.accept_code(user, code, now)
    if accepted is None:
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
    return changes | accepted


async def _still_right(auth: Auth, user: AbstractUser, changes: dict[str, Any], *, keep: UUID | None) -> None:
    """Writes the changes only where password and second factor still are what was checked.

    The row is locked from here on, so that a password change, a reset or the same code in another request
    comes before (and this login fails) or after (and ends this session).
    """
    if not await twofa.store_accepted(
        auth, user, changes, keep=keep, hashed_password=user.hashed_password, is_active=True
    ):
        raise AuthError(ErrorCode.INVALID_CREDENTIALS)
