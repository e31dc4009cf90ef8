"""A mail as bytes: addresses, headers and parts (RFC 5322, RFC 2047, RFC 6532)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime, make_msgid, quote, unquote
from typing import Any, Final, NamedTuple
from unicodedata import category

import idna

from ..config import AuthSettings
from .base import MailError

AUTO_SUBMITTED: Final = "auto-generated"
"""RFC 3834 section 5: keeps out-of-office replies away."""

_ATOM: Final = r"[\w!#$%&'*+/=?^`{|}~\u0080-\U0010ffff-]+"
LOCAL_PART: Final = re.compile(rf"{_ATOM}(\.{_ATOM})*")
"""A dot-atom (RFC 5322 section 3.2.3, RFC 6532 section 3.2). Quoted local parts are refused."""

HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.IGNORECASE | re.ASCII)

_QUOTED: Final = re.compile(r'"(\\.|[^"\\])*"')
"""A quoted-string (RFC 5322 section 3.2.4)."""

UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that end a line somewhere, or cannot be encoded."""


def build_message(settings: AuthSettings, to: str, subject: str, body: str, html: str | None) -> EmailMessage:
    """The mail as RFC 5322 text with a text part and, if given, an HTML alternative.

    Raises `ValueError` if `to` is not one bare address, `subject` is not one line, or a text is not Unicode;
    a temporary `MailError` if the sender in the settings is wrong.
    """
    sender, recipient = sender_of(settings.email_from), address_of(to)
    reply_to = sender_of(settings.email_reply_to, "AUTH_EMAIL_REPLY_TO") if settings.email_reply_to else None
    ascii_only = f"{sender.address}{reply_to.address if reply_to else ''}{recipient}".isascii()
    message = EmailMessage(policy=_WIRE if ascii_only else _WIRE.clone(utf8=True))
    message["From"] = str(sender)
    if reply_to is not None:
        message["Reply-To"] = str(reply_to)
    message["To"] = recipient
    message["Subject"] = _header_text("Subject", one_line("subject", subject))
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


class Sender(NamedTuple):
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


def one_line(what: str, text: str) -> str:
    """The same text. Raises `ValueError` if it holds a line break or another control character."""
    if any(category(character) in UNPRINTABLE for character in text):
        raise ValueError(f"The {what} of a mail is one line without control characters.")
    return text


def address_of(text: str) -> str:
    """One bare address, its domain in ASCII (RFC 5891).

    Raises `ValueError` for anything else, so that no comma or bracket ever makes a second recipient.
    """
    local, at, domain = one_line("address", text).rpartition("@")
    # IDNA 2008: the 2003 codec of the standard library sends mail for `straße.de` to `strasse.de`.
    host = domain if domain.isascii() else idna.encode(domain, uts46=True).decode()
    if not at or not LOCAL_PART.fullmatch(local) or not HOST.fullmatch(host):
        raise ValueError("The recipient of a mail is one bare address.")
    if any(category(character)[0] in "CZ" for character in local):
        raise ValueError("The address of a mail holds no blanks or invisible characters.")
    return f"{local}@{host}"


def sender_of(text: str, setting: str = "AUTH_EMAIL_FROM or AUTH_SENDGRID_FROM_EMAIL") -> Sender:
    """Name and address of `Name <address>` or of a bare address.

    Raises a temporary `MailError`, which names the setting: the mail can go once that is put right.
    """
    name, bracket, address = text.strip().rpartition("<")
    try:
        if "<" in _QUOTED.sub("", name):
            raise ValueError("Several addresses.")
        return Sender(
            one_line("sender", unquote(name.strip())),
            address_of(address.removesuffix(">") if bracket else address),
        )
    except ValueError as error:
        raise MailError(f"{setting} is not an address.", permanent=False) from error


def envelope_sender_of(settings: AuthSettings) -> str:
    """The address that mails which cannot be delivered come back to (RFC 5321 section 4.1.1.2). Raises as
    `sender_of`."""
    if settings.email_envelope_from:
        return sender_of(settings.email_envelope_from, "AUTH_EMAIL_ENVELOPE_FROM").address
    return sender_of(settings.email_from).address
