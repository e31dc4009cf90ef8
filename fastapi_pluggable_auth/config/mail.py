"""Mail."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field

from .base import Settings
from .values import LANGUAGE, CommaSeparated, Duration, LanguageTag, OneLine


class MailSettings(Settings):
    """Mail."""

    email_provider: Literal["smtp", "sendgrid", "console", "file", "memory"] = Field(
        default="smtp",
        description="How mail leaves: SMTP or SendGrid's API; `console`, `file` or `memory` for development.",
    )
    email_from: str = Field(
        default="no-reply@example.com", description="Sender; `Name <address>` is allowed."
    )
    email_reply_to: str | None = Field(
        default=None, description="Where replies go; `Name <address>` is allowed. Empty: to the sender."
    )
    email_envelope_from: str | None = Field(
        default=None,
        description="Address that undeliverable mails come back to, by SMTP; the sender's when empty.",
    )
    email_file_dir: Path = Field(
        default=Path("mails"), description="Folder for the `.eml` files of `EMAIL_PROVIDER=file`."
    )
    dev_mailbox: bool = Field(
        default=False,
        description="Show the mails of `EMAIL_PROVIDER=memory` at `/dev/mailbox`. For development only.",
    )
    code_in_subject: bool = Field(
        default=False,
        description="Put the code of a mail into its subject as well. Phones show that to anybody, also while"
        " they are locked.",
    )
    email_max_age: Duration = Field(
        default=timedelta(days=3),
        description="How long a mail may wait: one that could not be delivered for so long is given up.",
    )
    mail_concurrency: int = Field(
        default=4,
        ge=1,
        description="Mails that a worker sends at a time, each on its own SMTP connection.",
    )
    deliver_mail: bool = Field(
        default=True,
        description="Send mail from the app; off where `fastapi-pluggable-auth mail run` does.",
    )
    default_language: str = Field(
        default="en",
        pattern=LANGUAGE,
        description="Language of mails and pages for readers whose own is unknown or not offered.",
    )
    languages: CommaSeparated[LanguageTag] = Field(
        default=[],
        description="Languages that pages, mails and error sentences are offered in, such as `en,fr`; empty:"
        " all that have words.",
    )
    mail_retention: Duration = Field(
        default=timedelta(days=30),
        description="How long mails that were sent or given up stay in the database.",
    )
    template_dir: Path | None = Field(
        default=None, description="Folder whose files override the mail and page templates of the same name."
    )
    smtp_host: OneLine = Field(default="localhost", description="SMTP server.")
    smtp_helo_name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._:\[\]-]+$",
        description="Name that the app greets the SMTP server with; this machine's own when empty.",
    )
    smtp_port: int = Field(
        default=587, ge=1, le=65535, description="SMTP port: 587 STARTTLS, 465 TLS, 25 plain."
    )
    smtp_user: OneLine | None = Field(default=None, description="SMTP login; empty for none.")
    smtp_password: OneLine | None = Field(default=None, repr=False, description="Password of the SMTP login.")
    smtp_security: Literal["auto", "starttls", "tls", "plain"] = Field(
        default="auto",
        description="Transport security; `auto` follows the port, STARTTLS for a login on any other.",
    )
    smtp_ca_file: Path | None = Field(
        default=None, description="Certificate authority (PEM) of the mail server; the system's when empty."
    )
    smtp_timeout: float = Field(
        default=10, gt=0, le=60, description="Seconds that one SMTP or HTTPS step may take, 60 at most."
    )
    sendgrid_api_key: OneLine | None = Field(default=None, repr=False, description="SendGrid API key.")
    sendgrid_from_email: str | None = Field(
        default=None, description="Sender for SendGrid; `EMAIL_FROM` when empty."
    )
    sendgrid_url: str = Field(
        default="https://api.sendgrid.com/v3/mail/send",
        description="SendGrid endpoint; the EU region has its own.",
    )
