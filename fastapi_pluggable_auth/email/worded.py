"""Mails made of words: all have one structure, and what one says is a section of the words of a language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from markupsafe import Markup, escape

from ..words.languages import FALLBACK
from ..words.texts import NO_FEATURES, Folders, Words, texts_of

SECTION: Final = "mails"
"""Of the words: what all mails say, and a section within it for each, such as `mails.verify`."""

TEMPLATES: Final[dict[str, str]] = {
    ".subject.txt": "_mail.subject.txt",
    ".txt": "_mail.txt",
    ".html": "_mail.html",
}
"""What such mails are made with, by part."""

_MAIL: Final = re.compile(rf"{SECTION}\.\w+\.")


_LINK: Final = re.compile(r"\{(\w*url)\}")
_CODE: Final = "{code}"

BESIDE_LINK: Final = f"{SECTION}.code"
"""What a mail with a link says of its code. In English where a language of the app does not have it yet."""

_MOMENT: Final = Markup('<span dir="ltr" style="white-space: nowrap;">{}</span>')


class Block(NamedTuple):
    """A paragraph, the link of the button, or a code."""

    is_link: bool
    is_code: bool
    html: Markup


class WordedMail:
    """What one mail says: its parts, with the values of its context in their places.

    A value that is empty is said as the text `no_<value>` of the mail has it; `columns` as the words of that
    section have them.
    """

    def __init__(self, words: Words, name: str, values: Mapping[str, object]) -> None:
        self._words = words
        self._name = name
        self._values = {"app": values["app_name"], **values}
        for key, value in values.items():
            if value in ("", None) and self._key(f"no_{key}") in words.texts:
                self._values[key] = words(self._key(f"no_{key}"))
        if "columns" in values:
            self._values["columns"] = words.own(f"columns.{values['columns']}", str(values["columns"]))

    def said(self, part: str) -> str:
        """The text of a part, such as `subject`: that of this mail, or of all."""
        key = self._key(part)
        return self._words(key if key in self._words.texts else f"{SECTION}.{part}", **self._values)

    def paragraphs(self) -> list[str]:
        """What it says, as text."""
        return [self._filled(each, self._values) for each in self._split()]

    def blocks(self) -> list[Block]:
        """The same as HTML, in which addresses stand out and moments stay on one line."""
        strong = {
            name: Markup("<strong>{}</strong>").format(value) if name.endswith("email") else value
            for name, value in self._values.items()
        }
        if "when" in strong:
            strong["when"] = _MOMENT.format(strong["when"])
        return [
            Block(bool(_LINK.fullmatch(each)), each == _CODE, escape(self._filled(escape(each), strong)))
            for each in self._split()
        ]

    def _split(self) -> list[str]:
        texts = self._words.texts
        said = texts[self._key("text")].strip()
        if self._values.get("code") and _CODE not in said:
            said = f"{said}\n\n{texts[BESIDE_LINK].strip()}"
        return said.split("\n\n")

    def _filled(self, text: str, values: Mapping[str, object]) -> str:
        """A link and a code stand alone: nothing is put around them."""
        if text == _CODE:
            return str(values["code"])
        link = _LINK.fullmatch(text)
        return str(values[link[1]]) if link else Words(self._words.language, {"": text})("", **values)

    def _key(self, part: str) -> str:
        return f"{SECTION}.{self._name}.{part}"


def mails_in_words(features: Folders = NO_FEATURES) -> list[str]:
    """The names of the mails that the library has words for."""
    english = texts_of(None, FALLBACK, features)
    return [*dict.fromkeys(key.split(".")[1] for key in english if _MAIL.match(key))]


@lru_cache(maxsize=256)
def keys_of(name: str, features: Folders = NO_FEATURES) -> frozenset[str]:
    """The keys that the library, or a feature, has for a mail: those in English or, where there are none, in
    the first language that has some. None for one that is not made of words."""
    languages = sorted({file.stem for folder in features.words for file in folder.glob("*.toml")})
    for language in (FALLBACK, *languages):
        texts = texts_of(None, language, features)
        if keys := frozenset(key for key in texts if key.startswith(f"{SECTION}.{name}.")):
            return keys
    return frozenset()


@lru_cache(maxsize=1)
def keys_of_all() -> frozenset[str]:
    """What every mail says, as `_words.txt` has it."""
    english = texts_of(None, FALLBACK)
    shared = frozenset(key for key in english if key.startswith(f"{SECTION}.") and not _MAIL.match(key))
    return (shared - {BESIDE_LINK}) | {f"durations.{unit}_other" for unit in ("minute", "hour")}
