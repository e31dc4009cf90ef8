"""The words of each language: complete, with the same places, and of a length that fits."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.email.preview import sample
from fastapi_pluggable_auth.email.rendering import missing_parts, render
from fastapi_pluggable_auth.words.plurals import categories, category
from fastapi_pluggable_auth.words.texts import (
    offered_languages,
    places_of,
    texts_of,
    words_in,
)

from .shipped import ALL_CODES, ALL_MAILS, FEATURES

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


def test_no_line_begins_with_a_french_sign() -> None:
    """The space in front of it does not break."""
    texts = texts_of(None, "fr", FEATURES.folders)
    assert not [key for key, text in texts.items() if re.search(r" [:;?!»]|« ", text)]


def test_a_thing_has_one_japanese_spelling() -> None:
    texts = texts_of(None, "ja", FEATURES.folders)
    assert not [key for key, text in texts.items() if re.search("デバイス|ブラウザー", text)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_is_translated_and_fits_where_the_english_one_does(language: str) -> None:
    """Short ones, as of buttons, may be longer by more; those of the navigation share a line."""
    texts = texts_of(None, language, FEATURES.folders)
    for key, text in texts.items():
        english = ENGLISH.get(key) or ENGLISH[PLURAL.sub("_other", key)]
        assert text.strip(), key
        assert len(text) <= 1.8 * len(english) + 10, key
        assert language == "en" or len(english) < 20 or text != english, key
    assert all(len(texts[key]) <= 15 for key in texts if key.startswith("navigation."))
    assert len(texts["common.show_password"]) <= 15  # beside a label


def test_every_error_has_a_sentence() -> None:
    assert {f"errors.{code.code}" for code in ALL_CODES} <= ENGLISH.keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_mail_is_sent_in_the_language_with_nothing_left_to_fill_in(language: str) -> None:
    settings = AuthSettings(_env_file=None, template_dir=None)
    assert missing_parts(None, language, FEATURES.folders) == []
    for kind in ALL_MAILS:
        context = sample(settings, kind, pages=True)
        mail = render(settings, kind, context, language=language, features=FEATURES.folders)
        assert mail.html is not None
        direction = ' dir="rtl"' if language == "ar" else ""
        assert f'<html lang="{language}"{direction}>' in mail.html
        assert not {*"{}"} & {*mail.subject, *mail.body, *mail.html.partition("</head>")[2]}, kind
        for name in ("url", "page_url"):
            if name in context:
                assert f"\n\n{context[name]}\n\n" in mail.body
                assert mail.html.count(f'href="{context[name]}"') == 2


@pytest.mark.parametrize(
    ("count", "arabic", "polish"),
    [
        (1, "ساعة واحدة", "1 hour"),
        (2, "ساعتين", "2 hours"),
        (3, "3 ساعات", "3 hours"),
        (24, "24 ساعة", "24 hours"),
    ],
)
def test_a_duration_has_the_plural_of_its_language(count: int, arabic: str, polish: str) -> None:
    """And an English one where the language has no words."""
    assert words_in(None, "ar").duration(timedelta(hours=count)) == arabic
    assert words_in(None, "pl").duration(timedelta(hours=count)) == polish


def test_values_keep_their_direction_in_texts_from_right_to_left() -> None:
    """Unicode TR 9: an address is isolated from the sentence, in HTML as in text."""
    said = words_in(None, "ar")("verify.elsewhere", email="ada@example.com")
    assert "\u2068ada@example.com\u2069" in said
    settings = AuthSettings(_env_file=None, template_dir=None)
    html = render(settings, "verify", sample(settings, MailKind.VERIFY, pages=True), language="ar").html
    assert "\u2068<strong>ada@example.com</strong>\u2069" in str(html)
    assert "\u2068" not in words_in(None, "fr")("verify.elsewhere", email="ada@example.com")


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
