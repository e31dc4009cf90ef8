"""The words of one language, from the files of the library, of features, and of the app."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from math import ceil
from pathlib import Path
from string import Formatter
from typing import Any, Final, NamedTuple

from markupsafe import Markup

from ..config import LANGUAGE, AuthSettings
from .languages import FALLBACK, direction_of, fallbacks, nearest, preferred, shortened
from .plurals import category

SHIPPED: Final = Path(__file__).parent
FOLDER: Final = "words"
"""Where an app has its own, in its folder of templates: `words/<language>.toml`."""
FORMER: Final = "page_words.toml"
"""What such a file was called before, in the folder of its language."""

_ISOLATED: Final = Markup("\u2068{}\u2069")
"""A value between first strong isolate and its end (Unicode TR 9): an address or a name keeps its own
direction, and that of the sentence around it."""


UNFILLED: Final = (LookupError, ValueError, AttributeError, TypeError)
"""What `Words` raises for a text with a place that the values do not fill."""


class Folders(NamedTuple):
    """What the features of an app bring."""

    templates: tuple[Path, ...] = ()
    words: tuple[Path, ...] = ()


NO_FEATURES: Final = Folders()


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one language, by dotted keys such as `sign_in.title`; `known` are values that any of them
    may name."""

    language: str
    texts: Mapping[str, str]
    known: Mapping[str, object] = field(default_factory=dict)
    direction: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", direction_of(self.language))

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, with values in its places. Raises `KeyError`."""
        values = {**self.known, **values}
        if values and self.direction == "rtl":
            values = {name: _isolated(value) for name, value in values.items()}
        return self.texts[key].format(**values)

    def can_say(self, key: str) -> bool:
        """Whether there is such a text, and what is known fills its places."""
        try:
            self(key)
        except UNFILLED:
            return False
        return True

    def own(self, key: str, otherwise: str) -> str:
        """The host's own text of a key, or what it says elsewhere."""
        return self.texts.get(key, otherwise)

    def saying(self, key: str, text: str) -> Words:
        """The same words, with this text for a key that has none, or one that cannot be said."""
        if self.can_say(key):
            return self
        return replace(self, texts={**self.texts, key: text.replace("{", "{{").replace("}", "}}")})

    def knowing(self, **values: object) -> Words:
        """The same words, with these values wherever a text names them."""
        return replace(self, known={**self.known, **values})

    def counted(self, key: str, count: int) -> str:
        """The text of a key for so many: `<key>_one`, `<key>_other` ..., as the language has plurals."""
        exact = f"{key}_{category(self.language, count)}"
        return self.texts.get(exact, self.texts[f"{key}_other"]).format(count=count)

    def duration(self, length: timedelta) -> str:
        """For people, such as `24 hours`."""
        count, unit = in_units(length)
        return self.counted(f"durations.{unit}", count)

    def wait(self, seconds: int | None) -> str:
        """When to try again, such as `in 40 seconds`; never too soon."""
        for unit, size in (("hour", 3600), ("minute", 60), ("second", 1)):
            if seconds is not None and seconds >= 2 * size:
                return self("wait.in", duration=self.counted(f"durations.{unit}", ceil(seconds / size)))
        return self("wait.soon")


def _isolated(value: object) -> str:
    return (_ISOLATED if isinstance(value, Markup) else str(_ISOLATED)).format(value)


def in_units(length: timedelta) -> tuple[int, str]:
    """How many minutes it is, or hours where it is that: `90, "minute"`."""
    minutes = max(1, round(length.total_seconds() / 60))
    return (minutes, "minute") if minutes % 60 else (minutes // 60, "hour")


def words_for(
    settings: AuthSettings, language: str | None, accept_language: str, features: Folders = NO_FEATURES
) -> Words:
    """The words for a reader: in the language of the account, else what the browser asks for, the default,
    English."""
    available = offered_languages(settings)
    wanted = language or preferred(accept_language, available)
    tried = fallbacks(wanted, settings.default_language, available)
    spoken = next((each for each in tried if each in available), FALLBACK)
    return words_in(settings.template_dir, spoken, features)


def offered_languages(settings: AuthSettings) -> frozenset[str]:
    """Those that have words, and that the settings do not leave out."""
    return _offered(settings.template_dir, tuple(settings.languages))


def check_languages(settings: AuthSettings) -> None:
    """Raises `ValueError` for what `language_problem` says."""
    problem = language_problem(settings)
    if problem is not None:
        raise ValueError(problem)


def language_problem(settings: AuthSettings) -> str | None:
    """What is wrong with the settings where they name a language that has no words, or leave out the default;
    None where nothing is."""
    if not settings.languages:
        return None
    known, offered = word_languages(settings.template_dir), offered_languages(settings)
    missing = [each for each in settings.languages if each.lower() not in {name.lower() for name in known}]
    if missing:
        return (
            f"There are no words in {', '.join(missing)} (AUTH_LANGUAGES). Take some of "
            f"{', '.join(sorted(known))}, or add words/{missing[0]}.toml to AUTH_TEMPLATE_DIR."
        )
    if nearest(settings.default_language, offered) is None:
        return (
            f"AUTH_LANGUAGES lacks {settings.default_language}, which is AUTH_DEFAULT_LANGUAGE: set that "
            f"to one of {', '.join(sorted(offered))}."
        )
    return None


@lru_cache(maxsize=16)
def word_languages(template_dir: Path | None) -> frozenset[str]:
    """The languages that have words."""
    names = [file.stem for file in SHIPPED.glob("*.toml")]
    if template_dir is not None:
        names += [file.stem for file in (template_dir / FOLDER).glob("*.toml")]
        names += [file.parent.name for file in template_dir.glob(f"*/{FORMER}")]
    return frozenset(name for name in names if re.match(LANGUAGE, name))


@lru_cache(maxsize=64)
def words_in(template_dir: Path | None, language: str, features: Folders = NO_FEATURES) -> Words:
    """The words of a language. An app's file may hold a few; what a language lacks is said in English."""
    english = texts_of(template_dir, FALLBACK, features)
    return Words(language, {**english, **texts_of(template_dir, language, features)})


@lru_cache(maxsize=64)
def texts_of(template_dir: Path | None, language: str, features: Folders = NO_FEATURES) -> Mapping[str, str]:
    """What a language says itself, a region of it also as the language does: the app's own words before those
    of the library, and these before those of features."""
    texts: dict[str, str] = {}
    for spoken in reversed([*shortened(language)]):
        for file in files_of(template_dir, spoken, features):
            texts |= read(file)
    return texts


def files_of(template_dir: Path | None, language: str, features: Folders = NO_FEATURES) -> list[Path]:
    """The files of words of a language, the one that counts most at the end."""
    files = [folder / f"{language}.toml" for folder in reversed(features.words)]
    files += [folder / language / FORMER for folder in reversed(features.templates)]
    files += [SHIPPED / f"{language}.toml", *own_files(template_dir, language)]
    return [file for file in files if file.is_file()]


def own_files(template_dir: Path | None, language: str) -> list[Path]:
    """Those of the app, where it has some."""
    if template_dir is None:
        return []
    return [template_dir / language / FORMER, template_dir / FOLDER / f"{language}.toml"]


def read(file: Path) -> dict[str, str]:
    """The texts of a file, by dotted keys. Raises `ValueError` for one that is not TOML."""
    return dict(_flat(tomllib.loads(file.read_text("utf-8"))))


def places_of(text: object) -> set[str]:
    """The places in a text, by what stands between their braces. Raises `ValueError` for one that is broken,
    or no text."""
    if not isinstance(text, str):
        raise ValueError("it is not a text")
    return {
        name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
        for _, name, form, conversion in Formatter().parse(text)
        if name is not None
    }


def _flat(table: Mapping[str, Any], section: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{section}{name}.")
        else:
            yield f"{section}{name}", value


@lru_cache(maxsize=16)
def _offered(template_dir: Path | None, chosen: tuple[str, ...]) -> frozenset[str]:
    known, names = word_languages(template_dir), {name.lower() for name in chosen}
    return frozenset(name for name in known if not names or name.lower() in names)
