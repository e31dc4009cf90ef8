"""Every mail on sample data, as files to look at."""

from __future__ import annotations

from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any, Final

from ..config import AuthSettings
from .kinds import LINK_PATHS, MailKind
from .rendering import missing_parts, render
from .template_folders import available_languages

_LINK: Final = {"url": "https://app.example.com/auth/verify/sample", "lifetime": timedelta(hours=24)}
_NOTICE: Final = {"when": "2026-01-31 12:00 UTC"}

SAMPLES: Final[dict[MailKind, dict[str, Any]]] = {
    **{kind: {"email": "ada@example.com", **(_LINK if kind in LINK_PATHS else _NOTICE)} for kind in MailKind},
    MailKind.ACCOUNT_EXISTS: {"email": "ada@example.com"},
    MailKind.STOP_EMAIL_CHANGE: {
        "email": "ada@example.com",
        "new_email": "ada@example.org",
        **_LINK,
        **_NOTICE,
    },
    MailKind.SIGNUP_CLASH: {"email": "ada@example.com", "columns": "username"},
    MailKind.EMAIL_CHANGED: {"email": "ada@example.com", "new_email": "ada@example.org", **_NOTICE},
    MailKind.RECOVERY_CODE_USED: {"email": "ada@example.com", "remaining": 9, **_NOTICE},
    MailKind.WRONG_CODES: {"email": "ada@example.com", "count": 5, **_NOTICE},
    MailKind.NEW_DEVICE: {
        "email": "ada@example.com",
        "agent": "Firefox, Linux",
        "address": "192.0.2.7",
        **_NOTICE,
    },
    MailKind.PERSONAL_TOKEN_CREATED: {
        "email": "ada@example.com",
        "name": "backup script",
        "scopes": "notes:read, notes:write",
        **_NOTICE,
    },
}
"""What each template is given."""


def write_previews(settings: AuthSettings, folder: Path) -> dict[str, list[str]]:
    """Writes each mail in each language as `<language>/<name>.txt` and `.html`, and an `index.html`.

    Returns, for each language, the templates that it lacks; those mails are in another language. Raises
    `TemplateError` for a broken template, and `OSError`.
    """
    index = ['<!doctype html><meta charset="utf-8"><title>Mails</title>']
    missing = {}
    for language in sorted(available_languages(settings.template_dir)):
        missing[language] = missing_parts(settings.template_dir, language)
        (folder / language).mkdir(parents=True, exist_ok=True)
        index.append(f"<h1>{language}</h1><ul>")
        for kind, context in SAMPLES.items():
            mail = render(settings, kind, context, language=language)
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
