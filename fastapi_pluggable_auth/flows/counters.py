"""Where counters are kept: in a table, written beside a transaction that the host has open. Where that has
the only connection, they are in memory until it ends: rolled back, it must take no attempt back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final

from tortoise.exceptions import IntegrityError
from tortoise.queryset import QuerySet

from ..auth import Auth
from ..models import AbstractThrottle, among
from ..security.throttle import Counter

BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class Counted:
    """An attempt that was counted: the counter with it, and the version of the row in which it was. `holder`
    is whose the row is, where that is not fixed."""

    row_id: str
    version: int
    holder: str | None
    counter: Counter


@dataclass(frozen=True, slots=True)
class Unwritten:
    """What a row will be; without a counter there will be none."""

    version: int
    counted: Counted | None


async def read(auth: Auth, ids: Collection[str]) -> list[Counted]:
    """Those of these rows that exist."""
    for row_id in _in_memory(auth, ids):
        # Never inside the host's transaction: rolled back, it would take it from the memory as well.
        await auth.autonomous.run_statement(partial(_write, auth, row_id), otherwise=_not_now)

    async def rows() -> tuple[list[AbstractThrottle]]:
        return (await auth.tables.throttle.filter(id__in=ids),)

    # Also what is written while the rows are read, which may be from before it.
    in_memory = _in_memory(auth, ids)
    (found,) = await auth.autonomous.run_statement(rows, otherwise=rows)
    kept = {row.id: _counted(row) for row in among(found, ids)}
    for row_id, unwritten in (in_memory | _in_memory(auth, ids)).items():
        if row_id in kept and kept[row_id].version >= unwritten.version:
            continue  # another process was later
        kept.pop(row_id, None)
        if unwritten.counted is not None:
            kept[row_id] = unwritten.counted
    return [*kept.values()]


def _in_memory(auth: Auth, ids: Collection[str]) -> dict[str, Unwritten]:
    """Those of these rows that wait to be written."""
    return {row_id: auth.unwritten[row_id] for row_id in auth.unwritten.keys() & {*ids}}


async def detailed(auth: Auth) -> AsyncIterator[Counter]:
    """All that have details and their own row, in batches."""
    last, kept = "", auth.tables.throttle.filter(holder=None, details__not_isnull=True)
    while rows := await kept.filter(id__gt=last).order_by("id").limit(BATCH):
        last = rows[-1].id
        for row in rows:
            yield _counted(row).counter


async def store(auth: Auth, before: Counted | str, holder: str | None, counter: Counter) -> Counted | None:
    """Stores the counter in place of the one before, or in a row of this new id; None where another attempt
    was counted since it was read."""
    row_id, version = (before, 0) if isinstance(before, str) else (before.row_id, before.version + 1)
    counted = Counted(row_id, version, holder, counter)
    if auth.autonomous.must_wait:
        return _write_later(auth, row_id, version, counted)

    async def write() -> tuple[bool]:
        if isinstance(before, str):
            return (await _create(auth, counted),)
        return (bool(await _unchanged(auth, before).update(**_columns(counted))),)

    (stored,) = await auth.autonomous.run_statement(write, otherwise=_not_now)
    return counted if stored else None


async def delete(auth: Auth, before: Counted) -> bool:
    """Deletes a row; whether it was unchanged."""
    if auth.autonomous.must_wait:
        _write_later(auth, before.row_id, before.version + 1, None)
        return True

    async def write() -> tuple[bool]:
        return (bool(await _unchanged(auth, before).delete()),)

    (deleted,) = await auth.autonomous.run_statement(write, otherwise=_not_now)
    return deleted


async def delete_all(auth: Auth, ids: Collection[str]) -> None:
    """Deletes these rows, whatever is in them."""

    async def write() -> tuple[bool]:
        await auth.tables.throttle.filter(id__in=ids).delete()
        return (True,)

    async def write_later() -> tuple[bool]:
        for counted in await read(auth, ids):
            _write_later(auth, counted.row_id, counted.version + 1, None)
        return (False,)

    (deleted,) = await auth.autonomous.run_statement(write, otherwise=write_later)
    for row_id in ids if deleted else ():
        auth.unwritten.pop(row_id, None)


def _write_later(auth: Auth, row_id: str, version: int, counted: Counted | None) -> Counted | None:
    if (earlier := auth.unwritten.get(row_id)) is not None:
        version = max(version, earlier.version + 1)
    counted = None if counted is None else replace(counted, version=version)
    auth.unwritten[row_id] = Unwritten(version, counted)
    auth.autonomous.run_after_host(lambda: _write(auth, row_id))
    return counted


async def _not_now() -> tuple[bool]:
    """Of a write that could not be made beside the host's transaction. Never made inside it, nor repeated: an
    attempt counted in between would make the repetition miss. The counter is read again, and is in memory."""
    return (False,)


async def _write(auth: Auth, row_id: str) -> tuple[bool]:
    """Writes what is in memory, unless the row is newer."""
    unwritten: Unwritten | None = auth.unwritten.get(row_id)
    if unwritten is None:
        return (True,)
    older = auth.tables.throttle.filter(id=row_id, version__lt=unwritten.version)
    if unwritten.counted is None:
        await older.delete()
    elif not await older.update(**_columns(unwritten.counted)):
        await _create(auth, unwritten.counted)
    if auth.unwritten.get(row_id) is unwritten:
        del auth.unwritten[row_id]
    return (True,)


async def _create(auth: Auth, counted: Counted) -> bool:
    try:
        await auth.tables.throttle.create(id=counted.row_id, **_columns(counted))
    except IntegrityError:
        return False
    return True


def _columns(counted: Counted) -> dict[str, Any]:
    return {"version": counted.version, "holder": counted.holder, **asdict(counted.counter)}


def _counted(row: AbstractThrottle) -> Counted:
    counter = Counter(row.count, row.started_at, row.blocked_until, row.details)
    return Counted(row.id, row.version, row.holder, counter)


def _unchanged(auth: Auth, before: Counted) -> QuerySet[AbstractThrottle]:
    return auth.tables.throttle.filter(id=before.row_id, version=before.version)
