"""Templates of the app: those of 0.1 by their names, and those that cannot be rendered."""

from __future__ import annotations

import logging
import shutil
from itertools import cycle
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth import config as config_module
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.email import rendering, template_check, template_folders
from fastapi_pluggable_auth.email.sender import TemplateError, send_email_async
from fastapi_pluggable_auth.email.template_folders import TEMPLATES
from fastapi_pluggable_auth.models import Mail, MailState

from .conftest import EMAIL, PASSWORD, SECRET, Clock, Mailbox
from .smtp_server import link_in, text_of

DIALECTS = ("sqlite",)
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}
OF_0_1 = "Hello {{ email }},\n\nclick:\n\n{{ verify_link }}\n\nThanks!\n"
LINK = "https://example.com/verify/ABC123"


@pytest.fixture
def folder(tmp_path: Path, settings: AuthSettings) -> Path:
    """The app's own."""
    settings.template_dir = tmp_path / "templates"
    settings.template_dir.mkdir()
    return settings.template_dir


@pytest.fixture
def defaults(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> AuthSettings:
    """The default settings, with the mail server of the tests."""
    settings = config_module.settings
    for name, value in {
        "smtp_host": "127.0.0.1",
        "smtp_port": mailbox.server.port,
        "jwt_secret": SECRET,
    }.items():
        monkeypatch.setattr(settings, name, value)
    monkeypatch.setattr(settings, "template_dir", None)
    return settings


async def smoke(**context: object) -> None:
    """The test that 0.1 documents."""
    await send_email_async(
        to="you@example.com",
        subject="Test Email",
        template_name="verify.txt.jinja",
        email="you@example.com",
        verify_link=LINK,
        **context,
    )


async def test_the_mail_that_0_1_documents_as_a_test_is_sent(
    defaults: AuthSettings, mailbox: Mailbox
) -> None:
    await smoke()
    await send_email_async("you@example.com", "Reset", "reset.txt.jinja", reset_link=LINK, language="de")
    await smoke(url="https://example.com/another", name="Ada", language=None)
    verify, reset, another = mailbox.messages
    assert link_in(another) == "https://example.com/another"
    with pytest.raises(TemplateError, match=r"no mail template 'greet.txt' in AUTH_TEMPLATE_DIR"):
        await send_email_async("you@example.com", "Hi", "greet.txt.jinja")
    assert (verify["To"], verify["Subject"], verify.get_content_type()) == (
        "you@example.com",
        "Test Email",
        "multipart/alternative",
    )
    assert link_in(verify) == link_in(reset) == LINK
    assert "24 hours" in text_of(verify)
    assert "1 Stunde" in text_of(reset)


async def test_the_mail_that_0_1_documents_is_sent_from_a_template_of_the_app(
    defaults: AuthSettings, mailbox: Mailbox, tmp_path: Path
) -> None:
    (tmp_path / "verify.txt.jinja").write_text(OF_0_1 + "{% include 'foot.jinja' %}")
    (tmp_path / "foot.jinja").write_text("Your <team>")
    (tmp_path / "greet.jinja").write_text("Hi {{ name }} at {{ email }}")
    defaults.template_dir = tmp_path
    await smoke()
    await send_email_async("you@example.com", "Hi", "greet.jinja", name="Ada")
    mail, greeting = mailbox.messages
    assert mail.get_content_type() == "text/plain"
    assert text_of(mail).split() == f"Hello you@example.com, click: {LINK} Thanks! Your <team>".split()
    assert text_of(greeting).strip() == "Hi Ada at you@example.com"


@pytest.fixture(params=["template_dir", "its language", "where 0.1 had them"])
def place(
    request: pytest.FixtureRequest, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Where an app may have put its templates of 0.1; in a copy of the package's folder, which other tests
    use meanwhile."""
    if request.param == "its language":
        (folder / "en").mkdir()
        return folder / "en"
    if request.param == "template_dir":
        return folder
    installed = shutil.copytree(TEMPLATES, tmp_path / "installed")
    for module in (rendering, template_folders):
        monkeypatch.setattr(module, "TEMPLATES", installed)
    return installed


async def test_the_flows_mail_the_templates_of_0_1_and_their_links_work(
    place: Path, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    (place / "verify.txt.jinja").write_text(OF_0_1)
    (place / "reset.txt.jinja").write_text("For {{ email }}: {{ reset_link }}")
    await client.post("/auth/signup", json=CREDENTIALS)
    (mail,) = mailbox.messages
    assert mail.get_content_type() == "text/plain"
    assert mail["Subject"] == "Confirm your e-mail address for MyApp"
    assert text_of(mail).split()[:4] == [
        "Hello",
        f"{EMAIL},",
        "click:",
        "http://localhost:8000" + mailbox.link(),
    ]
    assert (await client.get(mailbox.link())).status_code == 200
    mailbox.clear()
    await client.post("/auth/forgot-password", json={"email": EMAIL})
    assert text_of(mailbox.messages[0]).startswith(f"For {EMAIL}: http://localhost:8000/auth/reset-password/")
    assert (await client.get(mailbox.link())).status_code == 200


@pytest.fixture
def three_files(folder: Path) -> None:
    """All parts of a mail."""
    (folder / "verify.txt.jinja").write_text(OF_0_1)
    (folder / "verify.html.jinja").write_text("<p>{{ '<' }}<a href='{{ verify_link }}'>here</a>")
    (folder / "verify.subject.txt").write_text("Ours")


async def test_html_of_the_app_stands_beside_its_text_of_0_1(
    three_files: None, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await client.post("/auth/signup", json=CREDENTIALS)
    (mail,) = mailbox.messages
    assert mail["Subject"] == "Ours"
    page = mail.get_body(("html",))
    assert page is not None
    assert page.get_content().startswith("<p>&lt;<a href='http://localhost:8000/auth/verify/")


BROKEN = {
    "a syntax error": ("Hi\n{{ verify_link }\n", 2, "unexpected '}'"),
    "a tag that nothing ends": ("Hi\n\n{% if email %}\n{{ verify_link }}", 4, "end of template"),
    "an unknown name": ("Hi\n\n{{ verify_lnk }}", 3, "'verify_lnk' is undefined"),
    "an unknown name in a branch": (
        "Hi\n{% if email == '' %}\n{{ nme }}{% endif %}",
        3,
        "'nme' is undefined",
    ),
    "a missing include in a branch": (
        "\n{% if email == '' %}{% include 'x' %}{% endif %}",
        2,
        "template 'x'",
    ),
    "a broken include in a branch": ("{% if email == '' %}{% include 'bad' %}{% endif %}", 1, "unexpected"),
    "a part of a name that is not there": (
        "{% for _ in () %}{{ nme.first }}{% endfor %}",
        1,
        "'nme' is undefined",
    ),
    "an import that is not there": ("{% import 'words' as words %}", 1, "no mail template 'words'"),
    "itself": ("{% include 'verify.subject.txt' %}", 1, "RecursionError"),
    "an unknown part": ("Hi {{ email.first.name }}", 1, "no attribute 'first'"),
    "an include that is not there": ("Hi\n{% include 'foot.txt' %}", 2, "no mail template 'foot.txt'"),
    "a parent that is not there": ("{% extends 'base.txt' %}", 1, "no mail template 'base.txt'"),
    "an unknown filter": ("Hi\n{{ email | shout }}", 2, "No filter named 'shout'"),
    "an operation that cannot be": ("Hi\n{{ email + 1 }}", 2, "TypeError"),
    "a division": ("{{ 1 / 0 }}", 1, "ZeroDivisionError"),
    "an unknown name that goes through a filter": (
        "Hi\n{% if email == '' %}\n{{ nme | upper }}{% endif %}",
        3,
        "'nme' is undefined",
    ),
}


NAMES = ("verify.txt.jinja", "verify.txt", "de/verify.html", "verify.subject.txt", "en/verify.txt.jinja")


@pytest.mark.parametrize(("fault", "name"), [*zip(BROKEN, cycle(NAMES), strict=False)])
def test_a_template_that_cannot_be_rendered_is_found_at_the_start(
    fault: str, name: str, folder: Path, settings: AuthSettings
) -> None:
    """With its file, the line, and what is wrong."""
    text, line, said = BROKEN[fault]
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / "bad").write_text("{{ }")
    with pytest.raises(TemplateError) as refusal:
        include_auth(FastAPI(), settings=settings)
    file = folder / ("bad" if fault.startswith("a broken include") else name)
    assert f"'verify', {file}, line {line}: " in str(refusal.value)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("_layout.html", "{{ {'en': 1, 'ar': 1}[language] }}", "_layout.html"),
        ("_layout.html", "{% if language == 'ja' %}{{ 1 / 0 }}{% endif %}", "ZeroDivisionError"),
        ("_layout.html", "{% if direction == 'rtl' %}{{ 1 / 0 }}{% endif %}", "ZeroDivisionError"),
        ("_layout.html", "{{ text('mine.hello', name=1) }}", "KeyError"),
        ("_mail.txt", "{{ url }}", "'url' is undefined"),
        ("pt-BR/_mail.txt", "{{ 1 / 0 }}", "ZeroDivisionError"),
        ("ja/verify.html", "{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)
def test_a_mistake_that_shows_in_one_language_or_one_mail_alone_is_found_at_the_start(
    name: str, text: str, said: str, folder: Path, settings: AuthSettings
) -> None:
    (folder / "words").mkdir()
    (folder / "words" / "fr.toml").write_text('[mine]\nhello = "Salut"')
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    with pytest.raises(TemplateError, match=said):
        include_auth(FastAPI(), settings=settings)


def test_a_text_with_another_place_in_one_language_is_found_at_the_start(
    folder: Path, settings: AuthSettings
) -> None:
    (folder / "words").mkdir()
    for language, place in (("en", "name"), ("fr", "nom")):
        (folder / "words" / f"{language}.toml").write_text(f'[mine]\nhello = "{{{place}}}"')
    (folder / "_layout.html").write_text("{{ text('mine.hello', name=1) }}")
    with pytest.raises(TemplateError, match="nom"):
        include_auth(FastAPI(), settings=settings)


def test_a_layout_of_the_app_is_not_tried_in_each_language(
    folder: Path, settings: AuthSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which took a second and a half at each start."""
    (folder / "_layout.html").write_text((TEMPLATES / "_layout.html").read_text())
    tried: list[str] = []
    monkeypatch.setattr(
        template_check,
        "render",
        lambda *given, language, **options: (
            tried.append(language) or rendering.render(*given, language=language, **options)
        ),
    )
    include_auth(FastAPI(), settings=settings)
    assert {*tried} == {"en", "ar"}
    (folder / "de").mkdir()
    (folder / "de" / "_layout.html").write_text("{{ subject }}")
    tried.clear()
    include_auth(FastAPI(), settings=settings)
    assert {*tried} == {"en", "ar", "de"}


@pytest.mark.parametrize("name", ["_layout.html", "de/_words.txt", "nl/reset.html"])
def test_a_broken_part_that_mails_share_is_found_at_the_start(
    name: str, folder: Path, settings: AuthSettings
) -> None:
    for language in ("de", "nl"):
        (folder / language).mkdir()
        (folder / language / "_words.txt").write_text((TEMPLATES / "_words.txt").read_text())
        for part in (".txt", ".subject.txt"):
            (folder / language / f"reset{part}").write_text("{{ url }}")
    (folder / name).write_text("{% if %}")
    with pytest.raises(TemplateError, match=f"{folder / name}, line 1: "):
        include_auth(FastAPI(), settings=settings)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("words/en.toml", "[sign_in", "Expected"),
        ("de/page_words.toml", '[sign_in]\ntitle = "Hallo {name}"', "sign_in.title: nothing fills {name}."),
        (
            "words/nl.toml",
            '[mails.verify]\ntext = "{app} {link}"',
            "mails.verify.text: nothing fills {link}.",
        ),
        ("words/nl.toml", '[errors]\nthrottled = "{"', "errors.throttled: "),
        ("words/nl.toml", "[errors]\nthrottled = 7", "errors.throttled: it is not a text."),
        *(
            ("words/nl.toml", f'[errors]\nours = "{text}"', said)
            for text, said in (
                ("{minimum.x}", "errors.ours: nothing fills {minimum.x}."),
                ("{wait[0]}", "errors.ours: nothing fills {wait[0]}."),
                ("{minimum:%Y}", "errors.ours: nothing fills {minimum:%Y}."),
                ("{}", "errors.ours: nothing fills {}."),
                ("{0}", "errors.ours: nothing fills {0}."),
                ("{", "errors.ours: "),
            )
        ),
    ],
)
def test_words_that_cannot_be_said_are_found_at_the_start(
    name: str, text: str, said: str, folder: Path, settings: AuthSettings
) -> None:
    (folder / name).parent.mkdir()
    (folder / name).write_text(text)
    with pytest.raises(TemplateError) as refusal:
        include_auth(FastAPI(), settings=settings)
    assert str(folder / name) in str(refusal.value)
    assert said in str(refusal.value)


def test_words_may_use_what_the_library_fills_in_elsewhere(folder: Path, settings: AuthSettings) -> None:
    (folder / "words").mkdir()
    (folder / "words" / "en.toml").write_text(
        '[errors]\nthrottled = "{minimum}"\nours = "{anything} {wait}"\n'
        '[fields]\ncompany_hint = "Like {}, or {x.y}"\n[mails.verify]\nsubject = "{email}, {app}"'
    )
    include_auth(FastAPI(), settings=settings)


def test_a_template_that_is_no_text_is_found_at_the_start(folder: Path, settings: AuthSettings) -> None:
    (folder / "verify.txt.jinja").write_bytes(b"Gr\xfc\xdfe {{ verify_link }}")
    with pytest.raises(TemplateError, match=f"{folder}/verify.txt.jinja.*utf-8"):
        include_auth(FastAPI(), settings=settings)


@pytest.mark.parametrize(
    "text",
    [
        "{{ verify_link }} {{ nickname | default('you') }}{% if name is defined %}{{ name }}{% endif %}",
        "{% set who = email %}{% for each in [1] %}{{ each }}{{ who }}{{ loop.index }}{% endfor %}{{ url }}",
        "{% macro bold(x) %}*{{ x }}*{% endmacro %}{{ bold(app_name) }}{{ range(3) | list }}{{ lifetime }}",
        "{% include 'foot.txt' ignore missing %}{% import 'words.txt' as words %}{{ words.hi(email) }}",
        "{% extends 'base.txt' %}{% block body %}{{ brand }}{{ language }}{% endblock %}",
    ],
)
def test_no_template_that_can_be_rendered_is_refused(text: str, folder: Path, settings: AuthSettings) -> None:
    (folder / "verify.txt.jinja").write_text(text)
    (folder / "words.txt").write_text("{% macro hi(name) %}{{ name }}{% endmacro %}")
    (folder / "base.txt").write_text("{% set brand = 'x' %}{% block body %}{% endblock %}")
    (folder / "site.html").write_text("{% trans %} of another engine {{ anything")
    include_auth(FastAPI(), settings=settings)


def test_check_names_what_is_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "reset.txt.jinja").write_text("{{ reset_lnk }}")
    monkeypatch.setenv("AUTH_TEMPLATE_DIR", str(folder))
    monkeypatch.setenv("EMAIL_PROVIDER", "console")
    assert main(["check"]) == 1
    assert (
        f"FAIL  templates: Mail template 'reset', {folder}/reset.txt.jinja, line 1: "
        in capsys.readouterr().out
    )
    (folder / "reset.txt.jinja").write_text("{{ reset_link }}")
    main(["check"])
    assert "ok    templates\n" in capsys.readouterr().out
    shutil.rmtree(folder)
    main(["check"])
    assert f"FAIL  templates: AUTH_TEMPLATE_DIR: there is no folder {folder}." in capsys.readouterr().out


async def test_a_mail_whose_template_broke_while_the_app_runs_waits_and_goes_once_it_is_mended(
    folder: Path,
    client: httpx.AsyncClient,
    mailbox: Mailbox,
    auth: Auth,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing of the mail is in the log or in the row."""
    broken = folder / "verify.txt.jinja"
    broken.write_text("Hi\n{{ {}[verify_link] }}" + "x" * 300)
    caplog.clear()
    assert (await client.post("/auth/signup", json=CREDENTIALS)).status_code == 201
    mail = await Mail.get()
    assert (mail.state, mailbox.messages) == (MailState.WAITING, [])
    assert f"{broken}, line 2: " in mail.last_error
    (logged,) = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert f"{broken}, line 2: " in logged
    assert "/auth/verify/" not in mail.last_error + caplog.text
    broken.write_text(OF_0_1)
    clock.advance(hours=1)
    assert await auth.dispatcher.deliver_due() == 1
    assert link_in(mailbox.messages[0])
