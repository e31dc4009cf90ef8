"""Mail by SendGrid's HTTPS API."""

from __future__ import annotations

import json
from typing import Any

import httpx

from .. import config
from ..config import AuthSettings
from ..security.tls import https_context
from .base import EmailProvider, MailError, printable
from .message import AUTO_SUBMITTED, Sender, address_of, one_line, sender_of


class SendGridProvider(EmailProvider):
    """Sends through SendGrid's v3 API; the settings are read for every mail."""

    def __init__(self, settings: AuthSettings | None = None) -> None:
        self.settings = config.settings if settings is None else settings

    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        """POST the mail. Raises as `EmailProvider.send`."""
        settings = self.settings
        content = [{"type": "text/plain", "value": body}]
        if html is not None:
            content.append({"type": "text/html", "value": html})
        sender = sender_of(settings.sendgrid_from_email or settings.email_from)
        mail: dict[str, Any] = {
            "personalizations": [{"to": [{"email": address_of(to)}]}],
            "from": _party(sender),
            "subject": one_line("subject", subject),
            "content": content,
            "headers": {"Auto-Submitted": AUTO_SUBMITTED},
            # Rewritten links would hand every one-time token to a third party.
            "tracking_settings": {
                "click_tracking": {"enable": False, "enable_text": False},
                "open_tracking": {"enable": False},
            },
        }
        if settings.email_reply_to:
            mail["reply_to"] = _party(sender_of(settings.email_reply_to, "AUTH_EMAIL_REPLY_TO"))
        if not settings.sendgrid_api_key:
            raise MailError("AUTH_SENDGRID_API_KEY is not set.", permanent=False)
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
            reason = printable(response.text, settings.sendgrid_api_key)
            permanent = response.status_code == 400 and _blames_address(response.text)
            raise MailError(f"SendGrid answered {response.status_code}: {reason}", permanent=permanent)


def _party(sender: Sender) -> dict[str, str]:
    return {"email": sender.address} | ({"name": sender.name} if sender.name else {})


def _blames_address(answer: str) -> bool:
    """Whether the errors are about the recipient alone: all else can be put right while the mail waits."""
    try:
        errors = json.loads(answer)["errors"]
        fields = [str(error["field"]) for error in errors]
    except (ValueError, KeyError, TypeError):
        return False
    return bool(fields) and all(field.startswith("personalizations.0.to") for field in fields)
