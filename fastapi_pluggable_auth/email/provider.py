"""The providers: SMTP, SendGrid's HTTPS API, and those that keep mail on this machine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ..config import AuthSettings
from .base import EmailProvider, MailError
from .local import ConsoleProvider, FileProvider, MemoryProvider

if TYPE_CHECKING:
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

_MODULES: Final = {
    "SMTPProvider": "smtp",
    "SendGridProvider": "sendgrid",
}


def __getattr__(name: str) -> Any:
    """Imports a provider, and its library, when it is named: an app has one of them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __package__), name)


def provider_for(settings: AuthSettings) -> EmailProvider:
    """The provider that `email_provider` names. Raises `ValueError` if SendGrid has no key."""
    match settings.email_provider:
        case "smtp":
            from .smtp import SMTPProvider

            return SMTPProvider(settings)
        case "sendgrid":
            if not settings.sendgrid_api_key:
                raise ValueError("AUTH_EMAIL_PROVIDER is sendgrid, but AUTH_SENDGRID_API_KEY is not set.")
            from .sendgrid import SendGridProvider

            return SendGridProvider(settings)
        case "file":
            return FileProvider(settings)
        case "memory":
            return MemoryProvider()
        case "console":
            return ConsoleProvider()
