"""Mails from templates: the app's own files, else those that make a mail of the words of a language."""

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
from ..words.languages import FALLBACK, direction_of, fallbacks
from ..words.texts import NO_FEATURES, Folders, in_units, texts_of, words_in
from .addresses import code_host
from .template_folders import (
    FORMER,
    PACKAGE,
    TEMPLATES,
    RenderedMail,
    TemplateError,
    available_languages,
    template_folders,
)
from .worded import TEMPLATES as WORDED
from .worded import WordedMail, keys_of, keys_of_all, mails_in_words

WORDS: Final = "_words.txt"
"""Macros of what every mail says: those of the words, or a file of the app."""

PARTS: Final = (".subject.txt", ".txt", ".html")

LINK_NAMES: Final = {"verify": "verify_link", "reset": "reset_link"}
"""What 0.1 documents as the name of the link in a mail; else it is `url`."""

_CODE: Final = re.compile(r"\{[{%][^}]*\bcode\b")

TEMPLATE_NAME: Final = re.compile(r"[\w-]+(\.[\w-]+)*")
"""A bare file name: no folder, no way up, no control character."""


def render(
    settings: AuthSettings,
    template_name: str,
    context: Mapping[str, object],
    *,
    subject: str | None = None,
    language: str | None = None,
    features: Folders = NO_FEATURES,
) -> RenderedMail:
    """Fills the subject, unless one is given, the text, and the HTML if there is one: from files
    `<name>.subject.txt`, `<name>.txt` and `<name>.html`, and each part that has none from the words of the
    mail. `features` are the folders of the app's features.

    A file may end with `.jinja` as well, as in 0.1; beside an app's own text of such a name, the library's
    HTML is left out. The first language in which all parts of the mail exist is taken: the one asked for, the
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
        macros: Any = environment.get_template(WORDS).module
        values = {
            "app_name": settings.app_name,
            "public_base_url": settings.public_base_url,
            "code_in_subject": settings.code_in_subject,
            "code_host": code_host(settings, str(context.get("url", ""))),
            "language": spoken,
            "direction": direction_of(spoken),
            **{key: _in_words(macros, value) for key, value in _with_link(settings, name, context).items()},
        }
        if WORDED.items() & files.items():
            words = words_in(settings.template_dir, spoken, features)
            values["mail"] = WordedMail(words, name, values)
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


def names_code(settings: AuthSettings, template_name: str, features: Folders = NO_FEATURES) -> bool:
    """Whether a mail shows a code that it is given: one in words does, and a template of the app that names
    it."""
    language = language_of(settings, template_name, None, features)
    name = files_of(settings.template_dir, language, template_name, features).get(".txt", "")
    if name == WORDED[".txt"]:
        return True
    file = find(settings.template_dir, language, [name], features)
    return file is not None and _CODE.search(file.read_text("utf-8")) is not None


def missing_parts(template_dir: Path | None, language: str, features: Folders = NO_FEATURES) -> list[str]:
    """What a language lacks, files or keys of words: the mails they belong to are sent in another one. Not
    that of a host's feature which has nothing in the language: it need not speak all."""
    folders = [folder / FALLBACK for folder in features.templates if (folder / FALLBACK).is_dir()]
    by_file = [file.name.removesuffix(".txt") for folder in folders for file in folder.glob("*.txt")]
    shipped = {*mails_in_words(Folders(*(tuple(filter(_is_in_package, kind)) for kind in features)))}
    mails = dict.fromkeys([*mails_in_words(features), *sorted(by_file)])
    return [
        *dict.fromkeys(
            part
            for mail in mails
            if mail in shipped or _is_begun(template_dir, language, mail, features)
            for part in _lacking(template_dir, language, mail, features)
        )
    ]


def _is_in_package(folder: Path) -> bool:
    return PACKAGE in folder.parents


def _is_begun(template_dir: Path | None, language: str, mail: str, features: Folders) -> bool:
    """Whether there is a file of a mail in a language, or a text."""
    keys = keys_of(mail, features) & texts_of(template_dir, language, features).keys()
    return bool(keys or files_of(template_dir, language, mail, features))


def find(
    template_dir: Path | None, language: str, names: Sequence[str], features: Folders = NO_FEATURES
) -> Path | None:
    """The file that counts of those with these names; it may be broken."""
    folders = template_folders(template_dir, language, features)
    files = (folder / name for folder in folders for name in names)
    return next((file for file in files if file.is_file()), None)


def files_of(
    template_dir: Path | None, language: str, template_name: str, features: Folders = NO_FEATURES
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
    keys = keys_of(name, features)
    if keys and keys <= texts_of(template_dir, language, features).keys():
        for part in PARTS:
            shared = find(template_dir, language, [WORDED[part]], features)
            if part not in found and shared is not None:
                found[part] = shared
    # A mail of 0.1 was its text alone.
    if found.get(".txt", TEMPLATES).suffix == FORMER and _is_shipped(found.get(".html"), features):
        del found[".html"]
    return {part: file.name for part, file in found.items()}


def _is_shipped(file: Path | None, features: Folders) -> bool:
    roots = {TEMPLATES, *features.templates}
    return file is not None and not roots.isdisjoint(file.parents) and file.suffix != FORMER


def language_of(
    settings: AuthSettings, template_name: str, wanted: str | None, features: Folders = NO_FEATURES
) -> str:
    """The language that a mail is sent in."""
    offered = available_languages(settings, features)
    # The last are for a feature that has words of one other language alone.
    tried = dict.fromkeys([*fallbacks(wanted, settings.default_language, offered), *sorted(offered)])
    complete = (
        language
        for language in tried
        if language in offered and not _lacking(settings.template_dir, language, template_name, features)
    )
    return next(complete, FALLBACK)


def _lacking(template_dir: Path | None, language: str, template_name: str, features: Folders) -> list[str]:
    """What a mail lacks in a language: files, or keys of words where it is made of these."""
    files = files_of(template_dir, language, template_name, features)
    text_alone = files.get(".txt", "").endswith(FORMER)
    shipped = files_of(None, FALLBACK, template_name, features).keys()
    lost = {".txt", *shipped} - files.keys() - ({".html"} if text_alone else set())
    texts = texts_of(template_dir, language, features).keys()
    name = template_name.removesuffix(FORMER).removesuffix(".txt").removesuffix(".html")
    keys = keys_of(name, features) if lost else frozenset[str]()
    found = [] if keys else [name + part for part in PARTS if part in lost]
    if not _has_own_macros(template_dir, language):
        keys |= keys_of_all()
    return [*found, *sorted(keys - texts)]


def _has_own_macros(template_dir: Path | None, language: str) -> bool:
    file = find(template_dir, language, [WORDS])
    return file is not None and file != TEMPLATES / WORDS


def _with_link(settings: AuthSettings, name: str, context: Mapping[str, object]) -> dict[str, object]:
    """The context with the link under both of its names, with its lifetime, and without a code."""
    values = dict(context)
    former = LINK_NAMES.get(name)
    if former is None:
        return values
    for given, other in ((former, "url"), ("url", former)):
        if given in values:
            values.setdefault(other, values[given])
    for name_of_none in ("code", "code_lifetime"):
        values.setdefault(name_of_none, "")
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
    template_dir: Path | None, language: str, features: Folders = NO_FEATURES
) -> jinja2.Environment:
    """The templates of a language."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template_folders(template_dir, language, features)),
        autoescape=jinja2.select_autoescape(("html", f"html{FORMER}"), default=False),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["text"] = words_in(template_dir, language, features)
    return environment


def _in_words(macros: Any, value: object) -> object:
    """A duration for people, such as `24 hours`; anything else as it is."""
    return str(macros.duration(*in_units(value))).strip() if isinstance(value, timedelta) else value
