"""The mails and error codes of signing in by mail."""

from __future__ import annotations

from typing import Final

from ...errors import ErrorTable
from ...events import EventTable
from ...models import AbstractMail, AbstractUser
from ..feature import MailSpec, MailTable, Reader

FACTOR: Final = "mail"
"""The name of the factor, in sessions, events and tokens."""

ASK: Final = "email_sign_in"
"""What guards know the asking for a mail by."""

RATE: Final = "email_sign_in"
"""What rate limits know it by."""

PAGE: Final = "auth/email-sign-in/{token}"


class EmailSignInError(ErrorTable):
    """Codes of signing in by mail."""

    SIGN_IN_LINK_REFUSED = (400, "This link was used, or is too old: ask for another mail.")


class EmailSignInEventKind(EventTable):
    """Security events of signing in by mail."""

    EMAIL_SIGN_IN_REQUEST = "email_sign_in_request"


WITHHELD: Final = "withheld"
"""In the context of a mail to a user who may not sign in so: it is stored like any other, and not sent."""


def _is_meant(mail: AbstractMail, user: AbstractUser) -> bool:
    return not mail.context.get(WITHHELD)


class EmailSignInMail(MailTable):
    """Mails of signing in by mail, with a code, a link or both: for the owner of an account, and for somebody
    who is to get one."""

    EMAIL_SIGN_IN = "email_sign_in", MailSpec(code=True, code_page=PAGE, still_applies=_is_meant)
    EMAIL_SIGN_IN_CODE = "email_sign_in_code", MailSpec(code=True, still_applies=_is_meant)
    EMAIL_SIGN_IN_LINK = "email_sign_in_link", MailSpec(code_page=PAGE, still_applies=_is_meant)
    EMAIL_SIGN_UP = "email_sign_up", MailSpec(reader=Reader.ADDRESS, code=True, code_page=PAGE)
    EMAIL_SIGN_UP_CODE = "email_sign_up_code", MailSpec(reader=Reader.ADDRESS, code=True)
    EMAIL_SIGN_UP_LINK = "email_sign_up_link", MailSpec(reader=Reader.ADDRESS, code_page=PAGE)
