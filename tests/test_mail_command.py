"""`fastapi-pluggable-auth mail`: what an operator does with mails."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.commands.database import connected
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.models import Mail, MailState, User

from . import databases
from .conftest import EMAIL, SECRET, Mailbox
from .shipped import ALL_MAILS
from .smtp_server import text_of

DIALECTS = ("sqlite",)


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mailbox: Mailbox) -> str:
    """A database of its own with the tables, named by DATABASE_URL, and the settings of a deployment."""
    url = f"sqlite://{tmp_path / 'app.sqlite3'}"
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "DATABASE_URL": url,
        "JWT_SECRET": SECRET,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
        "AUTH_DELIVER_MAIL": "false",
    }.items():
        monkeypatch.setenv(name, value)
    asyncio.run(databases.create(url, "sqlite"))
    return url


@pytest.fixture
def mails(url: str) -> Callable[[], list[Mail]]:
    """Two mails, one of them given up; a call reads them anew."""

    async def fill() -> None:
        async with connected(url):
            user = await User.create(email=EMAIL, hashed_password="")
            auth = Auth(AuthSettings())
            for kind in (MailKind.VERIFY, MailKind.RESET):
                await auth.outbox.add(kind, EMAIL, user_id=user.id)
            await Mail.filter(kind="reset").update(
                state=MailState.DEAD, next_attempt_at=None, attempts=3, last_error="550 No such user"
            )

    async def read() -> list[Mail]:
        async with connected(url):
            return await Mail.all().order_by("kind")

    asyncio.run(fill())
    return lambda: asyncio.run(read())


def test_list_shows_what_waits_and_what_was_given_up(
    mails: Callable[[], list[Mail]], capsys: pytest.CaptureFixture[str]
) -> None:
    dead, waiting = mails()
    assert main(["mail", "list"]) == 0
    shown = capsys.readouterr()
    assert f"{waiting.id}  waiting      verify" in shown.out
    assert f"{dead.id}  dead         reset" in shown.out
    assert "3 attempts  550 No such user" in shown.out
    assert "2 mails" in shown.err
    assert main(["mail", "list", "--state", "dead", "--limit", "1"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(("which", "due"), [(["--dead"], 1), (["--all"], 2)])
def test_retry_makes_mails_due_at_once(
    which: list[str], due: int, mails: Callable[[], list[Mail]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mail", "retry", *which]) == 0
    assert f"{due} mails are due now" in capsys.readouterr().out
    assert {mail.state for mail in mails()} == {MailState.WAITING}


def test_retry_of_one_mail_and_of_none(
    mails: Callable[[], list[Mail]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mail", "retry", str(mails()[0].id)]) == 0
    assert mails()[0].state is MailState.WAITING
    assert main(["mail", "retry", str(uuid4())]) == 1
    for wrong in ([], ["no-id"], ["--dead", "--all"]):
        with pytest.raises(SystemExit):
            main(["mail", "retry", *wrong])
    capsys.readouterr()


def test_run_sends_until_it_is_told_to_stop(
    mails: Callable[[], list[Mail]], mailbox: Mailbox, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "fastapi_pluggable_auth", "mail", "run"]
    with subprocess.Popen(command, cwd=tmp_path, env=dict(os.environ), stdout=subprocess.PIPE) as process:
        mailbox.server.wait_for(1, 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert [mail.state for mail in mails()] == [MailState.DEAD, MailState.SENT]


@pytest.mark.parametrize("command", [["list"], ["retry", "--all"], ["run"]])
def test_a_database_that_is_not_there_is_said(
    command: list[str], url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
    if command != ["run"]:  # which goes on trying
        assert main(["mail", *command]) == 1
        assert "No database answers" in capsys.readouterr().err
    monkeypatch.delenv("DATABASE_URL")
    assert main(["mail", *command]) == 1
    assert "Set DATABASE_URL" in capsys.readouterr().err


def test_a_test_mail_goes_by_the_provider_of_the_settings(
    url: str, mailbox: Mailbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mail", "test", EMAIL, "--language", "de"]) == 0
    assert f"Sent to {EMAIL} by smtp" in capsys.readouterr().out
    (message,) = mailbox.messages
    assert message["Subject"] == "Testnachricht von MyApp"
    assert "kann E-Mails senden" in text_of(message)


def test_a_test_mail_that_is_refused_says_why(
    url: str, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mailbox.server.behaviour = "permanent"
    assert main(["mail", "test", EMAIL]) == 1
    assert "550 5.1.1 No such user" in capsys.readouterr().err
    assert main(["mail", "test", "no address"]) == 1
    capsys.readouterr()
    assert main(["mail", "test", EMAIL, "--language", "xx"]) == 2
    assert capsys.readouterr().err.startswith("No mail is in 'xx': pass one of ar, de, en, ")
    monkeypatch.setenv("EMAIL_PROVIDER", "sendgrid")
    assert main(["mail", "test", EMAIL]) == 1
    assert "SENDGRID_API_KEY" in capsys.readouterr().err


def test_preview_writes_every_mail_in_every_language(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mail", "preview", "out"]) == 0
    assert capsys.readouterr().out.strip() == "out/index.html"
    index = (tmp_path / "out" / "index.html").read_text("utf-8")
    for language in ("en", "de"):
        for kind in ALL_MAILS:
            assert f'href="{language}/{kind}.html"' in index
            assert (tmp_path / "out" / language / f"{kind}.txt").exists()
            assert f'lang="{language}"' in (tmp_path / "out" / language / f"{kind}.html").read_text("utf-8")


APP = """
from pathlib import Path
from fastapi import FastAPI
from fastapi_pluggable_auth import include_auth
from fastapi_pluggable_auth.features import Feature, MailSpec, MailTable

class NoteMail(MailTable):
    SHARED = "shared", MailSpec(sample={"note": "Groceries"})

app = FastAPI()
include_auth(app, features=[Feature(name="notes", mails=NoteMail, words=Path(__file__).parent / "words")])
"""


@pytest.mark.parametrize("spoken", ["en", "de"])
@pytest.mark.parametrize("default", ["en", "de", "fr"])
def test_a_mail_of_a_feature_in_one_language_is_sent_and_previewed_in_that(
    spoken: str,
    default: str,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "words").mkdir()
    words = tmp_path / "words" / f"{spoken}.toml"
    words.write_text('[mails.shared]\nsubject = "Note {note}"\ntext = "{note}"')
    (tmp_path / "notes_app.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "notes_app", raising=False)
    monkeypatch.setenv("AUTH_DEFAULT_LANGUAGE", default)
    preview = ["mail", "preview", "out", "--app", "notes_app:app"]
    assert main(preview) == 0, capsys.readouterr().err
    for language in ("en", "de", "fr"):
        mail = (tmp_path / "out" / language / "shared.txt").read_text("utf-8")
        assert mail.startswith("Subject: Note Groceries\n")
        page = (tmp_path / "out" / language / "shared.html").read_text("utf-8")
        assert f'lang="{spoken}"' in page


def test_preview_names_what_a_mail_of_a_feature_lacks_in_a_language_that_it_was_begun_in(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "en.toml").write_text('[mails.shared]\nsubject = "Note"\ntext = "{note}"')
    (tmp_path / "words" / "de.toml").write_text('[mails.shared]\nsubject = "Notiz"')
    (tmp_path / "notes_app.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "notes_app", raising=False)
    assert main(["mail", "preview", "out", "--app", "notes_app:app"]) == 1
    said = "de: mails.shared.text is missing, its mail is sent in another language\n"
    assert capsys.readouterr().err == said


def test_a_folder_that_cannot_be_written_to_is_said_in_one_sentence(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for folder, why in (("/proc/x", "No such file or directory"), ("file", "Not a directory")):
        assert main(["mail", "preview", folder]) == 1
        assert capsys.readouterr().err == f"The mails cannot be written to {folder}: {why}.\n"


def test_preview_names_what_a_language_lacks_and_what_is_broken(
    url: str, template_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTH_TEMPLATE_DIR", str(template_dir))
    (template_dir / "nl").mkdir()
    (template_dir / "nl" / "verify.txt").write_text("Dag")
    assert main(["mail", "preview", "out"]) == 1
    assert "nl: mails.verify.subject is missing" in capsys.readouterr().err
    (template_dir / "de").mkdir()
    (template_dir / "de" / "reset.txt").write_text("{% if %}")
    assert main(["mail", "preview", "out"]) == 1
    assert "reset" in capsys.readouterr().err
