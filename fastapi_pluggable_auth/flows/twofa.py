"""Two-factor authentication with time-based codes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ..auth import Auth, transactional
from ..email.outbox import MailKind
from ..errors import AuthError, ErrorCode
from ..models import AbstractUser
from ..security.totp import generate_totp_secret, matching_step, secret_qr_base64, totp_uri
from .notices import notify
from .sessions import Authentication, end_all_sessions, require_recent_login, session_id_of
from .throttle import guessing


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app needs: the `otpauth` address, and the same as a PNG in base64."""

    otpauth_uri: str
    qr_base64: str


def accept_code(user: AbstractUser, code: str, now: datetime) -> dict[str, Any] | None:
    """What to write to the account when the code is right, None when it is wrong.

    The first right code after enrolling activates two-factor and leaves its time step unspent, so that a
    login right after it works; every later one spends its step (RFC 6238 section 5.2).
    """
    step = matching_step(user.totp_secret or "", code, now, user.totp_last_step)
    if step is None:
        return None
    return {"totp_last_step": step} if user.totp_confirmed else {"totp_confirmed": True}


async def store_accepted(
    auth: Auth, user: AbstractUser, changes: dict[str, Any], *, keep: UUID | None, **unchanged: object
) -> bool:
    """Writes what `accept_code` gave, only where the second factor (and what else must be `unchanged`) still
    is what `user` says; returns whether it was. Activating ends all sessions but the one to keep, and is
    told. Belongs inside a transaction."""
    same = auth.tables.user.filter(
        id=user.id,
        totp_secret=user.totp_secret,
        totp_confirmed=user.totp_confirmed,
        totp_last_step=user.totp_last_step,
        **unchanged,
    )
    if not await same.update(**changes):
        return False
    if "totp_confirmed" in changes:
        await end_all_sessions(auth, user.id, keep=keep)
        await notify(auth, MailKind.TWO_FACTOR_ENABLED, user)
    return True


async def enable(auth: Auth, user: AbstractUser) -> Enrolment:
    """Stores a pending secret and shows it; an earlier pending one is replaced.

    Raises `AuthError(TWO_FACTOR_ENABLED)` while two-factor is active.
    """
    secret = generate_totp_secret()
    pending = auth.tables.user.filter(id=user.id, totp_confirmed=False)
    if not await pending.update(totp_secret=secret, totp_last_step=None):
        raise AuthError(ErrorCode.TWO_FACTOR_ENABLED)
    uri = totp_uri(secret, user.email, auth.settings.totp_issuer)
    return Enrolment(uri, await asyncio.to_thread(secret_qr_base64, uri))


async def verify(auth: Auth, authentication: Authentication, code: str) -> None:
    """Activates two-factor with its first right code, which ends all other sessions; later it spends a code.

    Raises `AuthError`: TWO_FACTOR_NOT_STARTED, INVALID_CODE, THROTTLED.
    """
    user = authentication.user
    if user.totp_secret is None:
        raise AuthError(ErrorCode.TWO_FACTOR_NOT_STARTED)
    async with guessing(auth, user.email):
        accepted = accept_code(user, code, auth.clock())
        if accepted is None or not await _accept(auth, authentication, accepted):
            raise AuthError(ErrorCode.INVALID_CODE)


@transactional
async def disable(auth: Auth, authentication: Authentication) -> None:
    """Switches two-factor off, forgets the secret and ends all other sessions.

    Raises `AuthError(REAUTHENTICATION_REQUIRED)`.
    """
    require_recent_login(auth, authentication)
    user = authentication.user
    enrolled = auth.tables.user.filter(id=user.id, totp_secret__not_isnull=True)
    await enrolled.update(totp_secret=None, totp_confirmed=False, totp_last_step=None)
    if user.two_factor_active:
        await end_all_sessions(auth, user.id, keep=session_id_of(authentication))
        await notify(auth, MailKind.TWO_FACTOR_DISABLED, user)


@transactional
async def _accept(auth: Auth, authentication: Authentication, changes: dict[str, Any]) -> bool:
    return await store_accepted(auth, authentication.user, changes, keep=session_id_of(authentication))
