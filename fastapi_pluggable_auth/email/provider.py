"""The providers: SMTP, SendGrid's HTTPS API, and those that keep mail on this machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..config import AuthSettings
from .base import EmailProvider, MailError
from .local import ConsoleProvider, FileProvider, MemoryProvider
from .sendgrid import SendGridProvider
from .smtp import SMTPProvider

__all__ = [
    "ConsoleProvider",
    "EmailProvider",
    "FileProvider",
    "MailError",
    "MemoryProvider",
    "SMTPProvider",
    "SendGridProvider",
    "provider_for",
]

_PROVIDERS: Final[dict[str, Callable[[AuthSettings], EmailProvider]]] = {
    "smtp": SMTPProvider,
    "sendgrid": SendGridProvider,
    "console": lambda _: ConsoleProvider(),
    "file": FileProvider,
    "memory": lambda _: MemoryProvider(),
}


def provider_for(settings: AuthSettings) -> EmailProvider:
    """The provider that `email_provider` names. Raises `ValueError` if SendGrid has no key."""
    if settings.email_provider == "sendgrid" and not settings.sendgrid_api_key:
        raise ValueError("EMAIL_PROVIDER is sendgrid, but SENDGRID_API_KEY is not set.")
    return _PROVIDERS[settings.email_provider](settings)
