"""Finds templates of an app that cannot be rendered, before a mail needs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import jinja2
from jinja2 import meta, nodes

from ..config import AuthSettings
from .kinds import MailKind
from .preview import sample
from .rendering import environment_for, files_of, language_of, render
from .template_folders import TemplateError, available_languages

ALWAYS_THERE = frozenset({"app_name", "public_base_url", "language", "subject"})


def template_problems(settings: AuthSettings) -> list[str]:
    """What is wrong with the mails of this app, each in one sentence with file, line and name: what a sample
    of each mail shows in each language, and names in branches that it did not take."""
    if settings.template_dir is not None and not settings.template_dir.is_dir():
        return [f"TEMPLATE_DIR: there is no folder {settings.template_dir}."]
    return [*dict.fromkeys(_problems(settings))]


def check_templates(settings: AuthSettings) -> None:
    """Raises `TemplateError` where a mail of this app cannot be rendered."""
    problems = [*dict.fromkeys(_problems(settings))]
    if problems:
        raise TemplateError("\n".join(problems))


def _problems(settings: AuthSettings) -> Iterator[str]:
    for language in sorted(available_languages(settings.template_dir)):
        for kind in MailKind:
            context = sample(settings, kind, pages=True)
            try:
                render(settings, kind, context, language=language)
            except TemplateError as error:
                yield str(error)
            else:
                yield from _unknown_names(settings, kind, language, context)


def _unknown_names(
    settings: AuthSettings, kind: MailKind, language: str, context: Mapping[str, object]
) -> Iterator[str]:
    """Names that nothing gives to the mail, wherever they stand in it."""
    spoken = language_of(settings, kind, language)
    environment = environment_for(settings.template_dir, spoken)
    files = files_of(settings.template_dir, spoken, kind).values()
    parsed = {name: _parse(environment, name) for name in _with_parents(environment, files)}
    given = ALWAYS_THERE | context.keys() | {"verify_link", "reset_link"}
    given |= {name for _, tree in parsed.values() for name in _made_or_tested(tree)}
    for file, tree in parsed.values():
        for name in sorted(meta.find_undeclared_variables(tree) - given):
            line = next(each.lineno for each in tree.find_all(nodes.Name) if each.name == name)
            yield f"Mail template {kind.value!r}, {file}, line {line}: {name!r} is undefined."


def _with_parents(environment: jinja2.Environment, names: Iterable[str]) -> list[str]:
    """These templates, and what they extend, include and import by name."""
    found: list[str] = []
    wanted = [*names]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.append(name)
            references = meta.find_referenced_templates(_parse(environment, name)[1])
            wanted += [each for each in references if each is not None and _exists(environment, each)]
    return found


def _exists(environment: jinja2.Environment, name: str) -> bool:
    """One that is not there is no fault where it may be missing; else rendering has shown it."""
    try:
        environment.get_template(name)
    except jinja2.TemplateNotFound:
        return False
    return True


def _parse(environment: jinja2.Environment, name: str) -> tuple[Path, nodes.Template]:
    assert environment.loader is not None  # noqa: S101 - each of ours has one
    source, file, _ = environment.loader.get_source(environment, name)
    return Path(file or name), environment.parse(source)


def _made_or_tested(tree: nodes.Template) -> Iterator[str]:
    """Names that a template sets itself, and those that it knows may be missing."""
    for name in tree.find_all(nodes.Name):
        if name.ctx in ("store", "param"):
            yield name.name
    for test in tree.find_all((nodes.Test, nodes.Filter)):
        if test.name in ("defined", "undefined", "default", "d") and isinstance(test.node, nodes.Name):
            yield test.node.name
