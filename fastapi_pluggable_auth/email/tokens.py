"""The tokens in mailed links: signed, expiring, for one purpose and one state of the account."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from ..config import AuthSettings
from ..config import settings as default_settings
from ..errors import AuthError, ErrorCode
from ..models import AbstractUser
from ..security.clock import Clock, utc_now
from ..security.jwt import TokenSigner, issued_at_of, subject_of


class Purpose(StrEnum):
    """What a link is for; the scope of its token."""

    VERIFY = "verify"
    RESET = "reset"
    EMAIL_CHANGE = "email_change"
    STOP_EMAIL_CHANGE = "stop_email_change"


@dataclass(frozen=True, slots=True)
class Link:
    """What a valid token says. `state` is None where the token was made without looking at the account."""

    user_id: UUID
    issued_at: datetime
    state: str | None


def link_state(purpose: Purpose, user: AbstractUser) -> str:
    """A digest of what must not have changed since the link was made: any use of the link changes it."""
    pending = (user.email, user.hashed_password, user.pending_email or "", str(user.pending_email_session))
    parts = {
        Purpose.VERIFY: (user.email, str(user.is_verified)),
        Purpose.RESET: (user.email, user.hashed_password),
        Purpose.EMAIL_CHANGE: pending,
        Purpose.STOP_EMAIL_CHANGE: pending,
    }[purpose]
    return hashlib.sha256("\0".join((purpose, *parts)).encode()).hexdigest()[:32]


class LinkSigner:
    """Makes the tokens of mailed links and reads them again."""

    def __init__(self, settings: AuthSettings, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._signer = TokenSigner(settings, clock)

    def lifetime(self, purpose: Purpose) -> timedelta:
        """How long a link works."""
        settings = self._settings
        return settings.reset_token_ttl if purpose is Purpose.RESET else settings.verify_token_ttl

    def generate(self, purpose: Purpose, user_id: UUID | str, state: str | None = None) -> str:
        """A token for this purpose; with the state it dies as soon as the account changes."""
        now = self._clock()
        # To the microsecond: a token without state must lose to a password change just after it.
        claims = {"issued": _microseconds(now)} if state is None else {"state": state}
        return self._signer.sign(
            purpose, user_id, issued_at=now, expires_at=now + self.lifetime(purpose), **claims
        )

    def read(self, purpose: Purpose, token: str) -> Link:
        """What the token says; raises `AuthError(INVALID_LINK)`, whatever is wrong with it."""
        try:
            claims = self._signer.verify(token, purpose)
            issued = claims.get("issued")
            exact = timedelta(microseconds=issued % 1_000_000 if isinstance(issued, int) else 0)
            return Link(subject_of(claims), issued_at_of(claims) + exact, claims.get("state"))
        except AuthError as error:
            raise AuthError(ErrorCode.INVALID_LINK) from error


def _microseconds(moment: datetime) -> int:
    """Since the epoch."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond


def generate_verify_token(user_id: UUID | str) -> str:
    """A verification token on the default settings; it works until the address is verified."""
    return LinkSigner(default_settings).generate(Purpose.VERIFY, user_id)


def generate_reset_token(user_id: UUID | str) -> str:
    """A password reset token on the default settings; it works until the password changes."""
    return LinkSigner(default_settings).generate(Purpose.RESET, user_id)


def verify_and_get_user_id(token: str) -> UUID:
    """The user of a verification token on the default settings; raises `AuthError(INVALID_LINK)`."""
    return LinkSigner(default_settings).read(Purpose.VERIFY, token).user_id


def verify_reset_token(token: str) -> UUID:
    """The user of a password reset token on the default settings; raises `AuthError(INVALID_LINK)`."""
    return LinkSigner(default_settings).read(Purpose.RESET, token).user_id
