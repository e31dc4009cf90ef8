"""Where the links of mails lead: pages of the app, or of its front-end."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from ..config import AuthSettings
from ..features.feature import MailTable


def link_url(settings: AuthSettings, kind: MailTable, token: str) -> str:
    """Where the one-time link of such a mail leads."""
    assert kind.spec.link is not None  # noqa: S101 - asked for those that have one
    link = kind.spec.link.spec
    front_end = link.front_end(settings)
    page = _absolute(settings, front_end) if front_end else settings.public_url(link.path)
    return page.replace("{token}", token)


def page_url(settings: AuthSettings, kind: MailTable, *, pages: bool) -> str:
    """Where the reader of such a mail acts: the page of the front-end, the built-in one where the app has
    `pages`, or else the app."""
    page = kind.spec.page
    front_end = {
        "sign-in": settings.sign_in_url,
        "sign-up": settings.sign_up_url,
        "forgot-password": settings.forgot_password_url,
        "profile": settings.security_url,
        "security": settings.security_url,
    }.get(re.split("[/#]", page)[0])
    if front_end:
        return _absolute(settings, front_end)
    return settings.public_url(f"account/{page}") if pages else settings.public_base_url


def code_host(settings: AuthSettings, url: str) -> str:
    """The host where the code of a mail is entered: of the front-end, of the link beside it, or of the app.
    Browsers fill a code in there alone (WICG, origin-bound one-time codes)."""
    return urlsplit(_absolute(settings, settings.sign_in_url or url)).hostname or ""


def _absolute(settings: AuthSettings, front_end: str) -> str:
    """The address of a page of the front-end, which may be a path on the host of the app."""
    return urljoin(settings.public_base_url, front_end)
