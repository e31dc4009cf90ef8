"""Accounts from a CSV file: a million of them in little memory, again and again without harm."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, islice
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from tortoise.exceptions import BaseORMException, IntegrityError
from tortoise.fields import DatetimeField, JSONField
from tortoise.fields.base import DatabaseDefault, Field

from ...auth import Auth, transactional
from ...errors import AuthError, ErrorCode
from ...flows.columns import column_values, conflicts_refused
from ...models import AbstractUser, every
from ...security.addresses import normalise_email
from ...security.clock import as_utc
from ...security.hashing import imported_hash, unusable_hash
from ...security.names import name_set
from ...security.text import is_single_line, is_unicode
from ..social_login.importing import COLUMN, imported_identities, taken
from ..social_login.models import Identity
from .flows import AdministrationEventKind

BATCH: Final = 500

PRIVATE: Final = "_"
"""Columns whose names start so are ignored: notes of the file's author, or of an earlier import."""

NOT_IMPORTED: Final = frozenset(
    {
        "pending_email",
        "totp_secret",
        "totp_confirmed",
        "totp_last_step",
        "totp_enrolled_at",
        "recovery_codes_at",
    }
)
"""What only its owner sets up."""


class ImportFileError(Exception):
    """The file as a whole cannot be imported; says why."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A row that was not imported: where it ends, what it says, and why."""

    line: int
    cells: list[str]
    reason: str


@dataclass(slots=True)
class Batch:
    """What became of some rows. Those are skipped whose address has an account already."""

    imported: int = 0
    skipped: int = 0
    refused: list[Refusal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: list[str]
    user: AbstractUser
    values: dict[str, Any]
    identities: list[Identity]


async def import_users(auth: Auth, lines: Iterable[str], *, batch: int = BATCH) -> AsyncIterator[Batch]:
    """Imports the rows of a CSV file (RFC 4180), whose header names columns of the user, `email` among them.

    `hashed_password` is a hash of another system (`imported_hash`) or empty: then the owner sets a password
    by a reset mail. `identities` are those of social login (`imported_identities`), by the providers of the
    app. An empty cell is the column's default. Each batch is one transaction, and an address that
    has an account is skipped: an import that was interrupted goes on when it is started again. No mail is
    sent. Raises `ImportFileError` where the header is wrong.
    """
    reader = csv.reader(lines, strict=True)
    header = _header(auth, reader)
    records = _records(reader)
    while some := [*islice(records, batch)]:
        done = Batch()
        rows: dict[str, _Row] = {}
        for line, cells, problem in some:
            try:
                row = _row(auth, header, line, cells, problem)
            except ValueError as error:
                done.refused.append(Refusal(line, cells, str(error)))
                continue
            done.skipped += row.user.email in rows
            rows.setdefault(row.user.email, row)
        async with auth.events.observe(AdministrationEventKind.ACCOUNT_IMPORT):
            await _import(auth, rows, done)
        yield done


def _header(auth: Auth, reader: Iterator[list[str]]) -> list[str]:
    try:
        names = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise ImportFileError(f"The header is not CSV: {error}.") from error
    named = [name for name in names if not name.startswith(PRIVATE)]
    if "email" not in named:
        raise ImportFileError("The first line has to name the columns, `email` among them.")
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ImportFileError(f"The header names {', '.join(twice)} twice.")
    columns = {*auth.tables.user._meta.fields_db_projection, *_of_features(auth)}
    if unknown := sorted({*named} - columns | {*named} & NOT_IMPORTED):
        raise ImportFileError(
            f"Users have no such columns, or they cannot be imported: {', '.join(unknown)}."
        )
    return names


def _of_features(auth: Auth) -> frozenset[str]:
    """Columns that are none of the user's."""
    own = auth.tables.user._meta.fields_db_projection
    return frozenset({COLUMN}) if "social_login" in auth.features and COLUMN not in own else frozenset()


def _records(reader: Any) -> Iterator[tuple[int, list[str], str | None]]:
    """The rows: the line that each ends on, its cells, and what is wrong with it as CSV."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, [], f"no CSV: {error}"
        else:
            if cells:
                yield reader.line_num, cells, None


def _row(auth: Auth, header: list[str], line: int, cells: list[str], problem: str | None) -> _Row:
    """The account of a row. Raises `ValueError` with what is wrong with it."""
    if problem is not None:
        raise ValueError(problem)
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells for {len(header)} columns")
    values: dict[str, Any] = {}
    elsewhere = ""
    for name, text in zip(header, cells, strict=True):
        if name in _of_features(auth):
            elsewhere = text
        elif text and not name.startswith(PRIVATE):
            try:
                values[name] = _value(auth, name, text)
            except ValidationError as error:
                raise ValueError(f"{name}: not valid") from error
            except (ValueError, ArithmeticError, BaseORMException) as error:
                raise ValueError(f"{name}: {error}") from error
    users = auth.tables.user
    user = users(**{"hashed_password": unusable_hash(), **values})
    for name, column in users._meta.fields_map.items():
        given = name in users._meta.fields_db_projection and getattr(user, name) is None
        if given and not (column.null or column.generated or getattr(column, "auto_now_add", False)):
            raise ValueError(f"{name}: missing")
    try:
        identities = imported_identities(auth, user.id, elsewhere) if elsewhere else []
    except ValueError as error:
        raise ValueError(f"{COLUMN}: {error}") from error
    return _Row(line, cells, user, values, identities)


def column_value(auth: Auth, name: str, text: str) -> object:
    """What a text says for this column, as in a CSV file. Raises `ValueError`."""
    try:
        return _value(auth, name, text)
    except (ArithmeticError, BaseORMException) as error:
        raise ValueError("not valid") from error


def _value(auth: Auth, name: str, text: str) -> object:
    if not is_unicode(text):
        raise ValueError("not Unicode text in UTF-8, or with NUL")
    if name == "email":
        return normalise_email(text, auth.settings.email_special_domains)
    if name == "hashed_password":
        return imported_hash(text.strip())
    if name == "display_name" and not is_single_line(text):
        raise ValueError("more than one line, or control characters")
    if name == "roles" and auth.roles and (unknown := name_set(text) - auth.roles.keys()):
        raise ValueError(f"the app has no role {', '.join(sorted(unknown))}")
    try:
        return column_values(auth, {name: _parsed(auth.tables.user._meta.fields_map[name], text)}).get(name)
    except AuthError as error:
        raise ValueError("not valid") from error


def _parsed(column: Field[Any], text: str) -> object:
    if isinstance(column, DatetimeField):
        # UTC where no offset is given; then as Tortoise stores it, as SQLite compares text.
        return column.to_python_value(as_utc(datetime.fromisoformat(text.strip())))
    if isinstance(column, JSONField):
        return column.to_python_value(text)
    if column.field_type is str:
        return text
    return TypeAdapter(column.field_type).validate_strings(text.strip())


async def _import(auth: Auth, rows: Mapping[str, _Row], done: Batch) -> None:
    """Together, or those together that have no account yet; where one of them is in the way, one by one.

    The addresses are looked up in second place only: PostgreSQL keeps the plan that it made for that query
    while the table was small, and would read all of a table that grows.
    """
    if await _insert_all(auth, [*rows.values()], done):
        return
    users = every(auth.tables.user)
    known: set[Any] = {*await users.filter(email__in=[*rows]).values_list("email", flat=True)}
    new = [row for email, row in rows.items() if email not in known]
    done.skipped += len(rows) - len(new)
    if not await _insert_all(auth, new, done):
        for row in new:
            await _import_one(auth, row, done)


async def _insert_all(auth: Auth, rows: list[_Row], done: Batch) -> bool:
    try:
        await _insert(auth, rows)
    except (AuthError, IntegrityError):
        return False
    done.imported += len(rows)
    return True


async def _import_one(auth: Auth, row: _Row, done: Batch) -> None:
    columns = {name: value for name, value in row.values.items() if name != "email"}
    try:
        async with conflicts_refused(auth, columns):
            await _insert(auth, [row])
    except AuthError as error:
        unfit = error.code is ErrorCode.VALIDATION_ERROR
        reason = "A value does not fit its column." if unfit else str(error)
        done.refused.append(Refusal(row.line, row.cells, reason))
    except IntegrityError:
        if await every(auth.tables.user).filter(email=row.user.email).exists():
            done.skipped += 1
        elif (known := await taken(auth, row.identities)) is not None:
            reason = f"{COLUMN}: that of {known.provider} is connected to another account"
            done.refused.append(Refusal(row.line, row.cells, reason))
        else:
            done.refused.append(Refusal(row.line, row.cells, ErrorCode.VALUE_REFUSED.detail))
    else:
        done.imported += 1


@transactional
async def _insert(auth: Auth, rows: list[_Row]) -> None:
    users = [row.user for row in rows]
    # Those together that leave the same columns to the database, which one statement does for all or none.
    for _, alike in groupby(sorted(users, key=_left_to_database), key=_left_to_database):
        await auth.tables.user.bulk_create(alike)
    if identities := [identity for row in rows for identity in row.identities]:
        await auth.tables.of(Identity).bulk_create(identities)


def _left_to_database(user: AbstractUser) -> list[str]:
    columns = user._meta.fields_db_projection
    return sorted(name for name in columns if isinstance(getattr(user, name), DatabaseDefault))
