"""Mails from templates: one folder for each language, the app's own files before those of the library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import jinja2

from ..config import AuthSettings
from .languages import FALLBACK, fallbacks
from .template_folders import TEMPLATES, RenderedMail, TemplateError, template_roots

WORDS: Final = "_words.txt"
"""What a language says in every mail."""

PARTS: Final = (".subject.txt", ".txt", ".html")

TEMPLATE_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)*")
"""A bare file name: no folder, no way up, no control character."""


def render(
    settings: AuthSettings,
    template_name: str,
    context: Mapping[str, object],
    *,
    subject: str | None = None,
    language: str | None = None,
) -> RenderedMail:
    """Fills `<name>.subject.txt`, unless a subject is given, `<name>.txt`, and `<name>.html` if there is one.

    The first language in which all parts of the mail exist is taken: the one asked for, the default, English.
    Durations in the context are put into words. Raises `TemplateError`, and `ValueError` if the name is not a
    bare one.
    """
    name = template_name.removesuffix(".txt").removesuffix(".html")
    if not TEMPLATE_NAME.fullmatch(name):
        raise ValueError(f"{template_name!r} is not the bare name of a template.")
    spoken = _language_of(settings, name, language)
    environment = _environment(settings.template_dir, spoken)
    try:
        words: Any = environment.get_template(WORDS).module
        values = {
            "app_name": settings.totp_issuer,
            "public_base_url": settings.public_base_url,
            "language": spoken,
            **{key: _in_words(words, value) for key, value in context.items()},
        }
        if subject is None:
            rendered = environment.get_template(f"{name}.subject.txt").render(values)
            # A line break or control character in a value must neither add a header nor stop the mail.
            subject = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", rendered).strip()
        values.setdefault("subject", subject)
        body = environment.get_template(f"{name}.txt").render(values)
        page = environment.get_template(f"{name}.html") if _has(environment, f"{name}.html") else None
        return RenderedMail(subject, body, None if page is None else page.render(values))
    except jinja2.TemplateNotFound as error:
        raise TemplateError(f"There is no mail template {error.name!r}.") from error
    except jinja2.TemplateError as error:
        raise TemplateError(f"Mail template {name!r}: {error.message}") from error


def missing_parts(template_dir: Path | None, language: str) -> list[str]:
    """The files that a language lacks: the mails they belong to are sent in another one."""
    environment = _environment(template_dir, language)
    english = sorted(path.name for path in (TEMPLATES / FALLBACK).iterdir())
    return [name for name in english if not _has(environment, name)]


def _language_of(settings: AuthSettings, name: str, wanted: str | None) -> str:
    needed = [name + part for part in PARTS if (TEMPLATES / FALLBACK / (name + part)).exists()]
    for language in fallbacks(wanted, settings.default_language):
        environment = _environment(settings.template_dir, language)
        if all(_has(environment, part) for part in (*(needed or [f"{name}.txt"]), WORDS)):
            return language
    return FALLBACK


@lru_cache(maxsize=64)
def _environment(template_dir: Path | None, language: str) -> jinja2.Environment:
    """The templates of a language. A file right in the app's folder stands for all languages."""
    folders = [folder for root in template_roots(template_dir) for folder in (root / language, root)]
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=jinja2.select_autoescape(("html",), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _has(environment: jinja2.Environment, name: str) -> bool:
    """Whether there is such a file; it may be broken."""
    try:
        environment.get_template(name)
    except jinja2.TemplateNotFound as error:
        return error.name != name
    except jinja2.TemplateError:
        return True
    return True


def _in_words(words: Any, value: object) -> object:
    """A duration for people, such as `24 hours`; anything else as it is."""
    if not isinstance(value, timedelta):
        return value
    minutes = max(1, round(value.total_seconds() / 60))
    count, unit = (minutes // 60, "hour") if minutes % 60 == 0 else (minutes, "minute")
    return str(words.duration(count, unit)).strip()
