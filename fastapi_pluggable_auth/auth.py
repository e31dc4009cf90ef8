"""`Auth`: the services of one app, built once and shared by its flows and routes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from tortoise.context import TortoiseContext
from tortoise.transactions import in_transaction

from .config import AuthSettings
from .database import DATABASE_ERRORS, is_transient
from .email.outbox import Outbox
from .email.provider import EmailProvider
from .email.sender import Mailer
from .email.tokens import LinkSigner
from .models import Tables
from .security.clock import Clock, utc_now
from .security.hashing import PasswordHasher
from .security.jwt import TokenSigner

TRANSACTION_TRIES: Final = 5

P = ParamSpec("P")
T = TypeVar("T")


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

    async def close(self) -> None:
        """Ends the hashing threads and the mail connection; a later use opens them again."""
        self.hasher.close()
        await self.mailer.close()


def transactional(
    flow: Callable[Concatenate[Auth, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Auth, P], Coroutine[Any, Any, T]]:
    """Runs a flow in one transaction on the database that holds the accounts; whatever it raises rolls back.

    Where the database ends it to break a deadlock, it runs again, a bounded number of times.
    """

    @wraps(flow)
    async def run(auth: Auth, /, *args: P.args, **kwargs: P.kwargs) -> T:
        for tries_left in reversed(range(TRANSACTION_TRIES)):
            try:
                async with in_transaction(auth.tables.user._meta.default_connection):
                    return await flow(auth, *args, **kwargs)
            except DATABASE_ERRORS as error:
                if not tries_left or not is_transient(error):
                    raise
        raise AssertionError("unreachable")

    return run
