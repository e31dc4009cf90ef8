"""A migration that changes the tables in use, while requests, mails and the purge go on."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.migrations._locks import LOCK_SECONDS
from fastapi_pluggable_auth.models import Mail, MailState, RefreshToken, Session, User, token_digest
from fastapi_pluggable_auth.security.hashing import hash_password

from .conftest import PASSWORD, Mailbox
from .spare_database import SpareDatabase
from .test_migration_locks import MIGRATE, connection
from .test_migrations import old_token
from .test_workers import ROOT

READER_SECONDS = 7 * LOCK_SECONDS
"""Who does not give up behind it waits longer than any request may."""
DEVICES = 6
EXPIRED = 1500
LEFT_FROM_0_1 = 300

UNDONE = {
    "postgres": (
        'DROP INDEX "{user_created_at}"',
        'DROP INDEX "{refreshtoken_expires_at}"',
        'DROP INDEX "{auth_session_begun_in}"',
        'ALTER TABLE "user" ALTER COLUMN display_name TYPE VARCHAR(32)',
    ),
    "mysql": (
        "DROP INDEX `{user_created_at}` ON `user`",
        "DROP INDEX `{refreshtoken_expires_at}` ON refreshtoken",
        "DROP INDEX `{auth_session_begun_in}` ON auth_session",
        "ALTER TABLE `user` MODIFY COLUMN display_name VARCHAR(32) NULL",
    ),
}
"""What an older release has not, though an app of today runs on it: steps that change each busy table."""
INDEX = {
    "postgres": "SELECT i.relname AS name FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid"
    " JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]"
    " WHERE x.indrelid = '\"{table}\"'::regclass AND a.attname = '{column}'",
    "mysql": "SELECT index_name AS name FROM information_schema.statistics WHERE table_schema = DATABASE()"
    " AND table_name = '{table}' AND column_name = '{column}' AND seq_in_index = 1",
}


async def undo(spare: SpareDatabase) -> None:
    """Makes the database one whose upgrade was broken off, or is still to come."""
    indexes = {}
    for table, column in (
        ("user", "created_at"),
        ("refreshtoken", "expires_at"),
        ("auth_session", "begun_in"),
    ):
        (index,) = await spare.query(INDEX[spare.dialect].format(table=table, column=column))
        indexes[f"{table}_{column}"] = index["name"]
    async with connection(spare) as run:
        for statement in UNDONE[spare.dialect]:
            await run(statement.format(**indexes))
        await run("DELETE FROM tortoise_migrations WHERE name <> '0001_initial'")


@dataclass
class Load:
    """What is sent while the tables change, and what came back."""

    client: httpx.AsyncClient
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    slowest: float = 0.0
    newest: dict[str, str] = field(default_factory=dict)
    """The refresh token of each device."""

    async def post(self, path: str, **body: str) -> httpx.Response:
        begun = time.monotonic()
        answer = await self.client.post(path, json=body)
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.answers[path, answer.status_code] += 1
        return answer

    async def device(self, email: str) -> None:
        """Logs in and refreshes, again and again; its session is to live."""
        device = uuid4().hex
        tokens = (await self.post("/auth/login", email=email, password=PASSWORD)).json()
        while not self.stop.is_set():
            self.newest[device] = tokens["refresh_token"]
            tokens = (await self.post("/auth/refresh", token=tokens["refresh_token"])).json()
            await self.post("/auth/login", email=email, password=PASSWORD)
            await asyncio.sleep(0.05)
        self.newest[device] = tokens["refresh_token"]

    async def forgetful(self, email: str) -> None:
        """Has mails sent."""
        while not self.stop.is_set():
            await self.post("/auth/forgot-password", email=email)
            await asyncio.sleep(0.1)

    async def purger(self, auth: Auth) -> int:
        """Purges without a pause; gives how many sessions have gone."""
        deleted = 0
        while not self.stop.is_set():
            deleted += (await purge(auth))["auth_session"]
            await asyncio.sleep(0.05)
        return deleted


@pytest.mark.full
@pytest.mark.parametrize("spare", ["postgres", "mysql"], indirect=True)
async def test_a_migration_under_load_loses_nothing_and_stops_nobody(
    spare: SpareDatabase, settings: AuthSettings, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
) -> None:
    settings.max_sessions = 10_000  # each login is a session that is to live
    await spare.create()
    await spare.migrate()
    whole = await spare.schema()
    app = FastAPI()
    auth = include_auth(app, settings=settings)
    now = datetime.now(UTC)
    hashed = hash_password(PASSWORD, settings)
    tokens_0_1: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(spare.opened())
        stack.push_async_callback(auth.close)
        transport = httpx.ASGITransport(app)
        client = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://testserver")
        )
        users = [
            User(email=f"user{number}@example.com", hashed_password=hashed, is_verified=True)
            for number in range(DEVICES)
        ]
        await User.bulk_create(users)
        expired = {"authenticated_at": now - timedelta(days=60), "expires_at": now - timedelta(days=30)}
        await Session.bulk_create([Session(user_id=users[0].id, **expired) for _ in range(EXPIRED)])
        for number in range(LEFT_FROM_0_1):
            user = users[number % DEVICES]
            token = tokens_0_1[f"{number}"] = old_token(user.id)
            await RefreshToken.create_for(user.id, token, timedelta(days=3))
        await undo(spare)
        async with connection(spare) as run:
            for number, token in tokens_0_1.items():
                if int(number) % 2:  # the upgrade was broken off half way
                    await run(
                        f"UPDATE refreshtoken SET token = '{token}' WHERE token = '{token_digest(token)}'"
                    )

        load = Load(client)
        auth.dispatcher.start()
        work = [
            *(asyncio.create_task(load.device(user.email)) for user in users),
            asyncio.create_task(load.forgetful(users[0].email)),
        ]
        purging = asyncio.create_task(load.purger(auth))
        await asyncio.sleep(1)
        async with connection(spare) as read:
            await read("BEGIN")
            await read(f"SELECT 1 FROM {spare.quoted('user')}, refreshtoken, auth_session LIMIT 1")
            command = [sys.executable, "-c", MIGRATE, spare.dialect, spare.url]
            migration = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=-1)
            ended = asyncio.create_task(migration.communicate())
            await asyncio.sleep(READER_SECONDS)
            assert not ended.done()
            await read("COMMIT")
        _, error = await asyncio.wait_for(ended, 120)
        await asyncio.sleep(1)
        load.stop.set()
        await asyncio.gather(*work)
        purged = await purging
        while await Mail.filter(state__in=(MailState.WAITING, MailState.SENDING)).exists():
            await asyncio.sleep(0.1)
        await auth.dispatcher.stop()

        assert migration.returncode == 0, error.decode()
        assert {status for _, status in load.answers} == {200}
        assert [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR] == []
        assert load.slowest < READER_SECONDS - 2 * LOCK_SECONDS
        for token in (*load.newest.values(), *tokens_0_1.values()):
            assert (await load.post("/auth/refresh", token=token)).status_code == 200
        assert purged == EXPIRED
        assert await Session.filter(revoked_at=None).count() == load.answers["/auth/login", 200] + len(
            tokens_0_1
        )
        assert len(mailbox.messages) == load.answers["/auth/forgot-password", 200]
    await spare.migrate()
    assert await spare.schema() == whole
