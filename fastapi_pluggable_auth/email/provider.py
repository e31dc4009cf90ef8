"""How a mail leaves: SMTP, SendGrid's HTTPS API, or the console."""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, make_msgid, quote, unquote
from typing import Any, Final, NamedTuple, TextIO
from unicodedata import category

import aiosmtplib
import httpx
import idna

from ..config import LOOPBACK_HOSTS, AuthSettings
from ..config import settings as default_settings
from ..security.https import https_context

AUTO_SUBMITTED: Final = "auto-generated"
"""RFC 3834 section 5: keeps out-of-office replies away."""

_ATOM: Final = r"[\w!#$%&'*+/=?^`{|}~\u0080-\U0010ffff-]+"
LOCAL_PART: Final = re.compile(rf"{_ATOM}(\.{_ATOM})*")
"""A dot-atom (RFC 5322 section 3.2.3, RFC 6532 section 3.2). Quoted local parts are refused."""

HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE | re.ASCII)

UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that end a line somewhere, or cannot be encoded."""

SMTP_LOGIN_CODES: Final = frozenset({530, 534, 535, 538})
"""RFC 4954 section 6: the server wants another login, which is our fault and not the mail's."""


class MailError(Exception):
    """The mail was not accepted. `permanent` says that trying again is pointless: it was refused for good."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class EmailProvider(ABC):
    """A way for mails to leave."""

    @abstractmethod
    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        """Hand over one mail to one recipient.

        Raises `MailError` if it was not accepted. Raises `ValueError`, before anything is sent, if `to` is
        not one bare address or `subject` is not one line.
        """

    async def check(self) -> None:  # noqa: B027 (not every provider can tell)
        """Raise `MailError` if mails could not leave now; sends none."""

    async def close(self) -> None:  # noqa: B027 (most providers hold nothing)
        """Release what the provider holds."""


class SMTPProvider(EmailProvider):
    """Sends through the SMTP server of the settings, which are read for every mail; one connection each."""

    def __init__(self, settings: AuthSettings = default_settings) -> None:
        self.settings = settings

    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        """Send by SMTP (RFC 5321); where there is TLS, it is verified. Raises as `EmailProvider.send`."""
        settings = self.settings
        message = build_message(settings, to, subject, body, html)
        sender, recipient = _sender(settings.email_from).address, _address(to)
        options = [] if (sender + recipient).isascii() else ["SMTPUTF8"]
        async with self._connection() as client:
            await client.sendmail(sender, [recipient], bytes(message), mail_options=options)

    async def check(self) -> None:
        """Connect and log in. Raises `MailError`, also before a login in the clear to another machine."""
        settings = self.settings
        remote = settings.smtp_host not in LOOPBACK_HOSTS
        if remote and settings.smtp_user and _security(settings) == "plain":
            raise MailError("SMTP_USER and SMTP_PASSWORD would be sent in the clear.", permanent=False)
        async with self._connection():
            pass

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """A connection, logged in; what goes wrong on it is raised as `MailError`."""
        settings = self.settings
        security = _security(settings)
        client = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            use_tls=security == "tls",
            start_tls=security == "starttls",
            cert_bundle=str(settings.smtp_ca_file) if settings.smtp_ca_file else None,
            username=settings.smtp_user or None,
            password=(settings.smtp_password or "") if settings.smtp_user else None,
            timeout=settings.smtp_timeout,
        )
        try:
            async with client:
                yield client
        except (aiosmtplib.SMTPException, OSError, UnicodeError) as error:
            # `from None`: a server that echoes a failed AUTH command would put the password into tracebacks.
            raise _smtp_error(error, settings) from None


class SendGridProvider(EmailProvider):
    """Sends through SendGrid's v3 API; the settings are read for every mail."""

    def __init__(self, settings: AuthSettings = default_settings) -> None:
        self.settings = settings

    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        """POST the mail. Raises as `EmailProvider.send`."""
        settings = self.settings
        content = [{"type": "text/plain", "value": body}]
        if html is not None:
            content.append({"type": "text/html", "value": html})
        sender = _sender(settings.sendgrid_from_email or settings.email_from)
        mail = {
            "personalizations": [{"to": [{"email": _address(to)}]}],
            "from": {"email": sender.address} | ({"name": sender.name} if sender.name else {}),
            "subject": _one_line("subject", subject),
            "content": content,
            "headers": {"Auto-Submitted": AUTO_SUBMITTED},
            # Rewritten links would hand every one-time token to a third party.
            "tracking_settings": {
                "click_tracking": {"enable": False, "enable_text": False},
                "open_tracking": {"enable": False},
            },
        }
        if not settings.sendgrid_api_key:
            raise MailError("SENDGRID_API_KEY is not set.", permanent=False)
        try:
            # A client per mail is cheap once its TLS context exists, and outlives no event loop.
            verify = await https_context()
            async with httpx.AsyncClient(verify=verify, timeout=settings.smtp_timeout) as client:
                response = await client.post(
                    settings.sendgrid_url,
                    json=mail,
                    headers={"Authorization": f"Bearer {settings.sendgrid_api_key}"},
                )
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
            # The text of an "illegal header value" error is the key itself.
            raise MailError(f"SendGrid was not reached: {type(error).__name__}.", permanent=False) from None
        if not response.is_success:
            reason = _printable(response.text, settings.sendgrid_api_key)
            # 401 and 403 are about our key: the mail can still go once it is put right.
            permanent = response.is_client_error and response.status_code not in {401, 403, 429}
            raise MailError(f"SendGrid answered {response.status_code}: {reason}", permanent=permanent)


class ConsoleProvider(EmailProvider):
    """Prints every mail, for development. `stream` defaults to the standard output of the moment."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream

    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        """Print the text of the mail. Raises `ValueError` as `EmailProvider.send`."""
        ruler = "-" * 78
        stream = self.stream or sys.stdout
        head = f"To: {_address(to)}\nSubject: {_one_line('subject', subject)}"
        stream.write(f"{ruler}\n{head}\n\n{body.strip()}\n{ruler}\n")
        stream.flush()


def provider_for(settings: AuthSettings) -> EmailProvider:
    """The provider that `email_provider` names. Raises `ValueError` if SendGrid has no key."""
    if settings.email_provider == "console":
        return ConsoleProvider()
    if settings.email_provider == "smtp":
        return SMTPProvider(settings)
    if not settings.sendgrid_api_key:
        raise ValueError("EMAIL_PROVIDER is sendgrid, but SENDGRID_API_KEY is not set.")
    return SendGridProvider(settings)


def build_message(settings: AuthSettings, to: str, subject: str, body: str, html: str | None) -> EmailMessage:
    """The mail as RFC 5322 text with a text part and, if given, an HTML alternative.

    Raises `ValueError` if `to` is not one bare address, `subject` is not one line, or a text is not Unicode;
    a temporary `MailError` if the sender in the settings is wrong.
    """
    sender, recipient = _sender(settings.email_from), _address(to)
    ascii_only = (sender.address + recipient).isascii()
    message = EmailMessage(policy=_WIRE if ascii_only else _WIRE.clone(utf8=True))
    message["From"] = str(sender)
    message["To"] = recipient
    message["Subject"] = _header_text("Subject", _one_line("subject", subject))
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain=sender.address.rpartition("@")[2])
    message["Auto-Submitted"] = AUTO_SUBMITTED
    message.set_content(body, charset="utf-8")
    if html is not None:
        message.add_alternative(html, subtype="html", charset="utf-8")
    return message


class _Wire(EmailPolicy):
    """Header lines go out exactly as they were set.

    Python's own header classes (seen in 3.11.7) decode encoded words in what they are given, so that
    `=?utf-8?q?=0D=0ABcc:..?=` in a subject becomes a header, and lose the quotes of a display name they fold.
    """

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        return name, value


# Seven bits pass every relay, and keep the signatures that a relay adds valid.
_WIRE: Final = _Wire(linesep="\r\n", cte_type="7bit", refold_source="none")


class _Sender(NamedTuple):
    name: str
    address: str

    def __str__(self) -> str:
        """The value of a From header."""
        return (
            f"{_header_text('From', self.name, quoted=True)} <{self.address}>" if self.name else self.address
        )


def _header_text(header: str, text: str, *, quoted: bool = False) -> str:
    """Free text as a header value: folded encoded words (RFC 2047) where ASCII does not do."""
    if not text.isascii() or "=?" in text:
        return Header(text, "utf-8", header_name=header).encode(linesep="\r\n")
    return f'"{quote(text)}"' if quoted else text


def _one_line(what: str, text: str) -> str:
    """The same text. Raises `ValueError` if it holds a line break or another control character."""
    if any(category(character) in UNPRINTABLE for character in text):
        raise ValueError(f"The {what} of a mail is one line without control characters.")
    return text


def _address(text: str) -> str:
    """One bare address, its domain in ASCII (RFC 5891).

    Raises `ValueError` for anything else, so that no comma or bracket ever makes a second recipient.
    """
    local, at, domain = _one_line("address", text).rpartition("@")
    # IDNA 2008: the 2003 codec of the standard library sends mail for `straße.de` to `strasse.de`.
    host = domain if domain.isascii() else idna.encode(domain, uts46=True).decode()
    if not at or not LOCAL_PART.fullmatch(local) or not HOST.fullmatch(host):
        raise ValueError("The recipient of a mail is one bare address.")
    if any(category(character)[0] in "CZ" for character in local):
        raise ValueError("The address of a mail holds no blanks or invisible characters.")
    return f"{local}@{host}"


def _sender(text: str) -> _Sender:
    """Name and address of `Name <address>` or of a bare address.

    Raises a temporary `MailError`: the mail can go once the setting is put right.
    """
    name, bracket, address = text.strip().rpartition("<")
    try:
        return _Sender(
            _one_line("sender", unquote(name.strip())),
            _address(address.removesuffix(">") if bracket else address),
        )
    except ValueError as error:
        raise MailError("EMAIL_FROM or SENDGRID_FROM_EMAIL is no sender.", permanent=False) from error


def _security(settings: AuthSettings) -> str:
    """`tls`, `starttls` or `plain`: what `smtp_security` says, or what the port means."""
    if settings.smtp_security != "auto":
        return settings.smtp_security
    by_port = {465: "tls", 587: "starttls", 25: "plain"}
    return by_port.get(settings.smtp_port, "starttls" if settings.smtp_user else "plain")


def _smtp_error(error: Exception, settings: AuthSettings) -> MailError:
    """What went wrong, without a secret. A 5xx about the mail is permanent (RFC 5321 section 4.2.1)."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        error = error.recipients[0]
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return MailError("The SMTP server takes no internationalised addresses.", permanent=True)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        about_mail = isinstance(
            error, (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError)
        )
        if not about_mail:
            return MailError(
                f"The SMTP server refused us: {type(error).__name__} {error.code}.", permanent=False
            )
        reason = _printable(error.message, settings.smtp_password)
        permanent = error.code >= 500 and error.code not in SMTP_LOGIN_CODES
        return MailError(f"The SMTP server refused the mail: {error.code} {reason}", permanent=permanent)
    reason = _printable(str(error), settings.smtp_password)
    return MailError(f"The mail was not sent: {type(error).__name__}: {reason}", permanent=False)


def _printable(text: str, secret: str | None) -> str:
    """The start of a server's answer on one line, without the secret."""
    line = " ".join(text.split())
    return (line.replace(secret, "***") if secret else line)[:200]
