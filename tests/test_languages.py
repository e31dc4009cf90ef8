"""Mails speak the language of their reader."""

from __future__ import annotations

import re
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.email.rendering import missing_parts, render
from fastapi_pluggable_auth.email.template_folders import available_languages
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.words.languages import fallbacks, preferred

from .conftest import EMAIL, PASSWORD, Mailbox
from .smtp_server import text_of

DIALECTS = ("sqlite",)
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}
VERIFY = {"email": EMAIL, "url": "https://app.example.com/x", "lifetime": timedelta(hours=24)}


def settings_with(folder: Path | None = None, **values: object) -> AuthSettings:
    return AuthSettings(_env_file=None, template_dir=folder, **values)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de", "de"),
        ("DE-at", "de"),
        ("de-CH-1996,fr;q=0.9", "de"),
        ("fr,de;q=0.5,en;q=0.7", "en"),
        ("fr;q=0.2, de ; q=0.100", "de"),
        ("pt-br", "pt-BR"),
        ("pt", "pt-BR"),
        ("pt-PT", "pt-BR"),
        ("zh", "zh-CN"),
        ("zh-Hans-SG", "zh-CN"),
        ("zh-Hant,zh-TW;q=0.9", None),
        ("zh-HK,en;q=0.5", "en"),
        ("de;q=0", None),
        ("en;q=0, de;q=0.001", "de"),
        ("*", None),
        ("", None),
        ("../de", None),
        ("de;q=nonsense", None),
        ("x" * 100_000 + ",de", "de"),
        ("fr," * 30 + "de", None),
        ("de" + "-a" * 30_000 + ",en", "en"),
    ],
)
def test_the_best_available_language_is_taken(header: str, language: str | None) -> None:
    """RFC 9110 section 12.5.4, RFC 4647 section 3.4."""
    assert preferred(header, {"en", "de", "pt-BR", "zh-CN"}) == language


@given(st.text(alphabet="deDE-*;q=01., \t\n\0é", max_size=200))
def test_no_header_breaks_the_choice(header: str) -> None:
    assert preferred(header, {"en", "de"}) in {"en", "de", None}


def test_languages_fall_back_to_their_parent_the_default_and_english() -> None:
    assert fallbacks("de-AT", "fr-CA") == ["de-AT", "de", "fr-CA", "fr", "en"]
    assert fallbacks(None, "en") == ["en"]


@pytest.mark.parametrize(
    ("header", "subject", "words"),
    [
        (
            "de-AT,de;q=0.9,en;q=0.8",
            "Bestätigen Sie Ihre E-Mail-Adresse für MyApp",
            "Der Link gilt 24 Stunden.",
        ),
        ("nl,en;q=0.5", "Confirm your e-mail address for MyApp", "The link works for 24 hours."),
        (None, "Confirm your e-mail address for MyApp", "The link works for 24 hours."),
        ("\xff", "Confirm your e-mail address for MyApp", "The link works for 24 hours."),
    ],
)
async def test_a_signup_chooses_the_language_of_the_mails(
    header: str | None, subject: str, words: str, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    headers = {} if header is None else {"Accept-Language": header.encode("latin-1")}
    signup = await client.post("/auth/signup", json=CREDENTIALS, headers=headers)
    assert signup.status_code == 201
    (message,) = mailbox.messages
    assert message["Subject"] == subject
    assert words in text_of(message)
    assert words in html_of(message)


async def test_later_mails_keep_the_language_of_the_account_and_the_app_may_change_it(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await client.post("/auth/signup", json=CREDENTIALS, headers={"Accept-Language": "de"})
    await client.get(mailbox.link())
    forgotten = {"json": {"email": EMAIL}, "headers": {"Accept-Language": "en"}}
    await client.post("/auth/forgot-password", **forgotten)
    assert mailbox.messages[-1]["Subject"] == "Wählen Sie ein neues Passwort für MyApp"
    await User.all().update(language="en")
    await client.post("/auth/forgot-password", **forgotten)
    assert mailbox.messages[-1]["Subject"] == "Choose a new password for MyApp"


def html_of(message: EmailMessage) -> str:
    part = message.get_body(("html",))
    assert part is not None
    return str(part.get_content())


# Folders of templates


DUTCH = {
    "verify.txt": "Dag, {{ url }} werkt {{ lifetime }}.",
    "verify.subject.txt": "Bevestig",
    "verify.html": '{% extends "_layout.html" %}{% block content %}<p>Dag</p>{% endblock %}',
    "_words.txt": """{% macro duration(count, unit) %}{{ count }} uur{% endmacro %}
{% macro open_link() %}Open deze link:{% endmacro %}
{% macro automatic(app_name) %}Automatisch bericht.{% endmacro %}""",
}
"""A mail of an app in a language of its own, as files."""

DUTCH_WORDS = """
[durations]
minute_one = "{count} minuut"
minute_other = "{count} minuten"
hour_one = "{count} uur"
hour_other = "{count} uur"

[mails]
greeting = "Dag,"
button = "Naar {app}"
reason = "Voor uw veiligheid."
open_link = "Open deze link:"
automatic = "Automatisch bericht van {app}."

[mails.verify]
subject = "Bevestig uw adres"
text = \"\"\"
Welkom!

{url}

De link werkt {lifetime}.\"\"\"
button = "Bevestigen"
reason = "Anders niets doen."
"""


def dutch_files(folder: Path) -> Path:
    (folder / "nl").mkdir(parents=True)
    for name, text in DUTCH.items():
        (folder / "nl" / name).write_text(text)
    return folder


def dutch_words(folder: Path, words: str = DUTCH_WORDS) -> Path:
    (folder / "words").mkdir(parents=True)
    (folder / "words" / "nl.toml").write_text(words)
    return folder


def test_a_folder_adds_a_language(tmp_path: Path) -> None:
    settings = settings_with(dutch_files(tmp_path))
    assert available_languages(settings) >= {"en", "de", "nl"}
    mail = render(settings, "verify", VERIFY, language="nl-BE")
    assert mail.body == "Dag, https://app.example.com/x werkt 24 uur."
    assert mail.html is not None
    assert '<html lang="nl">' in mail.html
    assert "Automatisch bericht." in mail.html


def test_one_file_of_words_adds_a_language(tmp_path: Path) -> None:
    settings = settings_with(dutch_words(tmp_path))
    assert available_languages(settings) >= {"en", "de", "nl"}
    mail = render(settings, "verify", VERIFY, language="nl-BE")
    assert mail.subject == "Bevestig uw adres"
    assert mail.body.split("\n\n") == [
        "Dag,",
        "Welkom!",
        "https://app.example.com/x",
        "De link werkt 24 uur.",
        "Anders niets doen.",
        "MyApp",
    ]
    assert mail.html is not None
    assert '<html lang="nl">' in mail.html
    assert "Automatisch bericht van MyApp." in mail.html
    assert ">Bevestigen</a>" in mail.html
    assert render(settings, "reset", VERIFY, language="nl").body.startswith("Hello,")


@pytest.mark.parametrize("lost", sorted(DUTCH))
def test_a_mail_is_never_in_two_languages(lost: str, tmp_path: Path) -> None:
    folder = dutch_files(tmp_path)
    (folder / "nl" / lost).unlink()
    settings = settings_with(folder, default_language="de")
    assert render(settings, "verify", VERIFY, language="nl").body.startswith("Guten Tag,")
    assert render(settings, "verify", VERIFY, language="en").body.startswith("Hello,")


@pytest.mark.parametrize("lost", re.findall(r"(?m)^(?!minute_one|hour_one)(\w+) =", DUTCH_WORDS))
def test_a_mail_of_words_is_never_in_two_languages(lost: str, tmp_path: Path) -> None:
    words = re.sub(rf"(?m)^{lost} =", "unknown =", DUTCH_WORDS, count=1)
    settings = settings_with(dutch_words(tmp_path, words), default_language="de")
    assert [key.rpartition(".")[2] for key in missing_parts(tmp_path, "nl")[:1]] == [lost]
    assert render(settings, "verify", VERIFY, language="nl").body.startswith("Guten Tag,")


def test_a_mail_takes_what_its_own_files_lack_from_the_words_of_the_language(tmp_path: Path) -> None:
    (tmp_path / "de").mkdir()
    (tmp_path / "de" / "verify.subject.txt").write_text("Nur der Betreff")
    mail = render(settings_with(tmp_path), "verify", VERIFY, language="de")
    assert mail.subject == "Nur der Betreff"
    assert mail.body.startswith("Guten Tag,")


def test_a_file_of_the_app_is_for_all_languages_and_one_in_a_folder_for_that_one(tmp_path: Path) -> None:
    (tmp_path / "de").mkdir()
    (tmp_path / "verify.txt").write_text("flat")
    (tmp_path / "de" / "verify.txt").write_text("deutsch")
    (tmp_path / "reset.txt").write_text("flat")
    settings = settings_with(tmp_path)
    assert render(settings, "verify", VERIFY, language="de").body == "deutsch"
    assert render(settings, "verify", VERIFY, language="en").body == "flat"
    assert render(settings, "reset", VERIFY, language="de").body == "flat"


def test_a_language_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "verify.txt").write_text("secret")
    folder = tmp_path / "templates"
    folder.mkdir()
    assert "secret" not in render(settings_with(folder), "verify", VERIFY, language="../secret").body


@pytest.mark.parametrize(
    ("duration", "english", "german"),
    [
        (timedelta(hours=24), "24 hours", "24 Stunden"),
        (timedelta(hours=1), "1 hour", "1 Stunde"),
        (timedelta(minutes=90), "90 minutes", "90 Minuten"),
        (timedelta(seconds=20), "1 minute", "1 Minute"),
    ],
)
def test_durations_are_put_into_words(duration: timedelta, english: str, german: str) -> None:
    context = VERIFY | {"lifetime": duration}
    assert f"works for {english}." in render(settings_with(), "verify", context, language="en").body
    assert f"gilt {german}." in render(settings_with(), "verify", context, language="de").body
