"""The mails of the flows, and when each of them still makes sense."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from ..models import AbstractMail, AbstractUser


class MailKind(StrEnum):
    """The mails of the flows; each is a template of the same name."""

    VERIFY = "verify"
    RESET = "reset"
    MAILBOX_CLAIMED = "mailbox_claimed"
    EMAIL_CHANGE = "email_change"
    STOP_EMAIL_CHANGE = "stop_email_change"
    EMAIL_CHANGED = "email_changed"
    ACCOUNT_EXISTS = "account_exists"
    SIGNUP_CLASH = "signup_clash"
    """To an address without an account."""
    ACCOUNT_DELETED = "account_deleted"
    SESSION_REUSE = "session_reuse"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    TWO_FACTOR_ENABLED = "two_factor_enabled"
    TWO_FACTOR_DISABLED = "two_factor_disabled"
    RECOVERY_CODES_RENEWED = "recovery_codes_renewed"
    RECOVERY_CODE_USED = "recovery_code_used"
    WRONG_CODES = "wrong_codes"
    NEW_DEVICE = "new_device"
    PERSONAL_TOKEN_CREATED = "personal_token_created"  # noqa: S105


TO_FORMER_ADDRESS: Final = frozenset({MailKind.EMAIL_CHANGED, MailKind.ACCOUNT_DELETED})
"""The kinds to an address that was the account's: they go whatever becomes of the account and the address."""

LINK_PATHS: Final = {
    MailKind.VERIFY: "auth/verify/{token}",
    MailKind.RESET: "auth/reset-password/{token}",
    MailKind.EMAIL_CHANGE: "auth/email-change/{token}",
    MailKind.STOP_EMAIL_CHANGE: "auth/stop-email-change/{token}",
}
"""The kinds with a link of the same purpose, and where it leads."""

PAGES: Final = {
    MailKind.ACCOUNT_EXISTS: "sign-in",
    MailKind.SIGNUP_CLASH: "sign-up",
    MailKind.PASSWORD_CHANGED: "forgot-password",
    MailKind.MAILBOX_CLAIMED: "forgot-password",
    MailKind.SESSION_REUSE: "security",
    MailKind.TWO_FACTOR_ENABLED: "security",
    MailKind.TWO_FACTOR_DISABLED: "security",
    MailKind.RECOVERY_CODES_RENEWED: "security",
    MailKind.RECOVERY_CODE_USED: "security",
    MailKind.WRONG_CODES: "security",
    MailKind.NEW_DEVICE: "security",
    MailKind.PERSONAL_TOKEN_CREATED: "security",
}
"""The kinds that ask the reader to act, and the page for it."""


def still_meant(mail: AbstractMail, user: AbstractUser) -> bool:
    """Whether the account is still in the state that the mail speaks of."""
    kind = MailKind(mail.kind)
    if kind is MailKind.VERIFY:
        return user.email == mail.recipient and not user.is_verified
    if kind is MailKind.RESET:
        return user.email == mail.recipient
    if kind is MailKind.EMAIL_CHANGE:
        return user.pending_email == mail.recipient
    if kind is MailKind.STOP_EMAIL_CHANGE:
        return user.email == mail.recipient and user.pending_email == mail.context["new_email"]
    return True
