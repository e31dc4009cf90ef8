"""Mail: providers over real connections, message building, templates."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest

from fastapi_pluggable_auth.config import AuthSettings
from fastapi_pluggable_auth.config import settings as default_settings
from fastapi_pluggable_auth.email.message import build_message
from fastapi_pluggable_auth.email.provider import (
    ConsoleProvider,
    EmailProvider,
    FileProvider,
    MailError,
    MemoryProvider,
    SendGridProvider,
    SMTPProvider,
    provider_for,
)
from fastapi_pluggable_auth.email.sender import Mailer, RenderedMail, TemplateError, send_email_async
from fastapi_pluggable_auth.email.smtp import security_of

from .shipped import FEATURES, PAGES
from .smtp_server import MailServer, link_in, text_of

LOGIN = ("mailer", "s3cret-päss")
LINK = "http://localhost:8000/auth/verify/abc.def-ghi_jkl"
HOSTILE = "{{7*7}} {% raw %} <script>alert(1)</script> \"'&"

CONTEXT: dict[str, dict[str, Any]] = {
    "verify": {"email": HOSTILE, "url": LINK, "lifetime": "24 hours"},
    "reset": {"email": HOSTILE, "url": LINK, "lifetime": "1 hour"},
    "email_change": {"email": HOSTILE, "url": LINK, "lifetime": "24 hours"},
    "email_changed": {"email": "old@example.com", "new_email": HOSTILE, "when": "today"},
    "account_exists": {"email": HOSTILE},
    "signup_clash": {"email": HOSTILE, "columns": HOSTILE},
    "recovery_codes_renewed": {"email": HOSTILE, "when": "today"},
    "recovery_code_used": {"email": HOSTILE, "when": "today", "remaining": 9},
    "new_device": {"email": HOSTILE, "when": "today", "agent": HOSTILE, "address": HOSTILE},
    "personal_token_created": {"email": HOSTILE, "when": "today", "name": HOSTILE, "scopes": "a, b"},
    "session_reuse": {"email": HOSTILE, "when": "today"},
    "password_changed": {"email": HOSTILE, "when": "today"},
    "two_factor_enabled": {"email": HOSTILE, "when": "today"},
    "two_factor_disabled": {"email": HOSTILE, "when": "today"},
}
for kind in PAGES:
    CONTEXT.get(kind, {})["page_url"] = LINK

NOT_ONE_ADDRESS = [
    "",
    "a",
    "@example.com",
    "a@",
    "a@example.com, b@example.com",
    "a@example.com,b@example.com",
    "a@example.com;b@example.com",
    "a@example.com b@example.com",
    "a@b@example.com",
    "Ann <a@example.com>",
    "<a@example.com>",
    "a@example.com>",
    "a@example.com> SIZE=1",
    '"a,b"@example.com',
    "a@exam ple.com",
    "a@example..com",
    "a@example.com\r\nBcc: b@example.com",
    "a@example.com\n",
    "a\0@example.com",
    "a\x7f@example.com",
    "a\u2028b@example.com",
    "a\u00a0b@example.com",
    "a\u202eb@example.com",
    "a\ud800@example.com",
    "a@\u0130\u0307..example",
    "=?utf-8?q?a?=<b@example.com>",
]


def make_settings(server: MailServer | None = None, **values: Any) -> AuthSettings:
    """Settings that point at the server and, if it has a certificate, trust it."""
    defaults: dict[str, Any] = {"smtp_host": "127.0.0.1", "smtp_timeout": 5}
    if server is not None:
        defaults |= {"smtp_port": server.port, "smtp_ca_file": server.ca_file}
        if server.login:
            defaults |= {"smtp_user": server.login[0], "smtp_password": server.login[1]}
    return AuthSettings(_env_file=None, **(defaults | values))


def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


async def send(settings: AuthSettings, to: str = "ann@example.com", subject: str = "Hi") -> None:
    await SMTPProvider(settings).send(to, subject, f"Go to {LINK}\n", f"<p>{LINK}</p>")


async def failure(settings: AuthSettings, to: str = "ann@example.com") -> MailError:
    with pytest.raises(MailError) as caught:
        await send(settings, to)
    return caught.value


class Recorder(EmailProvider):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str, str | None]] = []
        self.closed = False

    async def send(self, to: str, subject: str, body: str, html: str | None = None) -> None:
        self.sent.append((to, subject, body, html))

    async def close(self) -> None:
        await super().close()
        self.closed = True


# SMTP: the transport


@pytest.mark.parametrize("login", [None, LOGIN], ids=["anonymous", "login"])
@pytest.mark.parametrize("tls", [None, "starttls", "tls"])
async def test_mail_arrives_over_every_transport(
    tls: Literal["starttls", "tls"] | None, login: tuple[str, str] | None
) -> None:
    with MailServer(tls=tls, login=login, require_starttls=tls == "starttls") as server:
        await send(make_settings(server, smtp_security=tls or "plain"))
        [message] = await server.wait(1)
    assert server.recipients == [["ann@example.com"]]
    assert server.deliveries[0].sender == "no-reply@example.com"
    assert link_in(message) == LINK


async def test_an_empty_user_is_no_login() -> None:
    with MailServer() as server:
        await send(make_settings(server, smtp_user="", smtp_password="", smtp_security="plain"))
        await server.wait(1)


async def test_credentials_are_never_sent_without_starttls() -> None:
    """A-83."""
    with MailServer(login=LOGIN) as server:
        error = await failure(make_settings(server))  # auto: a login demands STARTTLS
        assert not error.permanent
        assert server.wire.startswith((b"EHLO", b"HELO"))
        assert b"AUTH" not in server.wire
        assert b"MAIL" not in server.wire


async def test_mail_is_never_sent_without_demanded_starttls() -> None:
    with MailServer() as server:
        assert not (await failure(make_settings(server, smtp_security="starttls"))).permanent
        assert b"MAIL" not in server.wire


@pytest.mark.parametrize("tls", ["starttls", "tls"])
@pytest.mark.parametrize("fault", ["unknown authority", "other name"])
async def test_nothing_is_sent_past_a_wrong_certificate(
    tls: Literal["starttls", "tls"], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A-83."""
    name = "mail.example.org" if fault == "other name" else "127.0.0.1"
    with MailServer(tls=tls, login=LOGIN, certificate_for=name) as server:
        settings = make_settings(server, smtp_security=tls)
        if fault == "unknown authority":
            settings.smtp_ca_file = None
        assert not (await failure(settings)).permanent
        assert b"AUTH" not in server.wire
        assert not server.messages


async def test_a_missing_authority_file_is_temporary(tmp_path: Path) -> None:
    with MailServer(tls="tls") as server:
        settings = make_settings(server, smtp_security="tls", smtp_ca_file=tmp_path / "none.pem")
        assert not (await failure(settings)).permanent


@pytest.mark.parametrize(
    ("port", "user", "security"),
    [
        (465, None, "tls"),
        (587, None, "starttls"),
        (25, None, "plain"),
        (2525, None, "plain"),
        (2525, "mailer", "starttls"),
    ],
)
def test_the_port_decides_the_transport(port: int, user: str | None, security: str) -> None:
    assert security_of(make_settings(smtp_port=port, smtp_user=user)) == security
    assert security_of(make_settings(smtp_port=port, smtp_user=user, smtp_security="tls")) == "tls"


async def test_changed_settings_take_effect_on_the_next_mail() -> None:
    settings = make_settings(smtp_port=closed_port(), smtp_security="plain")
    provider = SMTPProvider(settings)
    with pytest.raises(MailError):
        await provider.send("ann@example.com", "Hi", "text")
    with MailServer() as server:
        settings.smtp_port = server.port
        await provider.send("ann@example.com", "Hi", "text")
        assert len(await server.wait(1)) == 1


# SMTP: failures


@pytest.mark.parametrize("tls", [None, "starttls", "tls"])
async def test_a_wrong_password_is_temporary_and_not_in_the_error(
    tls: Literal["starttls", "tls"] | None,
) -> None:
    with MailServer(tls=tls, login=LOGIN) as server:
        settings = make_settings(server, smtp_security=tls or "plain", smtp_password="wrong-hunter2")
        error = await failure(settings)
        assert not error.permanent
        assert "hunter2" not in str(error)
        assert "535" in str(error)
        assert not server.messages


async def test_a_demanded_login_is_temporary() -> None:
    """530 to MAIL is about our settings, not about the mail."""
    with MailServer(login=LOGIN) as server:
        error = await failure(make_settings(server, smtp_user=None, smtp_security="plain"))
    assert not error.permanent
    assert "530" in str(error)


async def test_a_refused_connection_is_temporary() -> None:
    assert not (await failure(make_settings(smtp_port=closed_port(), smtp_security="plain"))).permanent


async def test_an_impossible_host_is_temporary() -> None:
    assert not (await failure(make_settings(smtp_host="a" * 70 + ".example"))).permanent


@pytest.mark.parametrize(("behaviour", "permanent"), [("temporary", False), ("permanent", True)])
async def test_only_a_5xx_is_permanent(behaviour: Literal["temporary", "permanent"], permanent: bool) -> None:
    with MailServer() as server:
        server.behaviour = behaviour
        error = await failure(make_settings(server))
    assert error.permanent is permanent
    assert ("550 5.1.1 No such user" in str(error)) is permanent


@pytest.mark.parametrize("tls", [None, "tls"])
@pytest.mark.parametrize("behaviour", ["hang", "hang_data"])
async def test_a_silent_server_is_given_up_on(
    behaviour: Literal["hang", "hang_data"], tls: Literal["tls"] | None
) -> None:
    with MailServer(tls=tls) as server:
        server.behaviour = behaviour
        settings = make_settings(server, smtp_timeout=0.3, smtp_security=tls or "plain")
        async with asyncio.timeout(3):
            assert not (await failure(settings)).permanent


async def test_a_silent_sendgrid_is_given_up_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        settings = make_settings(sendgrid_api_key="SG.key", sendgrid_url=url, smtp_timeout=0.3)
        async with asyncio.timeout(3):
            with pytest.raises(MailError, match="ReadTimeout") as caught:
                await SendGridProvider(settings).send("ann@example.com", "Hi", "text")
    assert not caught.value.permanent


async def test_a_dropped_connection_is_temporary() -> None:
    with MailServer() as server:
        server.behaviour = "drop"
        assert not (await failure(make_settings(server))).permanent


async def test_a_wrong_sender_is_temporary_and_says_which_setting() -> None:
    error = await failure(make_settings(email_from="nobody"))
    assert not error.permanent
    assert "EMAIL_FROM" in str(error)


# The message


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Max",
        "Grüße vom Café",
        "Rocket 🚀",
        "Smith, John",
        'The "Best" App',
        "back\\slash",
        "Grüße <evil@example.org>, Inc.",
        "Long name, Inc. " * 8,
        "Lange Grüße, 🚀 " * 8,
        "=?utf-8?q?a=0D=0ABcc:_evil=40example.org?=",
    ],
)
async def test_any_display_name_arrives_as_it_is(name: str) -> None:
    quoted = name.strip().replace("\\", "\\\\").replace('"', '\\"')
    sender = f'"{quoted}" <app@example.com>' if name else "app@example.com"
    with MailServer() as server:
        await send(make_settings(server, email_from=sender))
        [message] = await server.wait(1)
    assert server.deliveries[0].sender == "app@example.com"
    [address] = message["From"].addresses
    assert address.addr_spec == "app@example.com"
    assert address.display_name.replace(" ", "") == name.replace(" ", "")
    assert message["Bcc"] is None


def test_an_unquoted_display_name_may_hold_a_comma() -> None:
    message = build_message(
        make_settings(email_from="Smith, John <a@example.com>"), "b@example.com", "s", "t", None
    )
    assert message["From"].addresses[0].display_name == "Smith, John"


@pytest.mark.parametrize("to", NOT_ONE_ADDRESS)
async def test_only_one_bare_address_is_a_recipient(to: str) -> None:
    stream = io.StringIO()
    for provider in (
        SMTPProvider(make_settings(smtp_port=closed_port())),
        SendGridProvider(
            make_settings(sendgrid_api_key="k", sendgrid_url=f"http://127.0.0.1:{closed_port()}")
        ),
        ConsoleProvider(stream),
        MemoryProvider(),
        FileProvider(make_settings(email_file_dir=Path("nowhere"))),
    ):
        with pytest.raises(ValueError, match=r"mail|idna|Codepoint|Empty"):
            await provider.send(to, "Hi", "text")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("line_break", ["\r\n", "\n", "\r", "\0", "\x0b", "\x85", "\u2028", "\ud800"])
async def test_a_subject_never_adds_a_header(line_break: str) -> None:
    subject = f"Hi{line_break}Bcc: evil@example.org"
    stream = io.StringIO()
    for provider in (
        SMTPProvider(make_settings(smtp_port=closed_port())),
        SendGridProvider(
            make_settings(sendgrid_api_key="k", sendgrid_url=f"http://127.0.0.1:{closed_port()}")
        ),
        ConsoleProvider(stream),
        MemoryProvider(),
        FileProvider(make_settings(email_file_dir=Path("nowhere"))),
    ):
        with pytest.raises(ValueError, match="one line"):
            await provider.send("ann@example.com", subject, "text")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    "subject",
    [
        "Hi",
        "Grüße 🚀",
        "Übung 🚀 " * 20 + "!",
        "x" * 300,
        "=?utf-8?q?a=0D=0ABcc:_evil=40example.org?= x",
        "a: b, c",
    ],
)
async def test_any_subject_arrives_as_it_is(subject: str) -> None:
    with MailServer() as server:
        await send(make_settings(server), subject=subject)
        [message] = await server.wait(1)
        raw = server.deliveries[0].raw
    assert message["Subject"] == subject
    assert message["Bcc"] is None
    assert b"\nBcc" not in raw
    assert not message.defects


async def test_a_mail_has_the_headers_of_an_automatic_message() -> None:
    with MailServer() as server:
        await send(make_settings(server, email_from="App <app@bücher.example>"))
        [message] = await server.wait(1)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@xn--bcher-kva.example>")
    assert parsedate_to_datetime(message["Date"]).utcoffset() is not None
    assert message["To"].addresses[0].addr_spec == "ann@example.com"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert [part.get_content_charset() for part in message.iter_parts()] == ["utf-8", "utf-8"]


@pytest.mark.parametrize("body", ["Grüße 🚀\n.\nFrom here\n", "x" * 2000 + "\n", "Hi\n"])
def test_a_text_arrives_as_it_is_and_in_seven_bits(body: str) -> None:
    raw = bytes(build_message(make_settings(), "ann@example.com", "Hi", body, None))
    assert raw.isascii()
    assert max(map(len, raw.splitlines())) <= 998
    message = message_from_bytes(raw, policy=policy.default)
    assert message.get_content_type() == "text/plain"
    assert message.get_content().replace("\r\n", "\n") == body


@pytest.mark.parametrize(
    ("to", "envelope"),
    [
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@straße.example", "ann@xn--strae-oqa.example"),
        ("jörg@example.com", "jörg@example.com"),
        ("用户@例え.example", "用户@xn--r8jz45g.example"),
        ("o'neil+tag=1@example.com", "o'neil+tag=1@example.com"),
        ("root@localhost", "root@localhost"),
    ],
)
async def test_internationalised_addresses_arrive(to: str, envelope: str) -> None:
    with MailServer() as server:
        await send(make_settings(server, email_from="Grüße <app@example.com>"), to)
        [message] = await server.wait(1)
    assert server.recipients == [[envelope]]
    assert ("SMTPUTF8" in server.deliveries[0].options) is not envelope.isascii()
    assert message["Subject"] == "Hi"
    assert f"To: {envelope}\r\n".encode() in server.deliveries[0].raw
    assert link_in(message) == LINK


async def test_a_server_without_smtputf8_can_learn_it_while_the_mail_waits() -> None:
    with MailServer(smtputf8=False) as server:
        assert not (await failure(make_settings(server), "jörg@example.com")).permanent


# SendGrid


@dataclass
class SendGridStub:
    url: str
    status: int = 202
    answer: bytes = b""
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)


@pytest.fixture
def sendgrid() -> Iterator[SendGridStub]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            stub.requests.append((dict(self.headers), json.loads(body)))
            self.send_response(stub.status)
            self.send_header("Content-Length", str(len(stub.answer)))
            self.send_header("Location", stub.url)
            self.end_headers()
            self.wfile.write(stub.answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stub = SendGridStub(f"http://127.0.0.1:{server.server_address[1]}/v3/mail/send")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield stub
        server.shutdown()
        thread.join()


def sendgrid_settings(stub: SendGridStub, **values: Any) -> AuthSettings:
    return make_settings(
        email_provider="sendgrid", sendgrid_api_key="SG.key", sendgrid_url=stub.url, **values
    )


async def test_sendgrid_gets_the_whole_mail(sendgrid: SendGridStub) -> None:
    settings = sendgrid_settings(sendgrid, email_from='"Grüße, Inc." <app@bücher.example>')
    await provider_for(settings).send("ann@example.com", "Grüße", "text", "<p>html</p>")
    [(headers, mail)] = sendgrid.requests
    assert headers["Authorization"] == "Bearer SG.key"
    assert mail["personalizations"] == [{"to": [{"email": "ann@example.com"}]}]
    assert mail["from"] == {"email": "app@xn--bcher-kva.example", "name": "Grüße, Inc."}
    assert mail["subject"] == "Grüße"
    assert mail["content"] == [
        {"type": "text/plain", "value": "text"},
        {"type": "text/html", "value": "<p>html</p>"},
    ]
    assert mail["headers"] == {"Auto-Submitted": "auto-generated"}


async def test_sendgrid_never_rewrites_links(sendgrid: SendGridStub) -> None:
    await SendGridProvider(sendgrid_settings(sendgrid)).send("ann@example.com", "Hi", LINK)
    tracking = sendgrid.requests[0][1]["tracking_settings"]
    assert tracking["click_tracking"] == {"enable": False, "enable_text": False}
    assert tracking["open_tracking"] == {"enable": False}


async def test_sendgrid_has_its_own_sender(sendgrid: SendGridStub) -> None:
    settings = sendgrid_settings(sendgrid, sendgrid_from_email="other@example.com")
    await SendGridProvider(settings).send("ann@example.com", "Hi", "text")
    mail = sendgrid.requests[0][1]
    assert mail["from"] == {"email": "other@example.com"}
    assert len(mail["content"]) == 1


RECIPIENT = "personalizations.0.to.0.email"


@pytest.mark.parametrize(
    ("status", "fields", "permanent"),
    [
        (302, [], False),
        (400, [RECIPIENT], True),
        (400, [RECIPIENT, "from.email"], False),
        (400, ["from.email"], False),
        (400, [None], False),
        (400, [], False),
        (401, [RECIPIENT], False),
        (403, ["from.email"], False),
        (413, [], False),
        (429, [], False),
        (500, [RECIPIENT], False),
        (503, [], False),
    ],
)
async def test_of_sendgrids_failures_only_a_bad_recipient_is_permanent(
    sendgrid: SendGridStub, status: int, fields: list[str | None], permanent: bool
) -> None:
    errors = [{"message": "bad key\nSG.key", "field": field} for field in fields]
    sendgrid.status, sendgrid.answer = (
        status,
        json.dumps({"errors": errors, "id": "bad key\nSG.key"}).encode(),
    )
    with pytest.raises(MailError, match=str(status)) as caught:
        await SendGridProvider(sendgrid_settings(sendgrid)).send("ann@example.com", "Hi", "text")
    assert caught.value.permanent is permanent
    assert "***" in str(caught.value)
    assert "SG.key" not in str(caught.value)
    assert len(sendgrid.requests) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"sendgrid_url": "http://127.0.0.1:9"},
        {"sendgrid_url": "nonsense"},
        {"sendgrid_url": "http://127.0.0.1:port/"},
        {"sendgrid_api_key": "SG.key\n"},
        {"sendgrid_api_key": "SG.kéy€"},
        {"sendgrid_api_key": None},
    ],
    ids=repr,
)
async def test_an_unreached_sendgrid_is_temporary_and_tells_no_key(
    sendgrid: SendGridStub, values: dict[str, Any]
) -> None:
    settings = sendgrid_settings(sendgrid).model_copy(update=values)
    with pytest.raises(MailError) as caught:
        await SendGridProvider(settings).send("ann@example.com", "Hi", "text")
    assert not caught.value.permanent
    assert "SG." not in str(caught.value)
    assert not sendgrid.requests


def test_sendgrid_without_a_key_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="SENDGRID_API_KEY"):
        provider_for(make_settings(email_provider="sendgrid"))


# The console


async def test_the_console_shows_the_link(capsys: pytest.CaptureFixture[str]) -> None:
    mailer = Mailer(make_settings(email_provider="console"))
    await mailer.send("ann@example.com", "verify", **(CONTEXT["verify"] | {"email": "ann@example.com"}))
    shown = capsys.readouterr().out
    assert "To: ann@example.com\nSubject: Confirm your e-mail address for MyApp\n" in shown
    assert f"\n{LINK}\n" in shown
    assert "<html" not in shown


# Files and memory


async def test_files_are_whole_mails_that_only_the_owner_reads(tmp_path: Path) -> None:
    settings = make_settings(email_provider="file", email_file_dir=tmp_path / "mails")
    mailer = Mailer(settings)
    for _ in range(3):
        await mailer.send("ann@example.com", "verify", **(CONTEXT["verify"] | {"email": "ann@example.com"}))
    files = sorted((tmp_path / "mails").iterdir())
    assert [file.suffix for file in files] == [".eml"] * 3
    assert files[0].stat().st_mode & 0o077 == 0
    message = message_from_bytes(files[0].read_bytes(), policy=policy.default)
    assert message["To"] == "ann@example.com"
    assert LINK in files[0].read_text()


async def test_a_folder_that_cannot_be_written_is_temporary(tmp_path: Path) -> None:
    (tmp_path / "mails").write_text("a file")
    provider = FileProvider(make_settings(email_file_dir=tmp_path / "mails"))
    with pytest.raises(MailError, match="not written") as caught:
        await provider.send("ann@example.com", "Hi", "text")
    assert not caught.value.permanent


async def test_memory_keeps_the_last_mails_and_their_links() -> None:
    mailer = Mailer(make_settings(email_provider="memory"))
    assert isinstance(mailer.provider, MemoryProvider)
    for number in range(1001):
        await mailer.provider.send("ann@example.com", f"Mail {number}", f"Go to {LINK} now")
    assert len(mailer.provider.mails) == 1000
    assert mailer.provider.mails[-1].subject == "Mail 1000"
    assert mailer.provider.mails[-1].link == LINK
    await mailer.provider.send("ann@example.com", "Hi", "no link")
    with pytest.raises(ValueError, match="no link"):
        _ = mailer.provider.mails[-1].link


# Templates


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("name", CONTEXT)
def test_shipped_templates_keep_values_literal(name: str, language: str) -> None:
    settings = make_settings(totp_issuer="Tom & Ann {{7*7}}", public_base_url="https://app.example/?a=1&b=2")
    mail = Mailer(settings, features=FEATURES.folders).render(name, language=language, **CONTEXT[name])
    assert mail.html is not None
    assert HOSTILE in mail.body
    assert HOSTILE not in mail.html
    assert "<script" not in mail.html
    assert "{{7*7}} {% raw %} &lt;script&gt;alert(1)&lt;/script&gt; &#34;&#39;&amp;" in mail.html
    assert "49" not in mail.subject + mail.body + mail.html
    for text in (mail.subject, mail.body):
        assert "Tom & Ann {{7*7}}" in text
    assert "Tom &amp; Ann {{7*7}}" in mail.html
    assert "\n" not in mail.subject
    assert f"<title>{mail.subject}</title>".replace("&", "&amp;") in mail.html
    if "url" in CONTEXT[name]:
        assert mail.body.count(LINK) == 1
        assert mail.html.count(f'href="{LINK}"') == 2
        assert CONTEXT[name]["lifetime"] in mail.body
        assert CONTEXT[name]["lifetime"] in mail.html


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("name", CONTEXT)
def test_shipped_templates_load_nothing_remote(name: str, language: str) -> None:
    mailer = Mailer(make_settings(), features=FEATURES.folders)
    html = mailer.render(name, language=language, **CONTEXT[name]).html
    assert html is not None
    assert not {"<img", "<link", "<script", "url(", "@import", "src="} & set(html.split())
    assert all(word not in html for word in ("<img", "<link", "url(", "@import", "src="))
    assert 'content="light dark"' in html


BY_SETTINGS = {("verify", "lifetime"), ("reset", "lifetime")}


@pytest.mark.parametrize(
    ("name", "variable"),
    sorted({(name, variable) for name, context in CONTEXT.items() for variable in context} - BY_SETTINGS),
)
async def test_a_missing_variable_sends_nothing(name: str, variable: str) -> None:
    recorder = Recorder()
    context = {key: value for key, value in CONTEXT[name].items() if key != variable}
    with pytest.raises(TemplateError, match=variable):
        await Mailer(make_settings(), recorder, FEATURES.folders).send("ann@example.com", name, **context)
    assert recorder.sent == []


@pytest.mark.parametrize(
    "name",
    ["", "../verify", "a/b", "a\\b", "..", "a..b", "verify\0", "verify\n", "/etc/passwd", ".html", "a b"],
)
async def test_a_template_is_a_bare_name(name: str, tmp_path: Path) -> None:
    """R-50."""
    (tmp_path / "verify.txt").write_text("outside")
    folder = tmp_path / "templates"
    folder.mkdir()
    recorder = Recorder()
    with pytest.raises(ValueError, match="bare name"):
        await Mailer(make_settings(template_dir=folder), recorder).send("ann@example.com", name, subject="Hi")
    assert recorder.sent == []


async def test_a_missing_template_is_named_and_sends_nothing() -> None:
    recorder = Recorder()
    with pytest.raises(TemplateError, match=r"welcome\.txt"):
        await Mailer(make_settings(), recorder).send("ann@example.com", "welcome")
    with pytest.raises(TemplateError, match=r"welcome\.txt"):
        await Mailer(make_settings(), recorder).send("ann@example.com", "welcome.html", subject="Hi")
    assert recorder.sent == []


@pytest.mark.parametrize("broken", ["{% if %}", "{{ 1 + }}", '{% extends "_nothing.html" %}'])
async def test_a_broken_template_sends_nothing(broken: str, tmp_path: Path) -> None:
    (tmp_path / "verify.html").write_text(broken)
    recorder = Recorder()
    with pytest.raises(TemplateError, match=r"verify|_nothing"):
        await Mailer(make_settings(template_dir=tmp_path), recorder).send(
            "ann@example.com", "verify", **CONTEXT["verify"]
        )
    assert recorder.sent == []


def test_one_file_of_the_app_overrides_one_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "verify.txt").write_text("Moin {{ email }}: {{ url }} <{{ app_name }}>\n")
    shipped = Mailer(make_settings()).render("verify", **CONTEXT["verify"])
    mail = Mailer(make_settings(template_dir=tmp_path)).render("verify", **CONTEXT["verify"])
    assert mail == RenderedMail(shipped.subject, f"Moin {HOSTILE}: {LINK} <MyApp>", shipped.html)


def test_the_layout_alone_may_be_overridden(tmp_path: Path) -> None:
    (tmp_path / "_layout.html").write_text("<main>{% block content %}{% endblock %}</main>")
    mail = Mailer(make_settings(template_dir=tmp_path)).render("reset", **CONTEXT["reset"])
    assert mail.html is not None
    assert mail.html.startswith("<main>")
    assert LINK in mail.html


def test_a_changed_template_dir_takes_effect(tmp_path: Path) -> None:
    (tmp_path / "verify.txt").write_text("mine")
    settings = make_settings()
    mailer = Mailer(settings)
    assert mailer.render("verify", **CONTEXT["verify"]).body != "mine"
    settings.template_dir = tmp_path
    assert mailer.render("verify.txt", **CONTEXT["verify"]).body == "mine"


@pytest.mark.parametrize("line_break", ["\r\n", "\n", "\0", "\x0b", "\x85", "\u2028"])
async def test_a_value_in_a_subject_never_adds_a_header(line_break: str, tmp_path: Path) -> None:
    (tmp_path / "hello.subject.txt").write_text("Hello\n  {{ name }}\n")
    (tmp_path / "hello.txt").write_text("Text for {{ name }}")
    with MailServer() as server:
        mailer = Mailer(make_settings(server, template_dir=tmp_path))
        await mailer.send("ann@example.com", "hello", name=f"Ann{line_break}Bcc: evil@example.org")
        [message] = await server.wait(1)
    assert message["Subject"] == "Hello Ann Bcc: evil@example.org"
    assert message["Bcc"] is None
    assert server.recipients == [["ann@example.com"]]
    assert message.get_content_type() == "text/plain"  # no HTML template, no HTML part


async def test_the_mailer_uses_and_closes_its_provider() -> None:
    recorder = Recorder()
    mailer = Mailer(make_settings(), recorder)
    await mailer.send("ann@example.com", "reset", subject="Mine", **CONTEXT["reset"])
    await mailer.close()
    [(to, subject, body, html)] = recorder.sent
    assert (to, subject) == ("ann@example.com", "Mine")
    assert LINK in body
    assert html is not None
    assert "<title>Mine</title>" in html
    assert recorder.closed
    await Mailer(make_settings()).close()
    await ConsoleProvider().close()


async def test_a_changed_provider_setting_takes_effect_on_the_next_mail(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = make_settings(email_provider="sendgrid")
    mailer = Mailer(settings)
    with pytest.raises(ValueError, match="SENDGRID_API_KEY"):
        await mailer.send("ann@example.com", "verify", **CONTEXT["verify"])
    settings.email_provider = "console"
    await mailer.send("ann@example.com", "verify", **CONTEXT["verify"])
    assert LINK in capsys.readouterr().out


async def test_an_app_sends_its_own_mails_on_the_default_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "welcome.txt").write_text("Welcome {{ name }} to {{ app_name }} at {{ public_base_url }}")
    with MailServer() as server:
        for name, value in {
            "email_provider": "smtp",
            "smtp_host": "127.0.0.1",
            "smtp_port": server.port,
            "smtp_user": None,
            "template_dir": tmp_path,
            "totp_issuer": "Shop",
            "public_base_url": "https://shop.example",
        }.items():
            monkeypatch.setattr(default_settings, name, value)
        await send_email_async("ann@example.com", "Welcome!", "welcome.html", name="Ann & Bob")
        [message] = await server.wait(1)
    assert message["Subject"] == "Welcome!"
    assert text_of(message).strip() == "Welcome Ann & Bob to Shop at https://shop.example"


async def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with MailServer(tls="starttls", login=LOGIN) as server:
        await failure(make_settings(server, smtp_security="starttls", smtp_password="wrong-hunter2"))
    ours = [record for record in caplog.records if record.name.partition(".")[0] != "mail"]
    assert "hunter2" not in "".join(record.getMessage() for record in ours)


def test_the_server_helper_reports_what_did_not_come() -> None:
    with MailServer() as server, pytest.raises(TimeoutError, match="0 of 1"):
        server.wait_for(1, timeout=0.02)
