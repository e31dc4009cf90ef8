"""`Auth`: the services of one app, built once and shared by its flows and routes."""

from __future__ import annotations

from tortoise.backends.base.client import TransactionContext
from tortoise.context import TortoiseContext
from tortoise.transactions import in_transaction

from .config import AuthSettings
from .email.outbox import Outbox
from .email.provider import EmailProvider
from .email.sender import Mailer
from .email.tokens import LinkSigner
from .models import Tables
from .security.clock import Clock, utc_now
from .security.hashing import PasswordHasher
from .security.jwt import TokenSigner


class Auth:
    """Everything that belongs to one app: settings, clock, tables, tokens, password hashing and mail.

    `include_auth` makes one and keeps it on `app.state`; a script makes its own to call the flows.
    """

    def __init__(
        self,
        settings: AuthSettings,
        *,
        clock: Clock = utc_now,
        email_provider: EmailProvider | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.tables = Tables()
        self.signer = TokenSigner(settings, clock)
        self.links = LinkSigner(settings, clock)
        self.hasher = PasswordHasher(settings)
        self.mailer = Mailer(settings, email_provider)
        self.outbox = Outbox(settings, self.tables, self.mailer, self.links, clock)
        self.tortoise_context: TortoiseContext | None = None

    def transaction(self) -> TransactionContext:
        """A transaction on the database that holds the accounts."""
        return in_transaction(self.tables.user._meta.default_connection)

    async def close(self) -> None:
        """Ends the hashing threads and the mail connection; a later use opens them again."""
        self.hasher.close()
        await self.mailer.close()
