"""Mail by SMTP (RFC 5321), over connections that stay open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import aiosmtplib

from .. import config
from ..config import LOOPBACK_HOSTS, AuthSettings
from ..security.tls import tls_context
from .base import EmailProvider, MailError, printable
from .message import address_of, build_message, envelope_sender_of
from .refusals import blames_address

MAILS_PER_CONNECTION: Final = 100
"""Servers end connections that send more, some of them in mid-mail."""

FAREWELL_SECONDS: Final = 1.0
"""How long a server may take to say goodbye, while mails may wait."""

FAILURES: Final = (aiosmtplib.SMTPException, OSError, UnicodeError)


@dataclass(slots=True)
class _Connection:
    """A connection, logged in, to the server that the settings named when it was opened."""

    client: aiosmtplib.SMTP
    server: tuple[object, ...]
    loop: asyncio.AbstractEventLoop
    mails: int = 0

    async def hang_up(self) -> None:
        """Never raises: the mails have gone already."""
        with suppress(RuntimeError, *FAILURES):
            if self.loop is asyncio.get_running_loop():
                await self.client.quit(timeout=FAREWELL_SECONDS)
        with suppress(RuntimeError):  # the event loop of the connection may be gone
            self.client.close()


class SMTPProvider(EmailProvider):
    """Sends through the SMTP server of the settings, which are read for every mail.

    A connection is used again, for 100 mails at most; there are as many as mails under way.
    """

    def __init__(self, settings: AuthSettings | None = None) -> None:
        self.settings = config.settings if settings is None else settings
        self._idle: list[_Connection] = []

    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        """Send by SMTP; where there is TLS, it is verified. Raises as `EmailProvider.send`."""
        settings = self.settings
        message = bytes(build_message(settings, to, subject, body, html))
        sender, recipient = envelope_sender_of(settings), address_of(to)
        options = _mail_options(sender, recipient, message)
        async with self._lent() as client:
            await client.sendmail(sender, [recipient], message, mail_options=options)

    async def check(self) -> None:
        """Connect, greet, log in and name the sender. Raises `MailError`, also for a sender that is not an
        address, and before a login in the clear to another machine."""
        settings = self.settings
        message = bytes(build_message(settings, "check@example.com", "", "", None))
        sender = envelope_sender_of(settings)
        remote = host_of(settings) not in LOOPBACK_HOSTS
        if remote and settings.smtp_user and security_of(settings) == "plain":
            raise MailError(
                "AUTH_SMTP_USER and AUTH_SMTP_PASSWORD would be sent in the clear.", permanent=False
            )
        try:
            async with self._lent() as client:
                options = _mail_options(sender, "", message)
                await client.mail(sender, options=options, encoding="utf-8" if options else "ascii")
                await client.rset()
        finally:
            await self.rest()

    async def rest(self) -> None:
        """Hang up, except on connections that send just now."""
        while self._idle:
            await self._idle.pop().hang_up()

    async def close(self) -> None:
        """Hang up; a later mail connects again."""
        await self.rest()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """A connection; what goes wrong on it is a `MailError`, and ends it unless it is an answer."""
        settings = self.settings
        try:
            connection = await self._reusable() or await self._connect()
            try:
                yield connection.client
            except BaseException as error:
                if not isinstance(error, _ANSWERS):
                    connection.client.close()
                raise
            finally:
                connection.mails += 1
                if connection.client.is_connected:
                    self._idle.append(connection)
        except FAILURES as error:
            # `from None`: a server that echoes a failed AUTH command would put the password into tracebacks.
            raise _mail_error(error, settings) from None

    async def _reusable(self) -> _Connection | None:
        """An open connection that the server still listens to."""
        server, loop = _server(self.settings), asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            current = connection.server == server and connection.loop is loop
            if current and connection.mails < MAILS_PER_CONNECTION:
                with suppress(*FAILURES):
                    await connection.client.rset()
                    return connection
            await connection.hang_up()
        return None

    async def _connect(self) -> _Connection:
        settings = self.settings
        security = security_of(settings)
        client = aiosmtplib.SMTP(
            hostname=host_of(settings),
            local_hostname=settings.smtp_helo_name,
            port=settings.smtp_port,
            use_tls=security == "tls",
            start_tls=security == "starttls",
            tls_context=None if security == "plain" else await tls_context(settings.smtp_ca_file),
            username=settings.smtp_user or None,
            password=(settings.smtp_password or "") if settings.smtp_user else None,
            timeout=settings.smtp_timeout,
        )
        try:
            await client.connect()
        except BaseException:
            client.close()
            raise
        return _Connection(client, _server(settings), asyncio.get_running_loop())


_ANSWERS: Final = (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused)


def _mail_options(sender: str, recipient: str, message: bytes) -> list[str]:
    """What MAIL has to ask for (RFC 6531 section 3.4)."""
    return [] if message.isascii() and (sender + recipient).isascii() else ["SMTPUTF8"]


def _server(settings: AuthSettings) -> tuple[object, ...]:
    """Whatever needs another connection when it changes."""
    return (
        settings.smtp_host,
        settings.smtp_helo_name,
        settings.smtp_port,
        security_of(settings),
        settings.smtp_ca_file,
        settings.smtp_user,
        settings.smtp_password,
        settings.smtp_timeout,
    )


def host_of(settings: AuthSettings) -> str:
    """The server, also where an IPv6 address is in brackets, as in a URL."""
    host = settings.smtp_host
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def security_of(settings: AuthSettings) -> str:
    """`tls`, `starttls` or `plain`: what `smtp_security` says, or what the port means."""
    if settings.smtp_security != "auto":
        return settings.smtp_security
    by_port = {465: "tls", 587: "starttls", 25: "plain"}
    return by_port.get(settings.smtp_port, "starttls" if settings.smtp_user else "plain")


def _mail_error(error: Exception, settings: AuthSettings) -> MailError:
    """What went wrong, without a secret. Permanent is only what says that the address is bad: what concerns
    the login, the sender, the relay or a full mailbox can be put right while the mail waits."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return MailError("The SMTP server takes no internationalised addresses.", permanent=False)
    if not isinstance(error, aiosmtplib.SMTPResponseException):
        reason = printable(str(error), settings.smtp_password)
        return MailError(f"The mail was not sent: {type(error).__name__}: {reason}", permanent=False)
    # An answer to AUTH may repeat the password in another form.
    text = "" if isinstance(error, aiosmtplib.SMTPAuthenticationError) else error.message
    to_recipient = isinstance(error, aiosmtplib.SMTPRecipientRefused)
    about_mail = to_recipient or isinstance(error, aiosmtplib.SMTPDataError)
    what = "mail" if about_mail else _REFUSED.get(type(error), "connection")
    reason = f"{error.code} {printable(text, settings.smtp_password)}".rstrip()
    permanent = about_mail and blames_address(error.code, text, to_recipient=to_recipient)
    return MailError(f"The SMTP server refused the {what}: {reason}", permanent=permanent)


_REFUSED: Final = {
    aiosmtplib.SMTPSenderRefused: "sender",
    aiosmtplib.SMTPAuthenticationError: "login",
    aiosmtplib.SMTPHeloError: "greeting",
}
