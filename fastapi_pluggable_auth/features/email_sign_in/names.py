"""The mails and error codes of signing in by mail."""

from __future__ import annotations

from typing import Final

from ...errors import ErrorTable
from ...events import EventTable
from ..feature import MailSpec, MailTable, Reader

FACTOR: Final = "mail"
"""The name of the factor, in sessions, events and tokens."""

ASK: Final = "email_sign_in"
"""What guards know the asking for a mail by."""

PAGE: Final = "auth/email-sign-in/{token}"


class EmailSignInError(ErrorTable):
    """Codes of signing in by mail."""

    SIGN_IN_LINK_REFUSED = (400, "This link was used, or is too old: ask for another mail.")


class EmailSignInEventKind(EventTable):
    """Security events of signing in by mail."""

    EMAIL_SIGN_IN_REQUEST = "email_sign_in_request"


class EmailSignInMail(MailTable):
    """Mails of signing in by mail: for the owner of an account, and for somebody who is to get one."""

    EMAIL_SIGN_IN = "email_sign_in", MailSpec(code=True, code_page=PAGE)
    EMAIL_SIGN_UP = "email_sign_up", MailSpec(reader=Reader.ADDRESS, code=True, code_page=PAGE)
