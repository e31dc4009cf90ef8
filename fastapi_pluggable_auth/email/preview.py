"""Every mail on sample data, as files to look at."""

from __future__ import annotations

from html import escape
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, Final
from uuid import uuid4

from ..config import AuthSettings
from .addresses import link_url, page_url
from .kinds import LINK_PATHS, PAGES, MailKind
from .rendering import missing_parts, render
from .template_folders import available_languages
from .tokens import LinkSigner, Purpose

_SAMPLE: Final = {"email": "ada@example.com", "when": "2026-01-31 12:00 UTC"}
_MORE: Final[dict[MailKind, dict[str, Any]]] = {
    MailKind.STOP_EMAIL_CHANGE: {"new_email": "ada@example.org"},
    MailKind.SIGNUP_CLASH: {"columns": "username"},
    MailKind.EMAIL_CHANGED: {"new_email": "ada@example.org"},
    MailKind.RECOVERY_CODE_USED: {"remaining": 9},
    MailKind.WRONG_CODES: {"count": 5},
    MailKind.NEW_DEVICE: {"agent": "Firefox, Linux", "address": "192.0.2.7"},
    MailKind.PERSONAL_TOKEN_CREATED: {"name": "backup script", "scopes": "notes:read, notes:write"},
}


def sample(settings: AuthSettings, kind: MailKind, *, pages: bool) -> dict[str, Any]:
    """What the template of a mail is given, with a link such as these settings make; nobody accepts it."""
    context = {**_SAMPLE, **_MORE.get(kind, {})}
    if kind in PAGES:
        context["page_url"] = page_url(settings, kind, pages=pages)
    if kind in LINK_PATHS:
        unknown = {"jwt_secret": token_urlsafe(48), "jwt_algorithm": "HS256"}
        links, purpose = LinkSigner(settings.model_copy(update=unknown)), Purpose(kind.value)
        context["url"] = link_url(settings, kind, links.generate(purpose, uuid4(), bytes(16)))
        context["lifetime"] = links.lifetime(purpose)
    return context


def write_previews(settings: AuthSettings, folder: Path, *, pages: bool) -> dict[str, list[str]]:
    """Writes each mail in each language as `<language>/<name>.txt` and `.html`, and an `index.html`; `pages`
    says that the app has the built-in ones.

    Returns, for each language, the templates that it lacks; those mails are in another language. Raises
    `TemplateError` for a broken template, and `OSError`.
    """
    index = ['<!doctype html><meta charset="utf-8"><title>Mails</title>']
    missing = {}
    for language in sorted(available_languages(settings.template_dir)):
        missing[language] = missing_parts(settings.template_dir, language)
        (folder / language).mkdir(parents=True, exist_ok=True)
        index.append(f"<h1>{language}</h1><ul>")
        for kind in MailKind:
            mail = render(settings, kind, sample(settings, kind, pages=pages), language=language)
            text = folder / language / f"{kind}.txt"
            text.write_text(f"Subject: {mail.subject}\n\n{mail.body}\n", "utf-8")
            links = [text.name]
            if mail.html is not None:
                page = text.with_suffix(".html")
                page.write_text(mail.html, "utf-8")
                links.append(page.name)
            anchors = " ".join(f'<a href="{language}/{name}">{name}</a>' for name in links)
            index.append(f"<li>{escape(mail.subject)}: {anchors}</li>")
        index.append("</ul>")
    (folder / "index.html").write_text("\n".join(index), "utf-8")
    return missing
