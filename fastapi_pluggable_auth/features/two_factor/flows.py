"""Two-factor authentication with time-based codes, and recovery codes for when the device is lost."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from ...auth import Auth, transactional
from ...errors import AuthError, ErrorCode, ErrorTable
from ...events import EventTable, Observation, Outcome
from ...flows.authentication import (
    Authentication,
    is_recent,
    observed,
    refuse_impersonation,
    require_recent_login,
)
from ...flows.ends import End, end_access, without_begun
from ...flows.guesses import counted_guess, forget_codes
from ...flows.notices import notify
from ...flows.sessions import add_factors
from ...hooks import TwoFactorDisabled, TwoFactorEnabled
from ...models import AbstractUser, exact, stored_totp_secret
from ...security.encryption import UnreadableSecretError
from ...security.plaintext import Plaintext
from ...security.recovery import generate_recovery_codes, is_recovery_code, recovery_digest
from ...security.totp import generate_totp_secret, matching_step, secret_qr_base64, totp_uri
from ..feature import CountsCodes, MailSpec, MailTable
from .models import SWITCHED_OFF, RecoveryCode

logger = logging.getLogger(__name__)

PENDING_LIFETIME: Final = timedelta(minutes=10)
"""How long a secret is shown and can be confirmed, in the session that began with it."""


class TwoFactorError(ErrorTable):
    """Codes of two-factor authentication; those that any way of signing in may meet are the kernel's."""

    TWO_FACTOR_NOT_STARTED = (400, "Two-factor authentication has not been started.")
    TWO_FACTOR_ENABLED = (409, "Two-factor authentication is already active.")
    TWO_FACTOR_NOT_ACTIVE = (409, "Two-factor authentication is not active.")


class TwoFactorEventKind(EventTable):
    """Security events of two-factor authentication."""

    TWO_FACTOR_ENROLMENT = "two_factor_enrolment"
    TWO_FACTOR_VERIFICATION = "two_factor_verification"
    TWO_FACTOR_ENABLED = "two_factor_enabled"
    TWO_FACTOR_DISABLED = "two_factor_disabled"
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed"
    RECOVERY_CODE_USED = "recovery_code_used"


class TwoFactorMail(MailTable):
    """Mails of two-factor authentication."""

    # Who did not switch it on has no code to sign in with: only a mailed link ends the access of others.
    TWO_FACTOR_ENABLED = "two_factor_enabled", MailSpec(page="forgot-password")
    TWO_FACTOR_DISABLED = "two_factor_disabled", MailSpec(page="security#two-factor")
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed", MailSpec(page="profile#change-password")
    RECOVERY_CODE_USED = (
        "recovery_code_used",
        MailSpec(page="profile#change-password", sample={"remaining": 9}),
    )


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app needs: the secret, and its `otpauth` address as text and as a PNG."""

    secret: str = field(repr=False)
    otpauth_uri: str = field(repr=False)
    qr_base64: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Code:
    """A code that is right: the columns that it compares and writes, or the recovery code that it spends."""

    changes: dict[str, Any] = field(default_factory=dict)
    unchanged: dict[str, Any] = field(default_factory=dict)
    recovery_code: UUID | None = None

    @property
    def factor(self) -> str:
        """Its name (RFC 8176, and one of our own)."""
        return "otp" if self.recovery_code is None else "recovery"

    @property
    def activates(self) -> bool:
        """Whether it is the first right code, from which on two-factor is enforced."""
        return "totp_confirmed" in self.changes

    async def spend(self, auth: Auth, user: AbstractUser) -> bool:
        """Deletes the recovery code and tells the owner; False where another request was faster."""
        if self.recovery_code is None:
            return True
        codes = auth.tables.of(RecoveryCode).filter(user_id=user.id)
        if not await codes.filter(id=self.recovery_code).delete():
            return False
        await notify(auth, TwoFactorMail.RECOVERY_CODE_USED, user, remaining=await codes.count())
        return True

    async def report(self, auth: Auth, observation: Observation) -> None:
        """Emits the events of a code that was stored."""
        if self.activates:
            await auth.events.emit(TwoFactorEventKind.TWO_FACTOR_ENABLED, Outcome.SUCCESS, observation)
        if self.recovery_code is not None:
            await auth.events.emit(TwoFactorEventKind.RECOVERY_CODE_USED, Outcome.SUCCESS, observation)


class AuthenticatorCodes:
    """The codes of an authenticator app, and recovery codes, as a `SecondFactor` of the gate."""

    async def enrolled(self, auth: Auth, user: AbstractUser) -> bool:
        """Whether a right code has confirmed the secret."""
        return user.two_factor_active

    def state(self, user: AbstractUser) -> dict[str, object]:
        """The enrolment."""
        return {"totp_enrolled_at": user.totp_enrolled_at, "totp_confirmed": user.totp_confirmed}

    async def check(
        self, auth: Auth, user: AbstractUser, answer: Plaintext, guess: CountsCodes
    ) -> _Code | None:
        """What follows from a code. Raises `AuthError`: THROTTLED, CODES_LOCKED, TWO_FACTOR_UNAVAILABLE."""
        if answer.look().startswith("{"):  # which a script has made, for another factor
            return None
        await guess.count_code(unguessable=is_recovery_code(answer.look()))
        return await _look_at(auth, user, answer)

    @property
    def removed(self) -> dict[str, Any]:
        """No secret, not even a pending one."""
        return SWITCHED_OFF

    async def report_removal(self, auth: Auth, user: AbstractUser) -> None:
        """Calls the hook."""
        await auth.hooks.fire(TwoFactorDisabled, user)


async def _look_at(auth: Auth, user: AbstractUser, code: Plaintext) -> _Code | None:
    """What follows from a code that is right, None when it is wrong; takes it. Raises
    `AuthError(TWO_FACTOR_UNAVAILABLE)` when the secret cannot be read.

    The first right code after enrolling activates two-factor and leaves its time step unspent, so that a
    login right after it works; every later one spends its step (RFC 6238 section 5.2).
    """
    if is_recovery_code(code.look()):
        digest = recovery_digest(code.take())
        known = await exact(auth.tables.of(RecoveryCode).all(), user_id=user.id, digest=digest)
        return _Code(recovery_code=known.id) if known and user.two_factor_active else None
    try:
        opened = auth.totp_box.open(stored_totp_secret(user) or "", user.id)
        step = matching_step(opened.secret, code.take(), auth.clock(), user.totp_last_step)
    except (UnreadableSecretError, ValueError) as error:
        logger.critical("Two-factor of user %s: %s", user.id, error)
        raise AuthError(ErrorCode.TWO_FACTOR_UNAVAILABLE) from error
    if step is None:
        return None
    changes: dict[str, Any] = (
        {"totp_last_step": step}
        if user.totp_confirmed
        else {"totp_confirmed": True, "totp_pending_session": None}
    )
    if opened.outdated:
        changes["totp_secret"] = auth.totp_box.seal(opened.secret, user.id)
    return _Code(changes, {"totp_last_step": user.totp_last_step})


async def enable(auth: Auth, authentication: Authentication) -> Enrolment:
    """Stores a pending secret and shows it; an earlier pending one is replaced. For ten minutes this session,
    and no other, can confirm it.

    Raises `AuthError`: TWO_FACTOR_ENABLED while two-factor is active, REAUTHENTICATION_REQUIRED.
    """
    user = authentication.user
    async with observed(auth, TwoFactorEventKind.TWO_FACTOR_ENROLMENT, authentication):
        require_recent_login(auth, authentication)
        secret = Plaintext(generate_totp_secret())
        pending = auth.tables.user.filter(id=user.id, totp_confirmed=False)
        if not await pending.update(
            totp_secret=auth.totp_box.seal(secret.look(), user.id),
            totp_enrolled_at=auth.clock(),
            totp_last_step=None,
            totp_pending_session=authentication.session_id,
        ):
            raise AuthError(TwoFactorError.TWO_FACTOR_ENABLED)
    return await _enrolment(auth, user, secret.take())


async def pending_enrolment(auth: Auth, authentication: Authentication) -> Enrolment | None:
    """The secret that `enable` has stored in this session, for ten minutes, until its first right code and
    while the login is recent."""
    user = authentication.user
    if not (_enrolling(auth, authentication) and is_recent(auth, authentication)):
        return None
    try:
        opened = auth.totp_box.open(stored_totp_secret(user) or "", user.id)
        return await _enrolment(auth, user, opened.secret)
    except UnreadableSecretError:
        return None


def _enrolling(auth: Auth, authentication: Authentication) -> bool:
    """Whether the session that asks has a pending secret."""
    user = authentication.user
    if user.two_factor_active or not _is_young(auth, user):
        return False
    return user.totp_pending_session == authentication.session_id


def _is_young(auth: Auth, user: AbstractUser) -> bool:
    """Whether the secret was made just now."""
    made = user.totp_enrolled_at
    return made is not None and auth.clock() - made <= PENDING_LIFETIME


async def _enrolment(auth: Auth, user: AbstractUser, secret: str) -> Enrolment:
    uri = totp_uri(secret, user.email, auth.settings.app_name)
    return Enrolment(secret, uri, await asyncio.to_thread(secret_qr_base64, uri))


async def verify(auth: Auth, authentication: Authentication, code: str | Plaintext) -> None:
    """Activates two-factor with its first right code, in the session that began with it, which ends all other
    sessions; later it spends a code.

    Raises `AuthError`: TWO_FACTOR_NOT_STARTED, INVALID_CODE, THROTTLED, TWO_FACTOR_UNAVAILABLE,
    IMPERSONATION_FORBIDDEN.
    """
    code = Plaintext.of(code)
    user = authentication.user
    async with observed(auth, TwoFactorEventKind.TWO_FACTOR_VERIFICATION, authentication) as observation:
        refuse_impersonation(authentication)
        if not (user.two_factor_active or _enrolling(auth, authentication)):
            raise AuthError(TwoFactorError.TWO_FACTOR_NOT_STARTED)
        # A thief may have begun with another secret, whose codes prove nothing.
        async with counted_guess(auth, user, session_id=authentication.session_id, proves=False):
            accepted = await _look_at(auth, user, code)
            if accepted is None or not await _accept(auth, authentication, accepted):
                raise AuthError(ErrorCode.INVALID_CODE)
        observation.factors = (accepted.factor,)
        await accepted.report(auth, observation)
    if accepted.activates:
        user.update_from_dict(accepted.changes)
        user.update_from_dict(await without_begun(auth, user))
        await auth.hooks.fire(TwoFactorEnabled, user)


async def disable(auth: Auth, authentication: Authentication) -> None:
    """Switches two-factor off, forgets secret and recovery codes, and ends all other sessions.

    Raises `AuthError(REAUTHENTICATION_REQUIRED)`.
    """
    user = authentication.user
    async with observed(auth, TwoFactorEventKind.TWO_FACTOR_DISABLED, authentication):
        require_recent_login(auth, authentication)
        switched_off = await switch_off(auth, user, keep=authentication.session_id)
    if switched_off:
        await forget_codes(auth, user.id)
        await auth.hooks.fire(TwoFactorDisabled, user)


async def renew_recovery_codes(auth: Auth, authentication: Authentication) -> list[str]:
    """Ten new recovery codes, in place of all earlier ones; only their digests are kept. Sends a mail, unless
    they are the first and belong to setting two-factor up, of which there was one.

    Raises `AuthError`: REAUTHENTICATION_REQUIRED, TWO_FACTOR_NOT_ACTIVE.
    """
    async with observed(auth, TwoFactorEventKind.RECOVERY_CODES_RENEWED, authentication):
        require_recent_login(auth, authentication)
        codes = [*map(Plaintext, generate_recovery_codes())]
        digests = [recovery_digest(code.look()) for code in codes]
        await _replace_codes(auth, authentication.user, digests)
    return [code.take() for code in codes]


async def remaining_recovery_codes(auth: Auth, user: AbstractUser) -> int:
    """How many recovery codes are unused."""
    return await auth.tables.of(RecoveryCode).filter(user_id=user.id).count()


@transactional
async def _accept(auth: Auth, authentication: Authentication, accepted: _Code) -> bool:
    """Spends a code, which the session keeps as a factor, only where the second factor still is what was
    looked at. Activating ends all other sessions and sends a mail."""
    user, session_id = authentication.user, authentication.session_id
    same = auth.tables.user.filter(id=user.id, **AuthenticatorCodes().state(user), **accepted.unchanged)
    if accepted.changes and not await same.update(**accepted.changes):
        return False
    if not await accepted.spend(auth, user):
        return False
    if session_id is not None:
        await add_factors(auth, session_id, [accepted.factor])
    if accepted.activates:
        await end_access(auth, user.id, End.SECOND_FACTOR, session_id)
        await notify(auth, TwoFactorMail.TWO_FACTOR_ENABLED, user)
    return True


@transactional
async def switch_off(auth: Auth, user: AbstractUser, *, keep: UUID | None = None) -> bool:
    """Forgets secret and recovery codes. Where two-factor was active, ends every session but the one to keep
    and tells the owner; returns whether it was."""
    enrolled = auth.tables.user.filter(id=user.id, totp_secret__not_isnull=True)
    active = await enrolled.filter(totp_confirmed=True).update(**SWITCHED_OFF)
    if not active:
        await enrolled.update(**SWITCHED_OFF)
    await auth.tables.of(RecoveryCode).filter(user_id=user.id).delete()
    if active:
        await end_access(auth, user.id, End.SECOND_FACTOR, keep)
        await notify(auth, TwoFactorMail.TWO_FACTOR_DISABLED, user)
    begun = await without_begun(auth, user) if active else {}
    user.update_from_dict({**begun, **SWITCHED_OFF})
    return bool(active)


@transactional
async def _replace_codes(auth: Auth, user: AbstractUser, digests: list[str]) -> None:
    # The row is locked from here on: of two renewals at once, the later one's codes are the only ones.
    active = auth.tables.user.filter(id=user.id, totp_confirmed=True)
    if not await active.update(recovery_codes_at=auth.clock()):
        raise AuthError(TwoFactorError.TWO_FACTOR_NOT_ACTIVE)
    table = auth.tables.of(RecoveryCode)
    earlier = await table.filter(user_id=user.id).delete()
    await table.bulk_create([table(user_id=user.id, digest=digest) for digest in digests])
    if earlier or not _is_young(auth, user):
        await notify(auth, TwoFactorMail.RECOVERY_CODES_RENEWED, user)
