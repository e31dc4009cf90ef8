"""Expired rows are deleted; what is still needed to notice theft stays."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tortoise.exceptions import IntegrityError, OperationalError
from tortoise.expressions import Q

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.cli import main
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.flows import purge as purge_flow
from fastapi_pluggable_auth.flows.purge import keep_purging, purge
from fastapi_pluggable_auth.models import Mail, MailState, RefreshToken, Session, Throttle, User
from fastapi_pluggable_auth.rounds import Rounds

from . import databases
from .conftest import Account, Clock


async def test_spent_tokens_tell_of_theft_until_their_session_ends_and_are_then_gone(
    account: Account, auth: Auth, clock: Clock
) -> None:
    """A-52."""
    first = account.refresh_token
    for _ in range(10):
        account.refresh_token = (await account.refresh()).json()["refresh_token"]
        clock.advance(days=2)
    await purge(auth)
    assert await RefreshToken.all().count() == 5  # of the others, a later one says as much
    assert (await account.refresh(first)).status_code == 401
    assert (await account.refresh()).status_code == 401
    assert (await Session.get()).revoked_at is not None
    clock.advance(days=11)
    deleted = await purge(auth)
    assert deleted["auth_session"] == 1
    assert await RefreshToken.all().count() == await Session.all().count() == 0
    assert await User.all().count() == 1


async def test_mails_counters_and_tokens_without_session_go_too(
    account: Account, auth: Auth, clock: Clock, settings: AuthSettings
) -> None:
    user = await User.get()
    await RefreshToken.create_for(user.id, "a.b.c", timedelta(days=1))
    await Account(account.client, account.mailbox, account.email, "wrong").login()
    await Mail.create(
        kind="verify", recipient="late@example.com", next_attempt_at=clock(), give_up_at=clock()
    )
    assert await Throttle.all().count() == 1
    clock.advance(days=1, hours=-1)
    assert sum((await purge(auth)).values()) == 0
    clock.advance(hours=2)
    assert await purge(auth) == {
        "auth_session": 0,
        "refreshtoken": 1,
        "auth_personal_token": 0,
        "auth_pending": 0,
        "auth_device": 0,
        "auth_mail": 0,
        "auth_throttle": 1,
        "auth_audit_event": 0,
        "auth_oauth_token": 0,
        "auth_oauth_grant": 0,
        "auth_oauth_device": 0,
        "auth_oauth_client_token": 0,
        "auth_oauth_client": 0,
    }
    clock.advance(days=30)
    assert (await purge(auth))["auth_mail"] == 1
    (waiting,) = await Mail.all()
    assert waiting.recipient == "late@example.com"


async def test_a_purge_goes_in_small_batches(
    account: Account, auth: Auth, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_flow, "BATCH", 2)
    for _ in range(4):
        await account.login()
    clock.advance(days=31)
    assert (await purge(auth))["auth_session"] == 5


async def test_a_running_app_purges_by_itself_and_goes_on_after_a_failure(
    account: Account,
    auth: Auth,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever its kind, and says so once for each."""
    monkeypatch.setattr(purge_flow, "INTERVAL_SECONDS", 0.01)

    errors = [
        OSError("gone"),
        KeyError(),
        asyncio.CancelledError(),
        BaseException(),
        OperationalError("gone"),
    ]
    fails = [*errors, *errors]

    def down() -> datetime:
        if fails:
            raise fails.pop()
        return clock()

    auth.clock = down
    clock.advance(days=31)
    caplog.set_level("INFO", "fastapi_pluggable_auth")
    stop = asyncio.Event()
    task = asyncio.create_task(keep_purging(auth, stop))
    async with asyncio.timeout(10):
        while await Session.all().count() or "works again" not in caplog.text:
            await asyncio.sleep(0.01)
        stop.set()
        await task
    assert fails == []
    assert caplog.text.count("Deleting expired rows failed") == len(errors)


def test_the_command_purges_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite://{tmp_path / 'app.sqlite3'}"
    monkeypatch.chdir(tmp_path)
    asyncio.run(databases.create(url, "sqlite"))
    assert main(["purge", "--database-url", url]) == 0
    assert "auth_session: 0 deleted" in capsys.readouterr().out
    assert main(["purge", "--database-url", "postgres://nobody@127.0.0.1:1/app"]) == 1
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert main(["purge"]) == 1


async def test_a_row_that_is_wanted_again_meanwhile_stays_and_is_not_counted(
    auth: Auth, tortoise: object, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading what has expired and deleting it, an operator has a dead mail sent again."""
    for recipient in ("a@example.com", "b@example.com"):
        await auth.outbox.add(MailKind.VERIFY, recipient)
    await Mail.all().update(state=MailState.DEAD, next_attempt_at=None)
    clock.advance(days=31)
    read = purge_flow._ids

    async def read_and_retry(table: Any, expired: Any) -> list[Any]:
        ids = await read(table, expired)
        if table is Mail and ids:
            await auth.outbox.retry(Q(recipient="a@example.com"))
        return ids

    monkeypatch.setattr(purge_flow, "_ids", read_and_retry)
    assert (await purge(auth))["auth_mail"] == 1
    assert [mail.recipient for mail in await Mail.all()] == ["a@example.com"]


async def test_purges_at_once_count_each_row_once(account: Account, auth: Auth, clock: Clock) -> None:
    for _ in range(5):
        await account.login()
    clock.advance(days=31)
    done = await asyncio.gather(*(purge(auth) for _ in range(4)))
    assert sum(each["auth_session"] for each in done) == 6


async def test_a_table_that_fails_stops_no_other(account: Account, auth: Auth, clock: Clock) -> None:
    clock.advance(days=31)
    database = Session._meta.db
    await database.execute_script("ALTER TABLE auth_session RENAME TO elsewhere")
    try:
        await Throttle.create(id="x", count=1, started_at=clock(), blocked_until=clock())
        clock.advance(days=31)
        with pytest.raises(OperationalError):
            await purge(auth)
        assert await Throttle.all().count() == 0
    finally:
        await database.execute_script("ALTER TABLE elsewhere RENAME TO auth_session")


def test_each_new_kind_of_failure_in_the_background_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rounds = Rounds("Work", logging.getLogger("rounds"))

    def fail(error: Exception) -> None:
        with rounds.one():
            raise error

    down, refused = OperationalError("no answer"), IntegrityError("a constraint")
    for error in (down, refused, down, ValueError(), refused, KeyError(), ValueError()):
        fail(error)
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 4
    with rounds.one():
        pass
    fail(down)
    assert [record.levelname for record in caplog.records[4:]] == ["INFO", "ERROR"]
