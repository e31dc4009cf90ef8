"""The mails of the kernel, and all those of an app."""

from __future__ import annotations

from collections.abc import Mapping

from ..features.feature import Features, MailSpec, MailTable, Reader
from ..models import AbstractMail, AbstractUser
from ..security.hashing import is_usable
from .tokens import Purpose


def _to_present_address(mail: AbstractMail, user: AbstractUser) -> bool:
    return user.email == mail.recipient


def _to_unverified(mail: AbstractMail, user: AbstractUser) -> bool:
    return user.email == mail.recipient and not user.is_verified


def _to_invited(mail: AbstractMail, user: AbstractUser) -> bool:
    return _to_unverified(mail, user) and not is_usable(user.hashed_password)


def _to_pending_address(mail: AbstractMail, user: AbstractUser) -> bool:
    return user.pending_email == mail.recipient


def _of_pending_address(mail: AbstractMail, user: AbstractUser) -> bool:
    return user.email == mail.recipient and user.pending_email == mail.context["new_email"]


class MailKind(MailTable):
    """The mails of the kernel."""

    VERIFY = "verify", MailSpec(link=Purpose.VERIFY, code=True, still_applies=_to_unverified)
    RESET = "reset", MailSpec(link=Purpose.RESET, code=True, still_applies=_to_present_address)
    INVITE = "invite", MailSpec(link=Purpose.INVITE, still_applies=_to_invited)
    MAILBOX_CLAIMED = "mailbox_claimed", MailSpec(page="forgot-password")
    EMAIL_CHANGE = (
        "email_change",
        MailSpec(link=Purpose.EMAIL_CHANGE, code=True, still_applies=_to_pending_address),
    )
    STOP_EMAIL_CHANGE = (
        "stop_email_change",
        MailSpec(
            link=Purpose.STOP_EMAIL_CHANGE,
            still_applies=_of_pending_address,
            sample={"new_email": "ada@example.org"},
        ),
    )
    EMAIL_CHANGED = (
        "email_changed",
        MailSpec(reader=Reader.ADDRESS, sample={"new_email": "ada@example.org"}),
    )
    CONFIRMATION = "confirmation", MailSpec(code=True)
    ACCOUNT_EXISTS = "account_exists", MailSpec(page="sign-in")
    SIGNUP_CLASH = (
        "signup_clash",
        MailSpec(reader=Reader.STRANGER, page="sign-up", sample={"columns": "username"}),
    )
    ACCOUNT_DELETED = "account_deleted", MailSpec(reader=Reader.ADDRESS)
    SESSION_REUSE = "session_reuse", MailSpec(page="profile#change-password")
    PASSWORD_CHANGED = "password_changed", MailSpec(page="forgot-password")
    WRONG_CODES = "wrong_codes", MailSpec(page="profile#change-password", sample={"count": 5})
    NEW_DEVICE = (
        "new_device",
        MailSpec(page="profile#change-password", sample={"agent": "Firefox, Linux", "address": "192.0.2.7"}),
    )


def mails_of(features: Features) -> Mapping[str, MailTable]:
    """Every mail of an app by its name. Raises `ValueError` where two have one name."""
    return features.merged("mail", lambda feature: feature.mails or (), kernel=MailKind)
