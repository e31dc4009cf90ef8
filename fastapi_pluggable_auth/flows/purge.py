"""Deleting what has expired, in bounded batches: the tables do not grow with time."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from tortoise import Model
from tortoise.exceptions import IntegrityError
from tortoise.expressions import Q

from ..auth import Auth
from ..config import AuthSettings
from ..database import in_one_transaction
from ..measurements import Purged
from ..models import Device, Expired, Mail, MailState, Pending, RefreshToken, Session, Throttle
from ..rounds import Rounds
from .guesses import PERIOD
from .unverified import purge_unverified

logger = logging.getLogger(__name__)

BATCH: Final = 1000
INTERVAL_SECONDS: Final = 3600.0


def _old_mails(now: datetime, settings: AuthSettings) -> Q:
    done = (MailState.SENT, MailState.DEAD)
    return Q(state__in=done, created_at__lt=now - settings.mail_retention)


def _forgotten(now: datetime, settings: AuthSettings) -> Q:
    counted_for = max(settings.throttle_forget_after, settings.mail_limit_period, PERIOD)
    return Q(blocked_until__lt=now - counted_for)


EXPIRED: Final = (
    Expired(Session, lambda now, _: Q(expires_at__lt=now)),
    Expired(RefreshToken, lambda now, _: Q(expires_at__lt=now, session_id=None)),
    Expired(Pending, lambda now, _: Q(expires_at__lt=now)),
    Expired(Device, lambda now, _: Q(expires_at__lt=now)),
    Expired(Mail, _old_mails),
    Expired(Throttle, _forgotten),
)
"""Those of every app; features add theirs. The refresh tokens of a session go with it, or while it is used:
see `spent_tokens`."""


async def purge(auth: Auth) -> dict[str, int]:
    """Deletes expired rows, and accounts that were never verified, and returns how many, by table. Raises
    what the database does for a table, after the others."""
    now, settings = auth.clock(), auth.settings
    deleted: dict[str, int] = {}
    failures: list[Exception] = []
    for each in (*EXPIRED, *auth.expired):
        table = auth.tables.of(each.table)
        name = table._meta.db_table
        try:
            deleted[name] = deleted.get(name, 0) + await _delete(table, each.rows(now, settings))
        except Exception as error:
            failures.append(error)
    if settings.unverified_account_ttl:
        try:
            deleted[auth.tables.user._meta.db_table] = await purge_unverified(auth)
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]
    auth.measurements.report(Purged, deleted)
    return deleted


async def keep_purging(auth: Auth, stop: asyncio.Event) -> None:
    """Purges every hour until it is stopped, each worker at a different time."""
    rounds = Rounds("Deleting expired rows", logger)
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), random.uniform(0.05, 1) * INTERVAL_SECONDS)  # noqa: S311
            return
        with rounds.one():
            await purge(auth)


async def _delete(table: type[Model], expired: Q) -> int:
    """In batches, each in its own short statement: nobody waits long for a lock. Raises `IntegrityError`
    for a row to which rows of the host refer, when all others are gone."""
    deleted, refusal = 0, None
    kept: list[Any] = []
    while ids := await _ids(table, Q(expired, ~Q(id__in=kept)) if kept else expired):
        try:
            deleted += await _delete_these(table, expired, ids)
        except IntegrityError:
            for each in ids:
                try:
                    deleted += await _delete_these(table, expired, [each])
                except IntegrityError as error:
                    kept.append(each)
                    refusal = error
        if len(ids) < BATCH:
            break
    if refusal is not None:
        raise refusal
    return deleted


async def _delete_these(table: type[Model], expired: Q, ids: list[Any]) -> int:
    """Those that still have expired: an administrator may have had a dead mail sent again meanwhile."""
    rows = table.filter(expired, id__in=ids)
    if table._meta.db.capabilities.dialect != "sqlite":
        return await rows.delete()

    async def delete() -> int:
        await rows.delete()
        # What SQLite says of the statement itself counts the rows that went with these.
        (count,) = await table._meta.db.execute_query_dict("SELECT changes() AS deleted")
        return int(count["deleted"])

    return await in_one_transaction(table._meta.default_connection, delete)


async def _ids(table: type[Model], expired: Q) -> list[Any]:
    return list(await table.filter(expired).limit(BATCH).values_list("id", flat=True))
