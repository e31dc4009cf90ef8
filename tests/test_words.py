"""The words of each language: complete, with the same places, and of a length that fits."""

from __future__ import annotations

import re

import pytest

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.words.plurals import categories, category
from fastapi_pluggable_auth.words.texts import (
    offered_languages,
    places_of,
    texts_of,
)

from .shipped import FEATURES

DIALECTS = ("sqlite",)
LANGUAGES = sorted(offered_languages(AuthSettings(_env_file=None)))
ENGLISH = texts_of(None, "en", FEATURES.folders)
PLURAL = re.compile(r"_(zero|one|two|few|many|other)$")


def stems(keys: set[str]) -> set[str]:
    """Without the plural."""
    return {PLURAL.sub("", key) for key in keys}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_every_text_and_no_other(language: str) -> None:
    texts = texts_of(None, language, FEATURES.folders)
    assert stems({*texts}) == stems({*ENGLISH})
    for key in {key for key in ENGLISH if PLURAL.search(key)}:
        has = {name.rpartition("_")[2] for name in texts if PLURAL.sub("", name) == PLURAL.sub("", key)}
        assert has == {*categories(language)} | {"other"}, key


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_has_the_places_of_the_english_one(language: str) -> None:
    for key, text in texts_of(None, language, FEATURES.folders).items():
        english = ENGLISH.get(key) or ENGLISH[PLURAL.sub("_other", key)]
        places = places_of(text)
        assert places == places_of(english) or (PLURAL.search(key) and places <= {"count"}), key


@pytest.mark.parametrize(
    ("language", "numbers"),
    [
        ("en", {"one": [1], "other": [0, 2, 11, 21]}),
        ("fr", {"one": [0, 1], "other": [2, 24]}),
        ("pt-BR", {"one": [0, 1], "other": [2]}),
        ("ja", {"other": [0, 1, 2]}),
        ("ar", {"zero": [0], "one": [1], "two": [2], "few": [3, 10, 103], "many": [11, 99], "other": [100]}),
        ("ru", {"one": [1, 21], "few": [2, 24], "many": [0, 5, 11, 12, 14]}),
        ("pl", {"one": [1], "few": [2, 24], "many": [0, 5, 12, 21]}),
        ("cs", {"one": [1], "few": [2, 4], "other": [0, 5, 22]}),
    ],
)
def test_a_number_has_the_plural_of_its_language(language: str, numbers: dict[str, list[int]]) -> None:
    """CLDR: Language Plural Rules."""
    assert {each: [n for n in ns if category(language, n) == each] for each, ns in numbers.items()} == numbers
    assert {*categories(language)} == {*numbers}
