"""Where the templates are, and what comes out of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from ..config import LANGUAGE, AuthSettings
from ..words.texts import FOLDER as WORDS
from ..words.texts import NO_FEATURES, Folders, offered_languages

PACKAGE: Final = Path(__file__).parent.parent

TEMPLATES: Final = Path(__file__).parent / "templates"


class TemplateError(LookupError):
    """A template is missing or broken, or names a variable that was not given."""


@dataclass(frozen=True)
class RenderedMail:
    """A mail as its reader sees it, without a recipient."""

    subject: str
    body: str
    html: str | None


FORMER: Final = ".jinja"
"""What the names of templates ended with in 0.1. None of the library's does."""


def template_roots(template_dir: Path | None, features: Folders = NO_FEATURES) -> list[Path]:
    """The app's own folder, if it has one, before that of the library, and those of its features."""
    return [*([] if template_dir is None else [template_dir]), TEMPLATES, *features.templates]


def template_folders(template_dir: Path | None, language: str, features: Folders = NO_FEATURES) -> list[Path]:
    """Where the templates of a language are, the first that counts first. A file right in the app's folder
    stands for all languages; so does one in that of the library, where 0.1 looked for them."""
    own = [] if template_dir is None else [template_dir / language, template_dir]
    return [*own, TEMPLATES, TEMPLATES / language, *(folder / language for folder in features.templates)]


def has_own_templates(template_dir: Path | None) -> bool:
    """Whether the app may have replaced one."""
    return template_dir is not None or any(TEMPLATES.glob(f"*{FORMER}"))


def available_languages(settings: AuthSettings, features: Folders = NO_FEATURES) -> frozenset[str]:
    """The languages that mails may be in: those that have words or a folder of templates, and that the
    settings do not leave out."""
    wanted = frozenset(name.lower() for name in settings.languages)
    folders = _folders(settings.template_dir, features)
    return offered_languages(settings) | {name for name in folders if not wanted or name.lower() in wanted}


@lru_cache(maxsize=16)
def _folders(template_dir: Path | None, features: Folders) -> frozenset[str]:
    roots = template_roots(template_dir, features)
    folders = [folder for root in roots if root.is_dir() for folder in root.iterdir() if folder.is_dir()]
    return frozenset(each.name for each in folders if re.match(LANGUAGE, each.name) and each.name != WORDS)
