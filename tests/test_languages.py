"""Mails speak the language of their reader."""

from __future__ import annotations

from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.email.languages import fallbacks, preferred
from fastapi_pluggable_auth.email.rendering import missing_parts, render
from fastapi_pluggable_auth.email.template_folders import TEMPLATES, available_languages
from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, PASSWORD, Mailbox
from .smtp_server import text_of

DIALECTS = ("sqlite",)
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}
VERIFY = {"email": EMAIL, "url": "https://app.example.com/x", "lifetime": timedelta(hours=24)}


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de", "de"),
        ("DE-at", "de"),
        ("de-CH-1996,fr;q=0.9", "de"),
        ("fr,de;q=0.5,en;q=0.7", "en"),
        ("fr;q=0.2, de ; q=0.100", "de"),
        ("pt-br", "pt-BR"),
        ("pt", None),
        ("de;q=0", None),
        ("en;q=0, de;q=0.001", "de"),
        ("*", None),
        ("", None),
        ("../de", None),
        ("de;q=nonsense", None),
        ("x" * 100_000 + ",de", "de"),
        ("fr," * 30 + "de", None),
    ],
)
def test_the_best_available_language_is_taken(header: str, language: str | None) -> None:
    """RFC 9110 section 12.5.4, RFC 4647 section 3.4."""
    assert preferred(header, {"en", "de", "pt-BR"}) == language


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
        ("fr,en;q=0.5", "Confirm your e-mail address for MyApp", "The link works for 24 hours."),
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


def settings_with(folder: Path | None = None, **values: object) -> AuthSettings:
    return AuthSettings(_env_file=None, template_dir=folder, **values)


def copy_of_english(folder: Path, language: str) -> Path:
    (folder / language).mkdir(parents=True)
    for path in (TEMPLATES / "en").iterdir():
        (folder / language / path.name).write_text(path.read_text().replace("Hello,", "Bonjour,"))
    return folder


def test_german_is_complete() -> None:
    assert available_languages(None) == {"en", "de"}
    assert missing_parts(None, "de") == []


def test_a_folder_adds_a_language(tmp_path: Path) -> None:
    settings = settings_with(copy_of_english(tmp_path, "fr"))
    assert available_languages(tmp_path) == {"en", "de", "fr"}
    mail = render(settings, "verify", VERIFY, language="fr-CA")
    assert mail.body.startswith("Bonjour,")
    assert mail.html is not None
    assert '<html lang="fr">' in mail.html


@pytest.mark.parametrize("lost", ["verify.txt", "verify.subject.txt", "verify.html", "_words.txt"])
def test_a_mail_is_never_in_two_languages(lost: str, tmp_path: Path) -> None:
    folder = copy_of_english(tmp_path, "fr")
    (folder / "fr" / lost).unlink()
    settings = settings_with(folder, default_language="de")
    assert missing_parts(folder, "fr") == [lost]
    assert render(settings, "verify", VERIFY, language="fr").body.startswith("Guten Tag,")
    assert render(settings, "verify", VERIFY, language="en").body.startswith("Hello,")


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
