"""Steps that change rows of 0.1. Each can be broken off and begun again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, Final

from tortoise import BaseDBAsyncClient
from tortoise.migrations.operations import TortoiseOperation
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_generator.state import State

from ..models import token_digest

BATCH: Final = 500
"""Rows that are read, and written in one transaction."""
SHOWN: Final = 20
"""Conflicts that a refusal names."""


class AddressConflictError(Exception):
    """Accounts of 0.1 have the same address, but for the case of letters."""


class RowOperation(TortoiseOperation):
    """A step on rows that cannot be undone."""

    reversible = False
    reduces_to_sql = False
    irreversible_because = ""

    def __str__(self) -> str:
        return f"{self.describe()!r} ({self.irreversible_because})"

    async def database_forward(
        self,
        app_label: str,
        old_state: State,
        new_state: State,
        state_editor: BaseSchemaEditor | None = None,
    ) -> None:
        """Runs the step."""
        if state_editor is not None:
            await self.change(state_editor.client, state_editor.quote)

    async def change(self, client: BaseDBAsyncClient, quote: Any) -> None:
        """Changes the rows."""
        raise NotImplementedError


class LowerCaseAddresses(RowOperation):
    """Addresses are looked up in lower case."""

    irreversible_because = "which addresses had capitals is not kept"

    def describe(self) -> str:
        """For `tortoise sqlmigrate`."""
        return "Lower-case the addresses of accounts"

    async def change(self, client: BaseDBAsyncClient, quote: Any) -> None:
        """Raises `AddressConflictError`, before anything is changed, where two accounts would be one."""
        owners: defaultdict[str, list[str]] = defaultdict(list)
        async for batch in _batches(client, quote, "user", "email"):
            for row in batch:
                owners[row["email"].lower()].append(str(row["id"]))
        conflicts = [ids for ids in owners.values() if len(ids) > 1]
        if conflicts:
            shown = "\n".join("  " + ", ".join(ids) for ids in conflicts[:SHOWN])
            raise AddressConflictError(
                f"{len(conflicts)} addresses belong to several accounts that differ in the case of letters "
                f"only. Change or delete all but one of each, then migrate again; nothing was changed. The "
                f"ids of the accounts, one address a line:\n{shown}"
            )
        await _rewrite(client, quote, "user", "email", str.lower)


class DigestRefreshTokens(RowOperation):
    """Refresh tokens are kept as digests; what is one already stays."""

    irreversible_because = "the tokens themselves are gone; to go back, restore a backup"

    def describe(self) -> str:
        """For `tortoise sqlmigrate`."""
        return "Replace refresh tokens by their digests"

    async def change(self, client: BaseDBAsyncClient, quote: Any) -> None:
        """In place: a token that a client holds finds its row."""
        await _rewrite(client, quote, "refreshtoken", "token", token_digest)


class ConfirmTwoFactor(RowOperation):
    """In 0.1 a stored secret was asked for at every login: so it stays."""

    irreversible_because = "0.1 cannot read what 0.2 has stored since; to go back, restore a backup"

    def describe(self) -> str:
        """For `tortoise sqlmigrate`."""
        return "Keep two-factor active where it was"

    async def change(self, client: BaseDBAsyncClient, quote: Any) -> None:
        """Confirms each secret there is."""
        user, confirmed, secret = quote("user"), quote("totp_confirmed"), quote("totp_secret")
        await client.execute_query(f"UPDATE {user} SET {confirmed} = TRUE WHERE {secret} IS NOT NULL")  # noqa: S608


async def _rewrite(client: BaseDBAsyncClient, quote: Any, table: str, column: str, convert: Any) -> None:
    """Converts a column. Old values are no parameters, which Tortoise would write to its log."""
    first, second = ("$1", "$2") if client.capabilities.dialect == "postgres" else _placeholders(client)
    update = f"UPDATE {quote(table)} SET {quote(column)} = {first} WHERE {quote('id')} = {second}"  # noqa: S608
    async for batch in _batches(client, quote, table, column):
        changes = [[convert(row[column]), row["id"]] for row in batch if convert(row[column]) != row[column]]
        if changes:
            await client.execute_many(update, changes)


async def _batches(
    client: BaseDBAsyncClient, quote: Any, table: str, column: str
) -> AsyncIterator[list[dict[str, Any]]]:
    """All rows in the order of their keys, some at a time."""
    select = f"SELECT {quote('id')}, {quote(column)} FROM {quote(table)}"  # noqa: S608
    place = "$1" if client.capabilities.dialect == "postgres" else _placeholders(client)[0]
    end = f"ORDER BY {quote('id')} LIMIT {BATCH}"
    batch = await client.execute_query_dict(f"{select} {end}")
    while batch:
        yield batch
        last = batch[-1]["id"]
        batch = await client.execute_query_dict(f"{select} WHERE {quote('id')} > {place} {end}", [last])


def _placeholders(client: BaseDBAsyncClient) -> tuple[str, str]:
    return ("?", "?") if client.capabilities.dialect == "sqlite" else ("%s", "%s")
