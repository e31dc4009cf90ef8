"""Deleting what has expired, in bounded batches: the tables do not grow with time."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Any, Final

from tortoise import Model
from tortoise.exceptions import IntegrityError
from tortoise.expressions import Q

from ..auth import Auth
from ..database import in_one_transaction
from ..models import AuditEvent, MailState, PersonalToken
from ..rounds import Rounds
from ..security.identifiers import first_id_at
from .guesses import PERIOD

logger = logging.getLogger(__name__)

BATCH: Final = 1000
INTERVAL_SECONDS: Final = 3600.0


async def purge(auth: Auth) -> dict[str, int]:
    """Deletes expired rows and returns how many, by table. A spent refresh token stays until its session's
    end, so that its reuse is noticed (RFC 9700 section 4.14.2). Raises what the database does for a table,
    after the others."""
    now, settings = auth.clock(), auth.settings
    throttled_until = now - max(settings.throttle_forget_after, settings.mail_limit_period, PERIOD)
    expired: list[tuple[type[Model], Q]] = [
        (auth.tables.session, Q(expires_at__lt=now)),
        (auth.tables.refresh_token, Q(expires_at__lt=now, session_id=None)),
        (auth.tables.of(PersonalToken), Q(expires_at__lt=now)),
        (auth.tables.device, Q(expires_at__lt=now)),
        (
            auth.tables.mail,
            Q(state__in=(MailState.SENT, MailState.DEAD), created_at__lt=now - settings.mail_retention),
        ),
        (auth.tables.throttle, Q(blocked_until__lt=throttled_until)),
        (auth.tables.of(AuditEvent), Q(id__lt=first_id_at(now - settings.audit_retention))),
    ]
    deleted: dict[str, int] = {}
    failures: list[Exception] = []
    for table, condition in expired:
        try:
            deleted[table._meta.db_table] = await _delete(table, condition)
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return deleted


async def keep_purging(auth: Auth, stop: asyncio.Event) -> None:
    """Purges every hour until told to stop, each worker at a time of its own."""
    rounds = Rounds("Deleting expired rows", logger)
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), random.uniform(0.05, 1) * INTERVAL_SECONDS)  # noqa: S311
            return
        with rounds.one():
            await purge(auth)


async def _delete(table: type[Model], expired: Q) -> int:
    """In batches, each a short statement of its own: nobody waits long for a lock. Raises `IntegrityError`
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
