"""The tokens in mailed links: signed, expiring, for one purpose and one state of the account."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from .. import config
from ..config import AuthSettings
from ..errors import AuthError, ErrorCode
from ..features.feature import Features, LinkSpec, LinkTable
from ..models import AbstractUser
from ..security.clock import Clock, utc_now
from ..security.jwt import LEEWAY_SECONDS, claims_of_0_1, subject_of
from ..security.keys import SignatureError, key_set
from ..security.links import TO_MOMENT, TO_STATE, SignedLink, moment_as_bytes, moment_of, open_link, sign_link


def _pending_address(user: AbstractUser) -> tuple[str, ...]:
    return (user.email, user.password_id, user.pending_email or "", str(user.pending_email_session))


class Purpose(LinkTable):
    """The one-time links of the kernel, by what they are for."""

    VERIFY = (
        "verify",
        LinkSpec(
            path="auth/verify/{token}",
            lifetime=lambda settings: settings.verify_token_ttl,
            state=lambda user: (user.email, str(user.is_verified)),
            front_end=lambda settings: settings.verify_url,
        ),
    )
    RESET = (
        "reset",
        LinkSpec(
            path="auth/reset-password/{token}",
            lifetime=lambda settings: settings.reset_token_ttl,
            state=lambda user: (user.email, user.password_id),
            front_end=lambda settings: settings.reset_url,
        ),
    )
    INVITE = (
        "invite",
        LinkSpec(
            path="auth/invite/{token}",
            lifetime=lambda settings: settings.invite_token_ttl,
            state=lambda user: (user.email, user.password_id, str(user.is_verified)),
            front_end=lambda settings: settings.invite_url,
        ),
    )
    EMAIL_CHANGE = (
        "email_change",
        LinkSpec(
            path="auth/email-change/{token}",
            lifetime=lambda settings: settings.verify_token_ttl,
            state=_pending_address,
            front_end=lambda settings: settings.email_change_url,
        ),
    )
    STOP_EMAIL_CHANGE = (
        "stop_email_change",
        LinkSpec(
            path="auth/stop-email-change/{token}",
            lifetime=lambda settings: settings.verify_token_ttl,
            state=_pending_address,
        ),
    )


@dataclass(frozen=True, slots=True)
class Link:
    """What a valid token says: the state that it was made for, or where it was made without looking at the
    account, when."""

    user_id: UUID
    state: bytes | None
    issued_at: datetime | None


def link_state(purpose: LinkTable, user: AbstractUser) -> bytes:
    """A digest of what must not have changed since the link was made: any use of the link changes it. Another
    hash of the same password does not."""
    return hashlib.sha256("\0".join((purpose, *purpose.spec.state(user))).encode()).digest()[:16]


class LinkSigner:
    """Makes the tokens of mailed links and reads them again."""

    def __init__(self, settings: AuthSettings, clock: Clock = utc_now) -> None:
        self._settings = settings
        self._clock = clock

    def lifetime(self, purpose: LinkTable) -> timedelta:
        """How long a link works."""
        return purpose.spec.lifetime(self._settings)

    def generate(self, purpose: LinkTable, user_id: UUID | str, state: bytes | None = None) -> str:
        """A token for this purpose; with the state it dies as soon as the account changes."""
        now = self._clock()
        form, bound = (TO_MOMENT, moment_as_bytes(now)) if state is None else (TO_STATE, state)
        link = SignedLink(form, UUID(str(user_id)), now + self.lifetime(purpose), bound)
        return sign_link(key_set(self._settings), self._use(purpose), link)

    def read(self, purpose: LinkTable, token: str) -> Link:
        """What the token says; raises `AuthError(INVALID_LINK)`, whatever is wrong with it."""
        if not isinstance(token, str):
            raise AuthError(ErrorCode.INVALID_LINK)
        try:
            # What 0.1 mailed is a JSON Web Token, with dots.
            return self._read_of_0_1(purpose, token) if "." in token else self._read(purpose, token)
        except (AuthError, SignatureError) as error:
            raise AuthError(ErrorCode.INVALID_LINK) from error

    def _read(self, purpose: LinkTable, token: str) -> Link:
        signed = open_link(key_set(self._settings), self._use(purpose), token)
        if self._clock() >= signed.expires_at:
            raise SignatureError
        if signed.form == TO_STATE:
            return Link(signed.user_id, signed.bound, None)
        return Link(signed.user_id, None, moment_of(signed))

    def _read_of_0_1(self, purpose: LinkTable, token: str) -> Link:
        """A link of 0.1, which says when it ends and not when it was made."""
        claims = claims_of_0_1(key_set(self._settings), token, purpose)
        now, expires_at = self._clock(), datetime.fromtimestamp(claims["exp"], UTC)
        issued_at = expires_at - self.lifetime(purpose)
        # From the future: its lifetime was another, and what it is older than is unknown.
        if now >= expires_at or issued_at > now + timedelta(seconds=LEEWAY_SECONDS):
            raise SignatureError
        return Link(subject_of(claims), None, issued_at)

    def _use(self, purpose: LinkTable) -> str:
        """The links of another deployment with the same key are not ours."""
        return "\0".join((purpose, self._settings.issuer, self._settings.audience))


def require_distinct_links(features: Features) -> None:
    """Raises `ValueError` where two one-time links have one purpose: a token of one would be good for the
    other."""
    features.merged("one-time link", lambda feature: feature.links or (), kernel=Purpose)


def generate_verify_token(user_id: UUID | str) -> str:
    """A verification token on the default settings; it works until an address is verified, or the password
    changes."""
    return LinkSigner(config.settings).generate(Purpose.VERIFY, user_id)


def generate_reset_token(user_id: UUID | str) -> str:
    """A password reset token on the default settings; it works until the password changes, or an address is
    verified."""
    return LinkSigner(config.settings).generate(Purpose.RESET, user_id)


def verify_and_get_user_id(token: str) -> UUID:
    """The user of a verification token on the default settings; raises `AuthError(INVALID_LINK)`."""
    return LinkSigner(config.settings).read(Purpose.VERIFY, token).user_id


def verify_reset_token(token: str) -> UUID:
    """The user of a password reset token on the default settings; raises `AuthError(INVALID_LINK)`."""
    return LinkSigner(config.settings).read(Purpose.RESET, token).user_id
