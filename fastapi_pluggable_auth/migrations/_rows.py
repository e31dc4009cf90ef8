"""Steps that change rows of 0.1. Each can be broken off and begun again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, Final

from tortoise import BaseDBAsyncClient
from tortoise.migrations.schema_editor.base import BaseSchemaEditor
from tortoise.migrations.schema_generator.state import State

from ..models import token_digest
from ._steps import DataStep

BATCH: Final = 500
"""Rows that are read, and written in one transaction."""
SHOWN: Final = 20
"""Conflicts that a refusal names."""


class AddressConflictError(Exception):
    """Accounts of 0.1 have the same address, apart from upper and lower case."""


class LowerCaseAddresses(DataStep):
    """Addresses are looked up in lower case."""

    purpose = "Lower-case the addresses of accounts"
    reason = "which addresses had capitals is not kept"

    async def take(self, editor: BaseSchemaEditor, state: State, app_label: str) -> None:
        """Raises `AddressConflictError`, before anything is changed, where two accounts would be one."""
        client, quote = editor.client, editor.quote
        changed: defaultdict[str, list[str]] = defaultdict(list)
        async for batch in batches(client, quote, "user", "email"):
            for row in batch:
                if row["email"] != row["email"].lower():
                    changed[row["email"].lower()].append(str(row["id"]))
        lower = f"SELECT {quote('id')}, {quote('email')} FROM {quote('user')} WHERE {quote('email')} = "  # noqa: S608
        for address, ids in changed.items():
            same = await client.execute_query_dict(lower + placeholders(client)[0], [address])
            ids += [str(row["id"]) for row in same if row["email"] == address]
        conflicts = [ids for ids in changed.values() if len(ids) > 1]
        if conflicts:
            shown = "\n".join("  " + ", ".join(ids) for ids in conflicts[:SHOWN])
            raise AddressConflictError(
                f"{len(conflicts)} addresses belong to several accounts that differ in the case of letters "
                f"only. Change or delete all but one of each, then migrate again; nothing was changed. The "
                f"ids of the accounts, one address a line:\n{shown}"
            )
        await _rewrite(client, quote, "user", "email", str.lower)


class DigestRefreshTokens(DataStep):
    """Refresh tokens are kept as digests; what is one already stays."""

    purpose = "Replace refresh tokens by their digests"
    reason = "the tokens themselves are gone; to go back, restore a backup"

    async def take(self, editor: BaseSchemaEditor, state: State, app_label: str) -> None:
        """In place: a token that a client holds finds its row."""
        await _rewrite(editor.client, editor.quote, "refreshtoken", "token", token_digest)


class ConfirmTwoFactor(DataStep):
    """In 0.1 a stored secret was asked for at every login: so it stays."""

    purpose = "Keep two-factor active where it was"
    reason = "0.1 cannot read what was stored since; to go back, restore a backup"

    async def take(self, editor: BaseSchemaEditor, state: State, app_label: str) -> None:
        """Confirms each secret there is."""
        user, confirmed, secret = map(editor.quote, ("user", "totp_confirmed", "totp_secret"))
        await editor.client.execute_query(
            f"UPDATE {user} SET {confirmed} = TRUE WHERE {secret} IS NOT NULL"  # noqa: S608
        )


async def _rewrite(client: BaseDBAsyncClient, quote: Any, table: str, column: str, convert: Any) -> None:
    """Converts a column. Old values are not passed as parameters, which Tortoise would write to its log."""
    first, second, _ = placeholders(client)
    update = f"UPDATE {quote(table)} SET {quote(column)} = {first} WHERE {quote('id')} = {second}"  # noqa: S608
    async for batch in batches(client, quote, table, column):
        changes = [[convert(row[column]), row["id"]] for row in batch if convert(row[column]) != row[column]]
        if changes:
            await client.execute_many(update, changes)


async def batches(
    client: BaseDBAsyncClient, quote: Any, table: str, column: str, *, key: str = "id", only: str = "1 = 1"
) -> AsyncIterator[list[dict[str, Any]]]:
    """The rows for which `only` is true, in the order of their keys, some at a time."""
    select = f"SELECT {quote(key)}, {quote(column)} FROM {quote(table)} WHERE {only}"  # noqa: S608
    place, _, _ = placeholders(client)
    end = f"ORDER BY {quote(key)} LIMIT {BATCH}"
    batch = await client.execute_query_dict(f"{select} {end}")
    while batch:
        yield batch
        last = batch[-1][key]
        batch = await client.execute_query_dict(f"{select} AND {quote(key)} > {place} {end}", [last])


def placeholders(client: BaseDBAsyncClient) -> tuple[str, str, str]:
    """Those of the first three parameters, as the driver has them."""
    parameter: Any = client.executor_class.parameter  # which asks nothing of an executor
    first, second, third = (
        parameter(None, place).get_sql(client.query_class.SQL_CONTEXT) for place in range(3)
    )
    return first, second, third
