"""All settings of the library, put together."""

from __future__ import annotations

from types import MappingProxyType

from .accounts import AccountSettings
from .addresses import AddressSettings
from .administration import AdministrationSettings
from .browsers import BrowserSettings
from .database import DatabaseSettings
from .limits import LimitSettings
from .mail import MailSettings
from .pages import PageSettings
from .passwords import PasswordSettings
from .tokens import TokenSettings
from .urls import origin_of


# The fields of the last base come first, wherever they are listed.
class AuthSettings(
    MailSettings,
    AddressSettings,
    DatabaseSettings,
    PasswordSettings,
    LimitSettings,
    AdministrationSettings,
    AccountSettings,
    PageSettings,
    BrowserSettings,
    TokenSettings,
):
    """The settings. An attribute may be changed at run time; it takes effect on the next request.

    Each is `AUTH_<NAME>` in the environment and in a `.env` file, and `<name>` as a keyword argument, which
    counts for most. Those of 0.1 are also read without the prefix, where they are nowhere with it. Durations
    are read as seconds (`900`), ISO 8601 (`PT15M`) or `HH:MM:SS`. Unknown variables are ignored. Raises
    `ValidationError`, which names what is wrong and shows no secret, and `ValueError` for a file that is not
    UTF-8.
    """

    BARE = frozenset(
        {
            "jwt_secret",
            "jwt_algorithm",
            "access_token_expires",
            "refresh_token_expires",
            "email_from",
            "public_base_url",
            "single_session",
            "verify_token_ttl",
            "reset_token_ttl",
            "totp_issuer",
            "smtp_host",
            "smtp_port",
            "smtp_user",
            "smtp_password",
            "email_provider",
            "sendgrid_api_key",
            "sendgrid_from_email",
        }
    )
    OLDER = MappingProxyType({"totp_issuer": "app_name"})

    @property
    def page_origins(self) -> frozenset[str]:
        """The origins whose pages may act for their visitors."""
        return frozenset({origin_of(self.public_base_url), *self.trusted_origins})

    @property
    def issuer(self) -> str:
        """Who signs the tokens of this deployment."""
        return self.jwt_issuer or self.public_base_url.rstrip("/")

    @property
    def audience(self) -> str:
        """The audience of this deployment's tokens."""
        return self.jwt_audience or self.issuer

    def mailbox_problem(self) -> str | None:
        """What is wrong with the development mailbox, in one sentence."""
        if self.dev_mailbox and not self.is_local:
            return (
                "AUTH_DEV_MAILBOX shows every mail to everybody: it needs an AUTH_PUBLIC_BASE_URL on this "
                "machine."
            )
        return None
