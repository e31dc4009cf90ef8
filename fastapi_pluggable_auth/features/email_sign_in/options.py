"""How an app signs in by mail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...auth import Auth
from .names import EmailSignInMail


class EmailSignInOptions(NamedTuple):
    """What the mails have, whether anybody may sign up by one, and which users may sign in so."""

    code: bool
    link: bool
    signup: bool
    allowed: Callable[[Any], bool]

    @property
    def mail(self) -> EmailSignInMail:
        """The mail for the owner of an account."""
        if self.code and self.link:
            return EmailSignInMail.EMAIL_SIGN_IN
        return EmailSignInMail.EMAIL_SIGN_IN_CODE if self.code else EmailSignInMail.EMAIL_SIGN_IN_LINK

    @property
    def sign_up_mail(self) -> EmailSignInMail:
        """The mail for somebody who is to get an account."""
        if self.code and self.link:
            return EmailSignInMail.EMAIL_SIGN_UP
        return EmailSignInMail.EMAIL_SIGN_UP_CODE if self.code else EmailSignInMail.EMAIL_SIGN_UP_LINK


def options_of(auth: Auth) -> EmailSignInOptions:
    """Those of the app."""
    found: EmailSignInOptions = auth.features.options_of("email_sign_in")
    return found
