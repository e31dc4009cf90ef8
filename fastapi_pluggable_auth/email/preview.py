"""Every mail on sample data, as files to look at."""

from __future__ import annotations

from datetime import timedelta
from html import escape
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, Final
from uuid import uuid4

from ..config import AuthSettings
from ..features.feature import Features, MailTable
from .addresses import link_url, page_url
from .kinds import mails_of
from .rendering import missing_parts, render
from .template_folders import available_languages
from .tokens import LinkSigner

_SAMPLE: Final = {"email": "ada@example.com", "when": "2026-01-31 12:00 UTC"}


def sample(settings: AuthSettings, kind: MailTable, *, pages: bool) -> dict[str, Any]:
    """What the template of a mail is given, with a link such as these settings make; nobody accepts it."""
    spec = kind.spec
    context = {**_SAMPLE, **spec.sample}
    if spec.page:
        context["page_url"] = page_url(settings, kind, pages=pages)
    if spec.code:
        context["code"] = "123456"
    if spec.code or spec.code_page:
        context["lifetime" if spec.link is None else "code_lifetime"] = timedelta(minutes=10)
    if spec.code_page:
        context["url"] = settings.public_url(spec.code_page.replace("{token}", token_urlsafe(48)))
    if spec.link is not None:
        unknown = {"jwt_secret": token_urlsafe(48), "jwt_algorithm": "HS256"}
        links = LinkSigner(settings.model_copy(update=unknown))
        context["url"] = link_url(settings, kind, links.generate(spec.link, uuid4(), bytes(16)))
        context["lifetime"] = links.lifetime(spec.link)
    return context


def write_previews(
    settings: AuthSettings, folder: Path, features: Features, *, pages: bool
) -> dict[str, list[str]]:
    """Writes each mail of the kernel and these features in each language as `<language>/<name>.txt` and
    `.html`, and an `index.html`; `pages` says that the app has the built-in ones.

    Returns, for each language, the templates that it lacks; those mails are in another language. Raises
    `TemplateError` for a broken template, and `OSError`.
    """
    index = ['<!doctype html><meta charset="utf-8"><title>Mails</title>']
    folders, missing = features.folders, {}
    for language in sorted(available_languages(settings, folders)):
        missing[language] = missing_parts(settings.template_dir, language, folders)
        (folder / language).mkdir(parents=True, exist_ok=True)
        index.append(f"<h1>{language}</h1><ul>")
        for kind in mails_of(features).values():
            values = sample(settings, kind, pages=pages)
            mail = render(settings, kind, values, language=language, features=folders)
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
