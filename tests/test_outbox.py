"""No mail is lost, none is sent twice, and none holds a secret while it waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from tortoise.context import TortoiseContext
from tortoise.expressions import Q

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.auth import transactional
from fastapi_pluggable_auth.email import dispatcher as dispatcher_module
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.email.outbox import CANDIDATES, collect_mails
from fastapi_pluggable_auth.models import Mail, MailState, User

from .conftest import EMAIL, PASSWORD, Clock, Database, Mailbox, on_one_database

CREDENTIALS = {"email": EMAIL, "password": PASSWORD}


@pytest.fixture
async def user(client: httpx.AsyncClient) -> User:
    """An account that nobody has signed up for by HTTP."""
    return await User.create(email=EMAIL, hashed_password="")


@pytest.fixture
async def mail_down(mailbox: Mailbox, settings: AuthSettings) -> AsyncIterator[None]:
    """Nothing listens where the SMTP server should be."""
    port, settings.smtp_port = settings.smtp_port, 1
    yield
    settings.smtp_port = port


async def test_a_signup_while_mail_is_down_succeeds_and_its_mail_goes_out_once_later(
    client: httpx.AsyncClient, auth: Auth, settings: AuthSettings, mailbox: Mailbox, clock: Clock
) -> None:
    """R-23."""
    port, settings.smtp_port = settings.smtp_port, 1
    assert (await client.post("/auth/signup", json=CREDENTIALS)).status_code == 201
    mail = await Mail.get()
    assert (mail.attempts, mail.sent_at) == (1, None)
    settings.smtp_port = port
    await auth.dispatcher.deliver_due()
    assert mailbox.messages == []
    clock.advance(minutes=1)
    for _ in range(3):
        await auth.dispatcher.deliver_due()
        clock.advance(minutes=10)
    assert [message["To"] for message in mailbox.messages] == [EMAIL]
    assert (await client.get(mailbox.link())).status_code == 200
    assert (await Mail.get()).sent_at is not None


async def test_a_mail_and_its_account_stand_or_fall_together(client: httpx.AsyncClient, auth: Auth) -> None:
    """A-84."""

    @transactional
    async def fails(auth: Auth) -> None:
        await User.create(email=EMAIL, hashed_password="")
        await auth.outbox.add(MailKind.VERIFY, EMAIL)
        raise LookupError

    with collect_mails() as ids:
        with pytest.raises(LookupError):
            await fails(auth)
        await auth.dispatcher.deliver(ids)
    assert (await User.all().count(), await Mail.all().count()) == (0, 0)


async def test_a_waiting_mail_holds_no_link(
    client: httpx.AsyncClient, mail_down: None, mailbox: Mailbox
) -> None:
    await client.post("/auth/signup", json=CREDENTIALS)
    stored = dict(await Mail.get())
    assert "ey" not in str(stored["context"])
    assert stored["context"] == {}


async def test_a_link_lives_from_its_sending(
    client: httpx.AsyncClient, auth: Auth, settings: AuthSettings, mailbox: Mailbox, clock: Clock
) -> None:
    port, settings.smtp_port = settings.smtp_port, 1
    await client.post("/auth/signup", json=CREDENTIALS)
    settings.smtp_port = port
    clock.advance(hours=30)
    await auth.dispatcher.deliver_due()
    assert (await client.get(mailbox.link())).status_code == 200


async def test_several_workers_send_each_mail_once(auth: Auth, user: User, mailbox: Mailbox) -> None:
    for number in range(10):
        await User.create(email=f"u{number}@example.com", hashed_password="")
        await auth.outbox.add(MailKind.VERIFY, f"u{number}@example.com")
    await asyncio.gather(*(auth.dispatcher.deliver_due() for _ in range(4)))
    assert sorted(message["To"] for message in mailbox.messages) == [f"u{n}@example.com" for n in range(10)]


async def test_a_mail_that_cannot_be_read_keeps_no_other_back(
    auth: Auth, user: User, database: Database, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """By hand, or of a later version that was taken back."""
    first, second, third = sorted([uuid4() for _ in range(3)])
    for mail_id in (first, second, third):
        await auth.outbox.add(MailKind.VERIFY, EMAIL, mail_id=mail_id)
    await User._meta.db.execute_query(f"UPDATE auth_mail SET state = 'of later' WHERE id = '{first}'")
    if database.dialect == "sqlite":  # where a column of JSON takes any text
        await User._meta.db.execute_query(f"UPDATE auth_mail SET context = '{{no' WHERE id = '{second}'")
    for _ in range(2):
        await auth.dispatcher.deliver_due()
    unreadable = 1 if database.dialect == "sqlite" else 0
    assert len(mailbox.messages) == 3 - unreadable
    assert caplog.text.count(f"Mail {second} is given up: its row cannot be read") == unreadable
    assert await Mail.filter(state=MailState.DEAD).count() == unreadable


async def test_a_mail_whose_worker_died_is_taken_over(
    auth: Auth, user: User, settings: AuthSettings, mailbox: Mailbox, clock: Clock
) -> None:
    """R-26."""
    settings.smtp_timeout = 0.5
    await auth.outbox.add(MailKind.VERIFY, EMAIL)
    mailbox.server.behaviour = "hang_data"
    sending = asyncio.create_task(auth.dispatcher.deliver_due())
    for _ in range(500):
        if (await Mail.get()).attempts:
            break
        await asyncio.sleep(0.01)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    mailbox.server.behaviour = "accept"
    assert await auth.dispatcher.deliver_due() == 0
    clock.advance(minutes=3)
    await auth.dispatcher.deliver_due()
    assert len(mailbox.messages) == 1


@on_one_database
async def test_a_refused_address_is_not_tried_again(
    auth: Auth, user: User, mailbox: Mailbox, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """R-25."""
    mailbox.server.behaviour = "permanent"
    await auth.outbox.add(MailKind.VERIFY, EMAIL)
    await auth.dispatcher.deliver_due()
    mail = await Mail.get()
    assert (mail.next_attempt_at, mail.sent_at) == (None, None)
    assert "550" in mail.last_error
    assert "given up" in caplog.text
    clock.advance(days=1)
    assert await auth.dispatcher.deliver_due() == 0


@on_one_database
async def test_a_temporary_failure_is_tried_again_with_growing_pauses_until_it_is_too_old(
    auth: Auth, user: User, mailbox: Mailbox, clock: Clock
) -> None:
    """R-25."""
    mailbox.server.behaviour = "temporary"
    await auth.outbox.add(MailKind.VERIFY, EMAIL)
    pauses = []
    while True:
        now = clock()
        await auth.dispatcher.deliver_due()
        mail = await Mail.get()
        if mail.next_attempt_at is None:
            break
        pauses.append(mail.next_attempt_at - now)
        clock.advance(seconds=(mail.next_attempt_at - clock()).total_seconds() + 1)
    assert timedelta(seconds=10) < pauses[0] < timedelta(seconds=20)
    assert pauses[1] > pauses[0]
    assert timedelta(minutes=45) < pauses[-1] < timedelta(minutes=75)
    assert 70 < len(pauses) < 110
    assert clock() - mail.created_at > timedelta(days=3)


async def test_a_mail_that_makes_no_sense_any_more_is_dropped(
    auth: Auth, user: User, mailbox: Mailbox
) -> None:
    await User.all().update(is_verified=True)
    await auth.outbox.add(MailKind.VERIFY, EMAIL)
    await auth.outbox.add(MailKind.VERIFY, "nobody@example.com")
    await auth.outbox.add(MailKind.RESET, EMAIL, user_id=user.id)
    await auth.outbox.add(MailKind.EMAIL_CHANGE, "new@example.com", user_id=user.id)
    await User.all().update(email="moved@example.com")
    await auth.dispatcher.deliver_due()
    assert mailbox.messages == []
    assert await Mail.all().count() == 0


@on_one_database
async def test_a_broken_template_stops_no_other_mail(
    auth: Auth,
    user: User,
    mailbox: Mailbox,
    settings: AuthSettings,
    template_dir: object,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (template_dir / "verify.txt").write_text("{{ not_there }}")  # type: ignore[operator]
    settings.template_dir = template_dir  # type: ignore[assignment]
    await auth.outbox.add(MailKind.VERIFY, EMAIL)
    await auth.outbox.add(MailKind.RESET, EMAIL)
    await auth.dispatcher.deliver_due()
    assert [message["To"] for message in mailbox.messages] == [EMAIL]
    waiting = await Mail.filter(kind="verify").get()
    assert waiting.next_attempt_at is not None
    assert waiting.last_error.startswith("Mail template 'verify'")
    assert "not_there" in caplog.text


async def test_the_dispatcher_outlives_a_database_that_fails(
    auth: Auth,
    user: User,
    tortoise: TortoiseContext,
    database: Database,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(dispatcher_module, "POLL_SECONDS", 0.01)
    connection = tortoise.connections.get(database.dialect)
    await auth.outbox.add(MailKind.VERIFY, EMAIL)
    await connection.execute_script("ALTER TABLE auth_mail RENAME TO hidden")
    auth.dispatcher.start()
    try:
        async with asyncio.timeout(10):
            while "from the outbox failed" not in caplog.text:
                await asyncio.sleep(0.01)
    finally:
        await connection.execute_script("ALTER TABLE hidden RENAME TO auth_mail")
    await mailbox.server.wait(1)
    await asyncio.wait_for(auth.dispatcher.stop(), 10)


@on_one_database
async def test_no_token_is_logged(
    client: httpx.AsyncClient, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """I4."""
    caplog.set_level(logging.DEBUG, "fastapi_pluggable_auth")
    await client.post("/auth/signup", json=CREDENTIALS)
    assert mailbox.token() not in caplog.text
    assert PASSWORD not in "\n".join(r.getMessage() for r in caplog.records if "tortoise" not in r.name)


@on_one_database
@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (timedelta(hours=24), "24 hours"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(minutes=90), "90 minutes"),
        (timedelta(seconds=20), "1 minute"),
    ],
)
async def test_a_mail_says_how_long_its_link_lives(
    duration: timedelta, words: str, client: httpx.AsyncClient, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.verify_token_ttl = duration
    await client.post("/auth/signup", json=CREDENTIALS)
    assert words in mailbox.messages[0].get_body(("plain",)).get_content()  # type: ignore[union-attr]


async def test_a_flood_of_requests_leaves_a_bounded_queue_of_working_links(
    client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox, settings: AuthSettings
) -> None:
    """R-27: while mail is down, no more waits than `mail_limit` allows for each address."""
    settings.mail_limit = 3
    mailbox.server.behaviour = "temporary"
    addresses = [f"user{number}@example.com" for number in range(10)]
    for address in addresses:
        await client.post("/auth/signup", json={"email": address, "password": PASSWORD})
    await User.all().update(is_verified=True)
    for _ in range(10):
        for address in [*addresses, "nobody@example.com"]:
            answer = await client.post("/auth/forgot-password", json={"email": address})
            assert answer.status_code == 200
    assert await Mail.filter(kind="reset", next_attempt_at__not_isnull=True).count() == 30
    mailbox.server.behaviour = "accept"
    await Mail.all().update(next_attempt_at=auth.clock())
    await auth.dispatcher.deliver_due()
    for address in addresses:
        body = {"new_password": "a new horse battery"}
        assert (await client.post(mailbox.link(address), json=body)).status_code == 200


async def test_after_an_outage_no_mail_is_sent_that_waited_too_long(
    auth: Auth, user: User, mailbox: Mailbox, clock: Clock, settings: AuthSettings
) -> None:
    """While nothing was sent, nothing was tried either: what is too old is told so when it is claimed."""
    for _ in range(3 * CANDIDATES):
        await auth.outbox.add(MailKind.PASSWORD_CHANGED, EMAIL, when="long ago")
    clock.advance(seconds=settings.email_max_age.total_seconds())
    await auth.outbox.add(MailKind.PASSWORD_CHANGED, EMAIL, when="today")
    await asyncio.gather(*(auth.dispatcher.deliver_due() for _ in range(3)))
    (sent,) = mailbox.messages
    assert "today" in str(sent.get_body(("plain",)))
    dead = await Mail.filter(state=MailState.DEAD)
    assert len(dead) == 3 * CANDIDATES
    assert {mail.last_error for mail in dead} == {"waited for longer than AUTH_EMAIL_MAX_AGE"}
    await auth.dispatcher.deliver([mail.id for mail in dead])
    assert len(mailbox.messages) == 1
    assert await auth.outbox.retry(Q(id=dead[0].id)) == 1  # an operator may still want it
    await auth.dispatcher.deliver_due()
    assert len(mailbox.messages) == 2


async def test_a_mail_that_a_task_queue_has_kept_too_long_is_not_sent(
    auth: Auth, user: User, mailbox: Mailbox, clock: Clock, settings: AuthSettings
) -> None:
    await auth.outbox.add(MailKind.PASSWORD_CHANGED, EMAIL, when="long ago")
    (mail,) = await auth.outbox.hand_over(1)
    clock.advance(seconds=settings.email_max_age.total_seconds() + 1)
    await auth.dispatcher.deliver([mail.id])
    assert (await Mail.get()).state is MailState.DEAD
    assert mailbox.messages == []


async def test_whatever_a_mail_server_says_fits_its_column_and_starts_no_line_in_the_log(
    auth: Auth, user: User, caplog: pytest.LogCaptureFixture
) -> None:
    await auth.outbox.add(MailKind.PASSWORD_CHANGED, EMAIL, when="now")
    (mail,) = await auth.outbox.claim(1)
    await auth.outbox.mark_failed(mail, "no\0\ud800\nline" + "x" * 500, permanent=True)
    assert (await Mail.get()).last_error == "no???line" + "x" * 246
    assert not [line for line in caplog.text.splitlines() if line.startswith("line")]
