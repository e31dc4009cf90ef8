"""Mails from templates: one folder for each language, the app's own files before those of the library."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import jinja2

from ..config import AuthSettings
from .languages import FALLBACK, fallbacks
from .template_folders import FORMER, TEMPLATES, RenderedMail, TemplateError, template_folders

WORDS: Final = "_words.txt"
"""What a language says in every mail."""

PARTS: Final = (".subject.txt", ".txt", ".html")

LINK_NAMES: Final = {"verify": "verify_link", "reset": "reset_link"}
"""What 0.1 documents as the name of the link in a mail; else it is `url`."""

TEMPLATE_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)*")
"""A bare file name: no folder, no way up, no control character."""


def render(
    settings: AuthSettings,
    template_name: str,
    context: Mapping[str, object],
    *,
    subject: str | None = None,
    language: str | None = None,
    features: tuple[Path, ...] = (),
) -> RenderedMail:
    """Fills `<name>.subject.txt`, unless a subject is given, `<name>.txt`, and `<name>.html` if there is one.
    `features` are the folders of templates of the app's features.

    Each may end with `.jinja` as well, as in 0.1; beside an app's own text of such a name, the library's HTML
    is left out. The first language in which all parts of the mail exist is taken: the one asked for, the
    default, English. Durations in the context are put into words. Raises `TemplateError`, which says in which
    line of which file, and `ValueError` if the name is not a bare one.
    """
    name = template_name.removesuffix(FORMER).removesuffix(".txt").removesuffix(".html")
    if not TEMPLATE_NAME.fullmatch(name):
        raise ValueError(f"{template_name!r} is not the bare name of a template.")
    spoken = language_of(settings, template_name, language, features)
    environment = environment_for(settings.template_dir, spoken, features)
    files = files_of(settings.template_dir, spoken, template_name, features)
    for part in (".txt", *([".subject.txt"] if subject is None else [])):
        if part not in files:
            raise TemplateError(
                f"There is no mail template {name + part!r} in AUTH_TEMPLATE_DIR or the package."
            )
    try:
        words: Any = environment.get_template(WORDS).module
        values = {
            "app_name": settings.app_name,
            "public_base_url": settings.public_base_url,
            "language": spoken,
            **{key: _in_words(words, value) for key, value in _with_link(settings, name, context).items()},
        }
        if subject is None:
            rendered = environment.get_template(files[".subject.txt"]).render(values)
            # A line break or control character in a value must neither add a header nor stop the mail.
            subject = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", rendered).strip()
        values.setdefault("subject", subject)
        body = environment.get_template(files[".txt"]).render(values)
        page = environment.get_template(files[".html"]).render(values) if ".html" in files else None
    except jinja2.TemplateError as error:
        raise explained(error, name, context) from error
    except (OSError, UnicodeError) as error:  # which name no line
        unread = [str(find(settings.template_dir, spoken, [file], features)) for file in files.values()]
        raise TemplateError(f"Mail template {name!r}, one of {', '.join(unread)}: {error}.") from error
    except Exception as error:
        raise explained(error, name, context) from error
    return RenderedMail(subject, body, page)


def missing_parts(template_dir: Path | None, language: str, features: tuple[Path, ...] = ()) -> list[str]:
    """The files that a language lacks: the mails they belong to are sent in another one."""
    shipped = [path for root in (TEMPLATES, *features) for path in (root / FALLBACK).iterdir()]
    english = sorted(path.name for path in shipped if path.suffix in (".txt", ".html"))
    return [name for name in english if find(template_dir, language, [name, name + FORMER], features) is None]


def find(
    template_dir: Path | None, language: str, names: Sequence[str], features: tuple[Path, ...] = ()
) -> Path | None:
    """The file that counts of those with these names; it may be broken."""
    folders = template_folders(template_dir, language, features)
    files = (folder / name for folder in folders for name in names)
    return next((file for file in files if file.is_file()), None)


def files_of(
    template_dir: Path | None, language: str, template_name: str, features: tuple[Path, ...] = ()
) -> dict[str, str]:
    """The names of the files of a mail in a language, by part; those that it has."""
    name = template_name.removesuffix(FORMER).removesuffix(".txt").removesuffix(".html")
    found: dict[str, Path] = {}
    for part in PARTS:
        names = [name + part, name + part + FORMER]
        if part == ".txt" and "." in template_name and ".html" not in template_name:
            names.insert(0, template_name)
        file = find(template_dir, language, names, features)
        if file is not None:
            found[part] = file
    # A mail of 0.1 was its text alone.
    if found.get(".txt", TEMPLATES).suffix == FORMER and _is_shipped(found.get(".html"), features):
        del found[".html"]
    return {part: file.name for part, file in found.items()}


def _is_shipped(file: Path | None, features: tuple[Path, ...]) -> bool:
    roots = {TEMPLATES, *features}
    return file is not None and not roots.isdisjoint(file.parents) and file.suffix != FORMER


def language_of(
    settings: AuthSettings, template_name: str, wanted: str | None, features: tuple[Path, ...] = ()
) -> str:
    """The language that a mail is sent in."""
    shipped = files_of(None, FALLBACK, template_name, features)
    for language in fallbacks(wanted, settings.default_language):
        files = files_of(settings.template_dir, language, template_name, features)
        text_alone = files.get(".txt", "").endswith(FORMER)
        needed = {".txt", *shipped} - ({".html"} if text_alone else set())
        if needed <= files.keys() and find(settings.template_dir, language, [WORDS]) is not None:
            return language
    return FALLBACK


def _with_link(settings: AuthSettings, name: str, context: Mapping[str, object]) -> dict[str, object]:
    """The context with the link under both of its names, and with its lifetime."""
    values = dict(context)
    former = LINK_NAMES.get(name)
    if former is None:
        return values
    for given, other in ((former, "url"), ("url", former)):
        if given in values:
            values.setdefault(other, values[given])
    values.setdefault("lifetime", settings.verify_token_ttl if name == "verify" else settings.reset_token_ttl)
    return values


def explained(error: Exception, name: str, context: Mapping[str, object]) -> TemplateError:
    """What is wrong with a template, and where. Of what the mail says it shows nothing."""
    if isinstance(error, jinja2.TemplateNotFound):
        said = f"There is no mail template {error.name!r}."
    elif isinstance(error, jinja2.TemplateError):
        said = str(error.message)
    else:
        said = f"{type(error).__name__}: {error}"
    for value in context.values():
        if isinstance(value, str) and len(value) > 3:
            said = said.replace(value, "(hidden)")
    place = _place_of(error)
    return TemplateError(f"Mail template {name!r}{place and f', {place}'}: {said.rstrip('.')}.")


def _place_of(error: Exception) -> str:
    """File and line, where they are known."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"{error.filename or error.name}, line {error.lineno}"
    # Jinja puts frames of the template into the traceback, which have its file.
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if Path(frame.filename).suffix in (".txt", ".html", FORMER)]
    return f"{lines[-1].filename}, line {lines[-1].lineno}" if lines else ""


@lru_cache(maxsize=64)
def environment_for(
    template_dir: Path | None, language: str, features: tuple[Path, ...] = ()
) -> jinja2.Environment:
    """The templates of a language."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folders(template_dir, language, features)),
        autoescape=jinja2.select_autoescape(("html", f"html{FORMER}"), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _in_words(words: Any, value: object) -> object:
    """A duration for people, such as `24 hours`; anything else as it is."""
    if not isinstance(value, timedelta):
        return value
    minutes = max(1, round(value.total_seconds() / 60))
    count, unit = (minutes // 60, "hour") if minutes % 60 == 0 else (minutes, "minute")
    return str(words.duration(count, unit)).strip()
