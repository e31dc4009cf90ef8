"""What the pages say: one file of words for each language, the app's own before those of the library."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from ...config import LANGUAGE, AuthSettings
from ...email.languages import FALLBACK, fallbacks, preferred

TEMPLATES: Final = Path(__file__).parent / "templates"
WORDS: Final = "page_words.toml"


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one language, by dotted keys such as `sign_in.title`."""

    language: str
    texts: Mapping[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, with values in its places. Raises `KeyError`."""
        return self.texts[key].format(**values)

    def own(self, key: str, otherwise: str) -> str:
        """The host's own text of a key, or what it says elsewhere."""
        return self.texts.get(key, otherwise)

    def saying(self, key: str, text: str) -> Words:
        """The same words, with this text for a key that has none."""
        if key in self.texts:
            return self
        return Words(self.language, {**self.texts, key: text.replace("{", "{{").replace("}", "}}")})


def words_for(
    settings: AuthSettings, language: str | None, accept_language: str, features: tuple[Path, ...] = ()
) -> Words:
    """The words for a reader, with those in the folders of features: in the language of the account, else
    what the browser asks for, the default, English. Languages without pages are passed over."""
    available = page_languages(settings.template_dir)
    wanted = language or preferred(accept_language, available)
    tried = fallbacks(wanted, settings.default_language)
    return _words(settings.template_dir, features, next(spoken for spoken in tried if spoken in available))


@lru_cache(maxsize=16)
def page_languages(template_dir: Path | None) -> frozenset[str]:
    """The languages that have words for the pages."""
    files = [file for root in roots(template_dir) for file in root.glob(f"*/{WORDS}")]
    return frozenset(file.parent.name for file in files if re.match(LANGUAGE, file.parent.name))


def roots(template_dir: Path | None, features: tuple[Path, ...] = ()) -> list[Path]:
    """Where templates are looked for: the app's own folder, then that of the library, and of its features."""
    return [*([] if template_dir is None else [template_dir]), TEMPLATES, *features]


@lru_cache(maxsize=64)
def _words(template_dir: Path | None, features: tuple[Path, ...], language: str) -> Words:
    """The app's file may hold a few words only; what a language lacks is said in English."""
    texts: dict[str, str] = {}
    for spoken in (FALLBACK, language):
        for root in reversed(roots(template_dir, features)):
            file = root / spoken / WORDS
            if file.exists():
                sections = tomllib.loads(file.read_text("utf-8"))
                texts |= {
                    f"{name}.{key}": text for name, keys in sections.items() for key, text in keys.items()
                }
    return Words(language, texts)
