"""Each mail belongs to one process at a time, on every database, and is neither lost nor sent twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth
from fastapi_pluggable_auth.email import dispatcher as dispatcher_module
from fastapi_pluggable_auth.models import Mail, MailState

from .conftest import SECRET, Clock, Database, Mailbox, on_postgres_first
from .delivery import all_sent, dispatching, queue, recipients, until


async def test_each_mail_is_claimed_by_one_process_alone(auth: Auth, tortoise: TortoiseContext) -> None:
    """A-84."""
    await queue(auth, 40)

    async def take_all() -> list[UUID]:
        taken: list[UUID] = []
        while mails := await auth.outbox.claim(3):
            assert len(mails) <= 3
            taken += [mail.id for mail in mails]
        return taken

    claimed = await asyncio.gather(*(take_all() for _ in range(4)))
    # A process that found all due mails locked by others has stopped early, so the last one takes the rest.
    ids = [mail_id for taken in [*claimed, await take_all()] for mail_id in taken]
    assert len(ids) == len(set(ids)) == 40


async def test_a_process_that_lost_its_claim_changes_nothing(
    auth: Auth, tortoise: TortoiseContext, clock: Clock
) -> None:
    await queue(auth)
    (slow,) = await auth.outbox.claim(1)
    clock.advance(minutes=3)
    (quick,) = await auth.outbox.claim(1)
    await auth.outbox.mark_failed(slow, "late", permanent=True)
    await auth.outbox.mark_sent(slow)
    await auth.outbox.drop(slow)
    assert (await Mail.get()).state is MailState.SENDING
    await auth.outbox.mark_sent(quick)
    assert (await Mail.get()).state is MailState.SENT


async def test_a_mail_that_has_gone_is_not_sent_again_because_the_database_failed(
    auth: Auth,
    tortoise: TortoiseContext,
    database: Database,
    mailbox: Mailbox,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dispatcher_module, "MARKING_PAUSES", (0.05,) * 100)
    connection = tortoise.connections.get(database.dialect)
    await queue(auth)
    mailbox.server.delay = 0.3
    async with dispatching(auth):
        await until(lambda: Mail.filter(state=MailState.SENDING).exists())
        await connection.execute_script("ALTER TABLE auth_mail RENAME TO hidden")
        try:
            await mailbox.server.wait(1)
            await asyncio.sleep(0.2)
        finally:
            await connection.execute_script("ALTER TABLE hidden RENAME TO auth_mail")
        await until(all_sent)
    clock.advance(hours=1)
    await auth.dispatcher.deliver_due()
    assert len(mailbox.messages) == 1


async def test_a_stop_waits_for_the_mail_under_way(
    auth: Auth, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    await queue(auth, 6)
    mailbox.server.delay = 0.5
    async with dispatching(auth):
        await until(lambda: Mail.filter(state=MailState.SENDING).exists())
    assert await Mail.filter(state=MailState.SENT).count() == len(mailbox.messages) == 4
    assert await Mail.filter(state=MailState.WAITING).count() == 2


@on_postgres_first
async def test_four_processes_send_each_of_many_mails_once(
    auth: Auth, tortoise: TortoiseContext, database: Database, mailbox: Mailbox, tmp_path: Path
) -> None:
    """A-84: 500 mails on PostgreSQL, by `fastapi-pluggable-auth mail run` four times."""
    addresses = await queue(auth, 500 if database.dialect == "postgres" else 100)
    environment = os.environ | {
        "DATABASE_URL": database.url,
        "JWT_SECRET": SECRET,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(mailbox.server.port),
    }
    command = [sys.executable, "-m", "fastapi_pluggable_auth", "mail", "run"]
    processes = [
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) for _ in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline)  # it has started
        await until(all_sent, 60)
    finally:
        for process in processes:
            process.terminate()
            process.communicate(timeout=20)
    statuses = [process.returncode for process in processes]
    assert recipients(mailbox) == addresses
    assert statuses == [0, 0, 0, 0]
    assert set(await Mail.all().values_list("attempts", flat=True)) == {1}
    assert mailbox.server.connections >= 4
