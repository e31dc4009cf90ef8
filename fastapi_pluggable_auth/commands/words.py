"""`words`: the one file that a translator needs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..config import LANGUAGE
from ..features.feature import Features
from ..features.shipped import SHIPPED
from ..words.languages import FALLBACK
from ..words.plurals import categories
from ..words.texts import FOLDER, Folders, texts_of
from .faults import CommandError, read_settings
from .modules import add_app, auth_of_app


def add_to(parser: argparse.ArgumentParser) -> None:
    """Fills in the parser of the command."""
    parser.add_argument("language", metavar="LANGUAGE", help="such as fr or pt-BR")
    parser.add_argument(
        "--missing", action="store_true", help="say which texts are missing, and fail where there are some"
    )
    add_app(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if not re.fullmatch(LANGUAGE, options.language):
        raise CommandError(f"{options.language!r} is not a language, such as fr or pt-BR.")
    auth = auth_of_app(options.app)
    settings = read_settings() if auth is None else auth.settings
    folders = (Features(SHIPPED) if auth is None else auth.features).folders
    english = _english(settings.template_dir, options.language, folders)
    translated = texts_of(settings.template_dir, options.language, folders)
    missing = [key for key in english if key not in translated]
    if options.missing:
        for key in missing:
            print(key)
        return 1 if missing else 0
    print("\n".join(_file(options.language, english, translated)))
    print(f"{len(missing)} of {len(english)} texts are missing", file=sys.stderr)
    return 0


def _english(template_dir: Path | None, language: str, folders: Folders) -> dict[str, str]:
    """Every key that the language needs, in the order of the library's file, with the English text: one for
    each of its plurals."""
    own, texts = texts_of(template_dir, FALLBACK, folders), dict[str, str]()
    for key, text in {**texts_of(None, FALLBACK), **own}.items():
        stem, _, last = key.rpartition("_")
        if last not in ("one", "other") or f"{stem}_other" not in own:
            texts[key] = text
        elif last == "other":
            texts |= {f"{stem}_{each}": text for each in dict.fromkeys([*categories(language), "other"])}
    return texts


def _file(language: str, english: Mapping[str, str], translated: Mapping[str, str]) -> Iterator[str]:
    """The lines of the file: sections, each text below the English one; what is missing is commented out."""
    yield f"# {language}: the words of pages, mails and errors. {{Names in braces}} are filled in: keep them."
    yield "# Below each English text is its translation; where it is missing, take the # away and fill it in."
    yield f"# The file belongs into the folder AUTH_TEMPLATE_DIR, as {FOLDER}/{language}.toml."
    sections: dict[str, list[str]] = {}
    for key in english:
        sections.setdefault(key.rpartition(".")[0], []).append(key)
    for section, keys in sections.items():
        yield f"\n[{section}]"
        for key in keys:
            yield from (f"# {line}".rstrip() for line in english[key].split("\n"))
            name = key.rpartition(".")[2]
            yield f"{name} = {_quoted(translated[key])}" if key in translated else f'#{name} = ""'


def _quoted(text: str) -> str:
    """As TOML writes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if "\n" not in text:
        return f'"{escaped}"'
    return f'"""\n{escaped}"""'
