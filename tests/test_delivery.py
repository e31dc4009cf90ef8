"""The dispatcher: no request waits for it, no mail is lost, none is sent twice, and SMTP is spared."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext
from tortoise.contrib.fastapi import RegisterTortoise
from tortoise.expressions import Q

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.email import dispatcher as dispatcher_module
from fastapi_pluggable_auth.email import smtp
from fastapi_pluggable_auth.email.provider import MemoryProvider
from fastapi_pluggable_auth.models import Mail, MailState

from . import databases
from .conftest import EMAIL, PASSWORD, Clock, Database, Mailbox
from .delivery import all_sent, dispatching, queue, recipients, until
from .live import serving

DIALECTS = ("sqlite",)
CREDENTIALS = {"email": EMAIL, "password": PASSWORD}


# Right after the response


def test_the_next_request_on_a_connection_does_not_wait_for_a_mail(
    database: Database, settings: AuthSettings, mailbox: Mailbox
) -> None:
    """R-24, on a running server."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with RegisterTortoise(app, config=databases.config(database.url, database.dialect)):
            yield

    app = FastAPI(lifespan=lifespan)
    settings.smtp_timeout = 3
    include_auth(app, settings=settings)
    mailbox.server.behaviour = "hang"
    with serving(app) as base, httpx.Client(base_url=base, timeout=30) as http:
        account = {"email": "keep-alive@example.com", "password": PASSWORD}
        assert http.post("/auth/signup", json=account).status_code == 201
        begun = time.monotonic()
        assert http.get("/auth/me").status_code == 401
        assert time.monotonic() - begun < 2


async def test_a_running_dispatcher_sends_at_once_and_apart_from_the_request(
    client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "POLL_SECONDS", 3600)
    mailbox.server.delay = 0.5
    async with dispatching(auth):
        await client.post("/auth/signup", json=CREDENTIALS)  # ends when its background tasks have ended
        assert mailbox.messages == []
        await mailbox.server.wait(1)


async def test_an_app_that_leaves_delivery_to_another_process_sends_nothing(
    client: httpx.AsyncClient, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.deliver_mail = False
    await client.post("/auth/signup", json=CREDENTIALS)
    assert (await Mail.get()).state is MailState.WAITING
    assert mailbox.server.connections == 0


# SMTP connections


async def test_many_mails_share_one_connection(
    auth: Auth, tortoise: TortoiseContext, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.mail_concurrency = 1
    addresses = await queue(auth, 20)
    async with dispatching(auth):
        await until(all_sent)
    assert recipients(mailbox) == addresses
    assert mailbox.server.connections == 1


async def test_no_more_mails_than_allowed_are_under_way(
    auth: Auth, tortoise: TortoiseContext, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.mail_concurrency = 3
    addresses = await queue(auth, 12)
    mailbox.server.delay = 0.05
    async with dispatching(auth):
        await until(all_sent)
    assert recipients(mailbox) == addresses
    assert mailbox.server.at_once == 3
    assert mailbox.server.connections == 3


async def test_without_a_lifespan_no_more_mails_than_allowed_are_under_way(
    client: httpx.AsyncClient, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.mail_concurrency = 2
    mailbox.server.delay = 0.05
    accounts = [{"email": f"u{number}@example.com", "password": PASSWORD} for number in range(8)]
    await asyncio.gather(*(client.post("/auth/signup", json=account) for account in accounts))
    assert len(mailbox.messages) == 8
    assert mailbox.server.at_once == 2


async def test_a_connection_that_the_server_closed_costs_no_attempt(
    auth: Auth, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    await queue(auth, 2)
    first, second = await Mail.all().order_by("recipient")
    await auth.dispatcher.deliver([first.id])
    mailbox.server.hang_up()
    await auth.dispatcher.deliver([second.id])
    assert {mail.attempts for mail in await Mail.all()} == {1}
    assert (len(mailbox.messages), mailbox.server.connections) == (2, 2)


async def test_a_refused_address_keeps_the_connection_and_stops_no_other_mail(
    auth: Auth, tortoise: TortoiseContext, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.mail_concurrency = 1
    await queue(auth, 2)
    first, second = await Mail.all().order_by("recipient")
    mailbox.server.behaviour = "permanent"
    await auth.dispatcher.deliver([first.id])
    mailbox.server.behaviour = "accept"
    await auth.dispatcher.deliver([second.id])
    assert (recipients(mailbox), mailbox.server.connections) == ([second.recipient], 1)


async def test_a_quiet_dispatcher_hangs_up(
    auth: Auth, tortoise: TortoiseContext, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "POLL_SECONDS", 0.05)
    await queue(auth)
    async with dispatching(auth):
        await mailbox.server.wait(1)

        async def hung_up() -> bool:
            return bytes(mailbox.server.wire).endswith(b"QUIT\r\n")

        await until(hung_up)


async def test_a_provider_that_cannot_rest_ends_nothing(
    settings: AuthSettings, tortoise: TortoiseContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Restless(MemoryProvider):
        async def rest(self) -> None:
            raise RuntimeError("no rest")

    monkeypatch.setattr(dispatcher_module, "POLL_SECONDS", 0.01)
    provider = Restless()
    auth = Auth(settings, email_provider=provider)
    async with dispatching(auth):
        await asyncio.sleep(0.1)
        await queue(auth)
        await until(all_sent)
    assert len(provider.mails) == 1


async def test_other_settings_get_another_connection_and_old_ones_are_replaced_in_time(
    auth: Auth,
    tortoise: TortoiseContext,
    settings: AuthSettings,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smtp, "MAILS_PER_CONNECTION", 2)
    await queue(auth, 5)
    mails = await Mail.all().order_by("recipient")
    opened = []
    for mail in mails:
        await auth.dispatcher.deliver([mail.id])
        opened.append(mailbox.server.connections)
        if mail is mails[2]:
            settings.smtp_timeout = 7
    assert opened == [1, 1, 2, 3, 3]


# What becomes of a mail


@pytest.mark.parametrize(
    ("behaviour", "state", "reason"),
    [
        ("temporary", MailState.WAITING, "451"),
        ("permanent", MailState.DEAD, "550"),
        ("refuse_data", MailState.WAITING, "554"),
        ("sender", MailState.WAITING, "refused the sender: 550"),
        ("drop", MailState.WAITING, "Disconnected"),
        ("hang", MailState.WAITING, "Timeout"),
        ("hang_data", MailState.WAITING, "Timeout"),
    ],
)
async def test_only_a_mail_that_was_refused_for_good_is_given_up(
    behaviour: str,
    state: MailState,
    reason: str,
    auth: Auth,
    tortoise: TortoiseContext,
    settings: AuthSettings,
    mailbox: Mailbox,
) -> None:
    """R-25. A refused sender is a matter of our settings: the mail can go once they are right."""
    settings.smtp_timeout = 0.3
    mailbox.server.behaviour = behaviour  # type: ignore[assignment]
    await queue(auth)
    await auth.dispatcher.deliver_due()
    mail = await Mail.get()
    assert mail.state is state
    assert reason in mail.last_error


async def test_a_mail_that_got_too_old_is_a_dead_letter_that_can_be_retried(
    auth: Auth,
    tortoise: TortoiseContext,
    settings: AuthSettings,
    mailbox: Mailbox,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A-84."""
    settings.email_max_age = timedelta(hours=1)
    mailbox.server.behaviour = "temporary"
    await queue(auth)
    for _ in range(20):
        await auth.dispatcher.deliver_due()
        clock.advance(minutes=10)
    mail = await Mail.get()
    assert (mail.state, mail.next_attempt_at) == (MailState.DEAD, None)
    assert "given up: waited for longer than AUTH_EMAIL_MAX_AGE" in caplog.text
    assert mail.recipient not in caplog.text
    mailbox.server.behaviour = "accept"
    assert await auth.outbox.retry(Q(id=mail.id)) == 1
    await auth.dispatcher.deliver_due()
    assert len(mailbox.messages) == 1
    assert await auth.outbox.retry(Q()) == 0


async def test_a_mail_under_way_cannot_be_retried(auth: Auth, tortoise: TortoiseContext) -> None:
    await queue(auth)
    await auth.outbox.claim(1)
    assert await auth.outbox.retry(Q()) == 0


# Hand-over to the host's own queue


class Queue:
    """A task queue of a host app: keeps ids until the test has its worker run them."""

    def __init__(self) -> None:
        self.ids: list[UUID] = []
        self.down = False
        self.threads: set[int] = set()

    async def put(self, mail_id: UUID) -> None:
        if self.down:
            raise ConnectionError("the queue is down")
        self.ids.append(mail_id)

    def put_now(self, mail_id: UUID) -> None:
        """As a queue that is not asynchronous does."""
        self.threads.add(threading.get_ident())
        self.ids.append(mail_id)


@pytest.fixture
def host_queue() -> Queue:
    return Queue()


@pytest.fixture
async def handing(
    host_queue: Queue, settings: AuthSettings, clock: Clock, tortoise: TortoiseContext, mailbox: Mailbox
) -> AsyncIterator[tuple[httpx.AsyncClient, Auth]]:
    """A client of an app that hands its mails over."""
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock, send_email=host_queue.put)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
        yield client, auth
    await auth.close()


async def test_a_queue_gets_the_id_and_its_worker_sends_the_mail_once(
    handing: tuple[httpx.AsyncClient, Auth], host_queue: Queue, mailbox: Mailbox
) -> None:
    client, auth = handing
    assert (await client.post("/auth/signup", json=CREDENTIALS)).status_code == 201
    mail = await Mail.get()
    assert (host_queue.ids, mail.state) == ([mail.id], MailState.HANDED_OVER)
    assert mailbox.server.connections == 0
    await asyncio.gather(*(auth.dispatcher.deliver([str(mail.id)]) for _ in range(5)))
    await auth.dispatcher.deliver([mail.id])
    assert len(mailbox.messages) == 1
    assert ((await Mail.get()).state, (await Mail.get()).attempts) == (MailState.SENT, 1)


async def test_a_queue_that_is_down_loses_nothing(
    handing: tuple[httpx.AsyncClient, Auth], host_queue: Queue, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    client, auth = handing
    host_queue.down = True
    assert (await client.post("/auth/signup", json=CREDENTIALS)).status_code == 201
    assert (await Mail.get()).state is MailState.WAITING
    assert "could not be handed over" in caplog.text
    host_queue.down = False
    clock.advance(minutes=1)
    assert await auth.dispatcher.deliver_due() == 1
    assert host_queue.ids == [(await Mail.get()).id]


async def test_what_a_queue_lost_is_handed_over_again(
    handing: tuple[httpx.AsyncClient, Auth], host_queue: Queue, clock: Clock
) -> None:
    client, auth = handing
    await client.post("/auth/signup", json=CREDENTIALS)
    clock.advance(minutes=14)
    assert await auth.dispatcher.deliver_due() == 0
    clock.advance(minutes=2)
    assert await auth.dispatcher.deliver_due() == 1
    assert len(host_queue.ids) == 2


async def test_what_a_worker_cannot_send_goes_back_to_the_outbox(
    handing: tuple[httpx.AsyncClient, Auth], host_queue: Queue, mailbox: Mailbox, clock: Clock
) -> None:
    client, auth = handing
    await client.post("/auth/signup", json=CREDENTIALS)
    mailbox.server.behaviour = "temporary"
    await auth.dispatcher.deliver(host_queue.ids)
    assert (await Mail.get()).state is MailState.WAITING
    mailbox.server.behaviour = "accept"
    clock.advance(minutes=1)
    await auth.dispatcher.deliver_due()
    await auth.dispatcher.deliver(host_queue.ids[-1:])
    assert (len(host_queue.ids), len(mailbox.messages)) == (2, 1)


async def test_a_running_dispatcher_hands_over_and_a_plain_function_runs_in_a_thread(
    settings: AuthSettings, tortoise: TortoiseContext, mailbox: Mailbox, host_queue: Queue
) -> None:
    auth = Auth(settings, send_email=host_queue.put_now)
    addresses = await queue(auth, 3)
    async with dispatching(auth):
        await until(lambda: _handed_over(len(addresses)))
    assert len(set(host_queue.ids)) == 3
    await auth.close()
    assert threading.get_ident() not in host_queue.threads
    assert mailbox.messages == []


async def _handed_over(count: int) -> bool:
    return await Mail.filter(state=MailState.HANDED_OVER).count() == count


async def test_the_dispatcher_logs_no_address_and_no_link(
    client: httpx.AsyncClient, auth: Auth, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A-91."""
    caplog.set_level(logging.DEBUG, "fastapi_pluggable_auth")
    mailbox.server.behaviour = "temporary"
    await client.post("/auth/signup", json=CREDENTIALS)
    logged = "\n".join(record.getMessage() for record in caplog.records if "tortoise" not in record.name)
    assert "is tried again later" in logged
    assert EMAIL not in logged
