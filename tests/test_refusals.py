"""What a mail server refuses: only a bad address ends a mail, all else waits until it is put right."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.email.provider import MailError, SMTPProvider
from fastapi_pluggable_auth.email.refusals import blames_address
from fastapi_pluggable_auth.email.smtp import host_of
from fastapi_pluggable_auth.models import Mail, MailState

from .conftest import Clock, Mailbox
from .delivery import queue
from .smtp_server import MailServer
from .test_mail import failure, make_settings, send

DIALECTS = ("sqlite",)

OURS = [
    ("EHLO", "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"),
    ("EHLO", "550 Access denied - Invalid HELO name"),
    ("MAIL", "550 5.1.8 <no-reply@example.com>: Sender address rejected: Domain not found"),
    ("MAIL", "553 5.7.1 Sender address rejected: not owned by user app"),
    ("MAIL", "530 5.7.0 Authentication required"),
    ("RCPT", "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"),
    ("RCPT", "554 5.7.1 <ann@example.com>: Relay access denied"),
    ("RCPT", "550 relay not permitted"),
    ("RCPT", "550 authentication required"),
    ("RCPT", "550 5.2.2 <ann@example.com>: Quota exceeded (mailbox for user is full)"),
    ("RCPT", "552 Mailbox full"),
    ("RCPT", "550 User is over quota"),
    ("RCPT", "550 5.7.1 Service unavailable; client [192.0.2.1] blocked using zen.example"),
    ("RCPT", "550 5.7.26 Unauthenticated email from example.com is not accepted (DMARC)"),
    ("RCPT", "550 5.4.1 Recipient address rejected: Access denied"),
    ("RCPT", "550 5.1.8 Access denied, bad outbound sender"),
    ("RCPT", "550 Sender verify failed"),
    ("RCPT", "503 5.5.1 Error: need MAIL command"),
    ("RCPT", "554 no valid recipients"),
    ("RCPT", "550-5.1.1 Callback of ann@example.com\n550 5.7.1 Sender is not known"),
    ("DATA", "554 5.2.252 SendAsDenied; no-reply@example.com not allowed to send as app"),
    ("DATA", "550 5.7.1 Message rejected as spam"),
    ("DATA", "550 quota exceeded"),
    ("DATA", "550 No such user"),
    ("DATA", "552 5.3.4 Message size exceeds fixed limit"),
]
"""Answers of Postfix, Exim, Exchange, qmail and big services that concern the sender, the way or the hour."""

THEIRS = [
    ("RCPT", "550 5.1.1 <ann@example.com>: Recipient address rejected: User unknown"),
    ("RCPT", "550 5.1.2 Bad destination system address"),
    ("RCPT", "556 5.1.10 Domain does not accept mail (nullMX)"),
    ("RCPT", "550 No such user here"),
    ("RCPT", "551 User not local; please try <ann@example.net>"),
    ("RCPT", "553 sorry, that address is not in my list of mailboxes"),
    ("RCPT", "550 sorry, no mailbox here by that name (#5.1.1)"),
    ("RCPT", "550 #5.1.0 Address rejected."),
    ("RCPT", "550"),
    ("RCPT", "550-5.1.1 The email account that you tried to reach\n550 5.1.1 does not exist"),
    ("DATA", "550 5.1.1 The email account that you tried to reach does not exist"),
]


@pytest.mark.parametrize(("command", "answer"), OURS)
async def test_what_concerns_the_sender_waits_and_goes_out_once_it_is_put_right(
    command: Any, answer: str, auth: Auth, tortoise: TortoiseContext, mailbox: Mailbox, clock: Clock
) -> None:
    mailbox.server.answers[command] = answer
    await queue(auth)
    await auth.dispatcher.deliver_due()
    mail = await Mail.get()
    assert (mail.state, mailbox.messages) == (MailState.WAITING, [])
    assert answer[:3] in mail.last_error
    mailbox.server.answers.clear()
    clock.advance(minutes=1)
    await auth.dispatcher.deliver_due()
    assert ((await Mail.get()).state, len(mailbox.messages)) == (MailState.SENT, 1)


@pytest.mark.parametrize(("command", "answer"), THEIRS)
async def test_a_bad_address_ends_the_mail_at_once(
    command: Any, answer: str, auth: Auth, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    mailbox.server.answers[command] = answer
    await queue(auth)
    await auth.dispatcher.deliver_due()
    assert (await Mail.get()).state is MailState.DEAD


WAITS = [
    "550 #5.1.0 <no-reply@example.com> sender rejected: invalid sender domain",
    "550-Verification failed for <no-reply@example.com>\nNo Such User Here\nSender verify failed",
    "550 4.2.2 The mailbox of the user is over its size",
    "553 Mail from 192.0.2.1 not allowed - 5.7.1 [BL21]",
    "553 Mail from must equal authorized user",
    "550 Please turn on SMTP Authentication for your account",
    "550 Domain example.com is not verified for this account",
    "550 Sandbox accounts are for test purposes only",
    "550 STARTTLS is needed for this recipient",
    "550 Your IP is not on the whitelist of this user",
    "550 You are sending too fast",
    "550 User frequency limited",
    "550 Greylisted, this recipient takes mail later",
    "550 Could not complete recipient verify callout",
    "550 Account suspended",
    "550 User's disk is out of space",
    "550 Mailbox disabled",
    "550 Rejected",
    "550 Internal error",
    "550 Postfach voll",
    "550 \u767c\u4fe1\u983b\u7387\u904e\u9ad8",
    "554 Transaction failed, no such user",
    "450 5.1.1 User unknown",
]
"""What may mean something else than a bad address: Exim, qmail, big services in several countries."""

ENDS = [
    "500 5.1.1 User unknown",
    "550 Requested action not taken: mailbox unavailable",
    "551 User not local; please try <full@policy.example>",
    "553 Requested action not taken: mailbox name not allowed",
    "550 <spam.limit@relay.example>: User unknown; see https://relay.example/blocked",
    "550 User unknown in relay recipient table",
    "550 Invalid Recipient - https://community.example.com/docs/DOC-1369#550",
    "550 Unrouteable address",
    "550 Mailbox not found",
    "550 Dieser User existiert nicht",
    "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found",
    "550 5.1.1 <ann@example.com>: Recipient address rejected: policy, sender, quota",
    "550 #5.1.0 Address rejected.",
    "550",
]


@pytest.mark.parametrize(("answers", "final"), [(WAITS, False), (ENDS, True)], ids=["waits", "ends"])
def test_an_answer_to_rcpt_is_final_only_where_it_can_mean_nothing_but_the_address(
    answers: list[str], *, final: bool
) -> None:
    wrong = [
        each for each in answers if blames_address(int(each[:3]), each[4:], to_recipient=True) is not final
    ]
    assert wrong == []
    assert not any(blames_address(250, each[4:], to_recipient=True) for each in answers)


def test_six_of_the_codes_for_addresses_are_about_the_recipient_s() -> None:
    """RFC 3463 section 3.2, RFC 7505."""
    said = {detail: f"5.1.{detail} nothing else" for detail in range(12)}
    final = {each for each in said if blames_address(550, said[each], to_recipient=True)}
    assert final == {1, 2, 3, 4, 6, 10}


async def test_the_refusal_that_no_code_explains_is_kept_with_its_words(mailbox: Mailbox) -> None:
    mailbox.server.answers["EHLO"] = "504 what a name"
    provider = SMTPProvider(make_settings(mailbox.server, smtp_security="plain"))
    with pytest.raises(MailError, match="refused the greeting: 504 what a name"):
        await provider.send("ann@example.com", "Hi", "text")
    await provider.close()


# The settings of the sender


async def test_the_app_greets_and_signs_the_envelope_as_the_settings_say() -> None:
    with MailServer() as server:
        settings = make_settings(
            server,
            smtp_security="plain",
            smtp_helo_name="mail.example.org",
            email_envelope_from="bounces+app@example.org",
            email_reply_to="Support <support@example.org>",
        )
        await send(settings)
        [message] = await server.wait(1)
    assert b"EHLO mail.example.org\r\n" in server.wire
    assert server.deliveries[0].sender == "bounces+app@example.org"
    assert message["Reply-To"] == "Support <support@example.org>"
    assert message["From"] == "no-reply@example.com"


@pytest.mark.parametrize(
    ("command", "answer"), [each for each in OURS if each[0] in ("EHLO", "MAIL")], ids=lambda each: each[:12]
)
async def test_what_the_server_refuses_of_the_greeting_and_the_sender_is_found_by_the_check(
    command: Any, answer: str
) -> None:
    with MailServer() as server:
        provider = SMTPProvider(make_settings(server, smtp_security="plain"))
        await provider.check()
        server.answers[command] = answer
        with pytest.raises(MailError, match=re.escape(answer)):
            await provider.check()
        server.answers.clear()
        await provider.check()
    assert server.deliveries == []


@pytest.mark.parametrize("setting", ["email_reply_to", "email_envelope_from", "email_from"])
async def test_the_server_is_asked_for_what_an_address_outside_ascii_takes(setting: str) -> None:
    """RFC 6531 section 3.4: also where only a header has it."""
    with MailServer() as server:
        settings = make_settings(server, smtp_security="plain", **{setting: "Jörg <jörg@müller.example>"})
        await SMTPProvider(settings).check()
        await send(settings)
        await server.wait(1)
    assert server.wire.count(b" SMTPUTF8") == 2


@pytest.mark.parametrize(
    "value",
    ["a@example.com, b@example.com", "A <a@example.com>, B <b@example.com>", "<>"],
)
@pytest.mark.parametrize("setting", ["email_reply_to", "email_envelope_from", "email_from"])
async def test_a_sender_that_is_no_address_is_named_by_the_check_and_ends_no_mail(
    setting: str, value: str
) -> None:
    with MailServer() as server:
        settings = make_settings(server, smtp_security="plain", **{setting: value})
        with pytest.raises(MailError, match=setting.upper()) as caught:
            await SMTPProvider(settings).check()
        assert not caught.value.permanent
        assert not (await failure(settings)).permanent


@pytest.mark.parametrize("name", ["", "a b", "a\r\nMAIL FROM:<x@example.com>", "a\0"])
def test_a_greeting_of_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="smtp_helo_name"):
        make_settings(smtp_helo_name=name)


async def test_a_login_from_files_works_without_their_line_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    with MailServer(tls="tls", login=("app", "secret")) as server:
        monkeypatch.setenv("SMTP_USER", "app\n")
        monkeypatch.setenv("SMTP_PASSWORD", "secret\r\n")
        settings = AuthSettings(
            _env_file=None,
            smtp_host="127.0.0.1\n",
            smtp_port=server.port,
            smtp_ca_file=server.ca_file,
            smtp_security="tls",
            sendgrid_api_key="SG.key\n",
        )
        await send(settings)
        await server.wait(1)
    assert settings.sendgrid_api_key == "SG.key"


async def test_a_server_by_its_address_in_brackets_is_reached() -> None:
    with MailServer(host="::1") as server:
        settings = make_settings(server, smtp_host="[::1]", smtp_security="plain")
        await send(settings)
        await server.wait(1)
    assert host_of(settings) == "::1"
