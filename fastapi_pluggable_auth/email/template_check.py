"""Finds templates of an app that cannot be rendered, before a mail needs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import jinja2
from jinja2 import meta, nodes

from ..config import AuthSettings
from ..features.feature import Features, MailTable
from ..words.languages import FALLBACK, direction_of
from ..words.texts import Folders, own_files, places_of, read, texts_of, word_languages
from ..words.texts import files_of as words_files
from .kinds import mails_of
from .preview import sample
from .rendering import LINK_NAMES, environment_for, explained, files_of, language_of, render
from .template_folders import (
    FORMER,
    PACKAGE,
    TEMPLATES,
    TemplateError,
    available_languages,
    template_folders,
    template_roots,
)
from .worded import SECTION as MAILS

ALWAYS_THERE = frozenset(
    {
        "app_name",
        "public_base_url",
        "language",
        "direction",
        "subject",
        "mail",
        "code_in_subject",
        "code_host",
    }
)


_FILLED_EVERYWHERE: Final = {
    "errors": {"minimum", "maximum", "wait"},
    "field_errors": {"minimum", "maximum", "bound"},
}
"""Places that each text of a section may have."""


def template_problems(settings: AuthSettings, features: Features) -> list[str]:
    """What is wrong with the mails of this app and its features, each in one sentence with file, line and
    name: what a sample of each mail shows in each language, and names in branches that it did not take."""
    if settings.template_dir is not None and not settings.template_dir.is_dir():
        return [f"AUTH_TEMPLATE_DIR: there is no folder {settings.template_dir}."]
    return [*dict.fromkeys(_problems(settings, features))]


def check_templates(settings: AuthSettings, features: Features) -> None:
    """Raises `TemplateError` where a mail of this app cannot be rendered."""
    problems = [*dict.fromkeys(_problems(settings, features))]
    if problems:
        raise TemplateError("\n".join(problems))


def _problems(settings: AuthSettings, features: Features) -> Iterator[str]:
    broken = [*_word_problems(settings.template_dir, features.folders)]
    if broken:  # which every mail would show again
        yield from broken
        return
    folders = features.folders
    known: dict[Path, _Parsed] = {}
    own = _own_templates(settings.template_dir)
    languages = _telling(settings, folders, own)
    for kind in _touched(own, features):
        context = sample(settings, kind, pages=True)
        for language in languages:
            try:
                render(settings, kind, context, language=language, features=folders)
                yield from _in_other_branches(settings, kind, language, context, folders, known)
            except TemplateError as error:
                yield str(error)
            except (jinja2.TemplateError, OSError, UnicodeError) as error:  # of a part that it did not need
                yield str(explained(error, kind.value, context))


def _word_problems(template_dir: Path | None, features: Folders) -> Iterator[str]:
    """Files of the app that cannot be read, and texts with a place that nothing fills."""
    english = texts_of(None, FALLBACK, features)
    for language in sorted(word_languages(template_dir)):
        for file in own_files(template_dir, language):
            try:
                texts = read(file) if file.is_file() else {}
            except ValueError as error:
                yield f"{file}: {error}."
                continue
            for key in sorted(texts):
                try:
                    unknown = _unknown_places(key, texts[key], english)
                except ValueError as error:
                    yield f"{file}, {key}: {error}."
                else:
                    if unknown:
                        yield f"{file}, {key}: nothing fills {{{min(unknown)}}}."


def _unknown_places(key: str, text: object, english: Mapping[str, str]) -> set[str]:
    """The places of a text that nothing fills. The sentence for a code of the app may have one that a page of
    its own fills by a name; other texts that the library has not are said by the app alone. Raises
    `ValueError` for one that is broken, or no text."""
    if key in english:
        return places_of(text) - _filled(key, english)
    if key.rpartition(".")[0] != "errors":
        return set()
    return {place for place in places_of(text) - _FILLED_EVERYWHERE["errors"] if not place.isidentifier()}


def _filled(key: str, english: Mapping[str, str]) -> set[str]:
    """What a text may have a place for."""
    section = key.rpartition(".")[0]
    others = [each for each in english if each.startswith(f"{section}.")] if section.startswith(MAILS) else []
    filled = {name for each in (key, *others) for name in places_of(english[each])}
    return filled | _FILLED_EVERYWHERE.get(section, set()) | ({"app"} if others else set())


def _own_templates(template_dir: Path | None) -> list[Path]:
    """What the app has in its folder, and what it put into that of the library."""
    roots = template_roots(template_dir)
    files = [file for root in roots for folder in (root, *root.glob("*/")) for file in folder.glob("*")]
    return [file for file in files if TEMPLATES not in file.parents or file.suffix == FORMER]


def _touched(own: list[Path], features: Features) -> list[MailTable]:
    """The mails in which something is the app's: all, where it has one of the parts that they share."""
    mails, names = mails_of(features).values(), [file.name for file in own]
    if any(name.startswith("_") for name in names):
        return [*mails]
    return [kind for kind in mails if any(name.startswith(f"{kind}.") for name in names)]


def _telling(settings: AuthSettings, features: Folders, own: list[Path]) -> list[str]:
    """The languages in which mails are worth a look: one for each choice of folders, files of words and
    direction of writing, or all, where a template of the app asks which it is. In those that are left out,
    only the words of the library differ, and a look at all took most of the start."""
    languages = sorted(available_languages(settings, features), key=lambda each: (each != FALLBACK, each))
    if any(map(_asks_for_language, own)):
        return languages
    chosen: dict[object, str] = {}
    for language in languages:
        folders = template_folders(settings.template_dir, language, features)
        files = words_files(settings.template_dir, language, features)
        theirs = [each for each in files if PACKAGE not in each.parents]
        differs = (*filter(Path.is_dir, folders), *theirs, direction_of(language))
        chosen.setdefault(differs, language)
    return [*chosen.values()]


def _asks_for_language(file: Path) -> bool:
    """Whether a template does more with `language` than to show it."""
    try:
        tree = jinja2.Environment(autoescape=True).parse(file.read_text("utf-8"))
    except (jinja2.TemplateError, OSError, UnicodeError):  # which is found where a mail needs it
        return False
    shown = [each for output in tree.find_all(nodes.Output) for each in output.nodes]
    return any(
        each.name == "language" and not any(each is other for other in shown)
        for each in tree.find_all(nodes.Name)
    )


def _in_other_branches(
    settings: AuthSettings,
    kind: MailTable,
    language: str,
    context: Mapping[str, object],
    features: Folders,
    known: dict[Path, _Parsed],
) -> Iterator[str]:
    """What a mail names and nothing gives, wherever it stands. `known` are the files that are parsed."""
    spoken = language_of(settings, kind, language, features)
    environment = environment_for(settings.template_dir, spoken, features)
    parsed: dict[str, _Parsed] = {}
    wanted = [*files_of(settings.template_dir, spoken, kind, features).values()]
    while wanted:
        name = wanted.pop()
        if name in parsed:
            continue
        file, tree, *_ = parsed[name] = _parse(environment, name, known)
        for line, other, needed in _references(tree):
            if _exists(environment, other):
                wanted.append(other)
            elif needed:
                yield _fault(kind, file, line, f"There is no mail template {other!r}.")
    given = ALWAYS_THERE | context.keys() | set(LINK_NAMES.values())
    given |= {name for each in parsed.values() for name in each.made}
    for file, tree, undeclared, _ in parsed.values():
        for name in sorted(undeclared - given):
            line = next(each.lineno for each in tree.find_all(nodes.Name) if each.name == name)
            yield _fault(kind, file, line, f"{name!r} is undefined.")


def _fault(kind: MailTable, file: Path, line: int, said: str) -> str:
    return f"Mail template {kind.value!r}, {file}, line {line}: {said}"


def _references(tree: nodes.Template) -> Iterator[tuple[int, str, bool]]:
    """The line and the name of each template that this one extends, includes or imports by name, and whether
    it has to be there."""
    for node in tree.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)):
        named = getattr(node, "template", None)
        if isinstance(named, nodes.Const) and isinstance(named.value, str):
            yield node.lineno, named.value, not getattr(node, "ignore_missing", False)


def _exists(environment: jinja2.Environment, name: str) -> bool:
    assert environment.loader is not None  # noqa: S101 - each of ours has one
    try:
        environment.loader.get_source(environment, name)
    except jinja2.TemplateNotFound:
        return False
    return True


class _Parsed(NamedTuple):
    """A file of a template, the names that it needs, and those that it makes or tests."""

    file: Path
    tree: nodes.Template
    undeclared: set[str]
    made: set[str]


def _parse(environment: jinja2.Environment, name: str, known: dict[Path, _Parsed]) -> _Parsed:
    assert environment.loader is not None  # noqa: S101 - each of ours has one
    source, found, _ = environment.loader.get_source(environment, name)
    file = Path(found or name)
    if file not in known:
        tree = environment.parse(source, name, found)
        known[file] = _Parsed(file, tree, meta.find_undeclared_variables(tree), {*_made_or_tested(tree)})
    return known[file]


def _made_or_tested(tree: nodes.Template) -> Iterator[str]:
    """Names that a template sets itself, and those that it knows may be missing."""
    for name in tree.find_all(nodes.Name):
        if name.ctx in ("store", "param"):
            yield name.name
    for test in tree.find_all((nodes.Test, nodes.Filter)):
        if test.name in ("defined", "undefined", "default", "d") and isinstance(test.node, nodes.Name):
            yield test.node.name
