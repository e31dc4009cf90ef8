"""The hot paths stay within their number of queries, and each lookup has an index."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable

import httpx
import pyotp
import pytest
from fastapi import Depends, FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import CurrentUser, RecentUser, get_current_user
from fastapi_pluggable_auth.dependencies import CurrentAuthentication
from fastapi_pluggable_auth.models import User

from .conftest import Account, Database

STATEMENT = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE)\b")


# A login has four of its own; counting the attempt before it is made, and forgetting it, takes three more.
@pytest.mark.parametrize(("path", "most"), [("me", 1), ("refresh", 3), ("login", 4 + 3)])
async def test_a_hot_path_stays_within_its_queries(
    path: str, most: int, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    request: Awaitable[httpx.Response] = getattr(account, path)()
    with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
        caplog.clear()
        assert (await request).status_code == 200
    statements = [line for line in caplog.messages if STATEMENT.match(line)]
    assert 0 < len(statements) <= most, statements


async def test_a_rotation_costs_one_update_more_when_its_tokens_are_first_shown(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    account.access_token = (await account.refresh()).json()["access_token"]
    seen = []
    for _ in range(3):
        with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
            caplog.clear()
            assert (await account.me()).status_code == 200
        seen.append([line.split()[0] for line in caplog.messages if STATEMENT.match(line)])
    assert seen == [["SELECT", "UPDATE"], ["SELECT"], ["SELECT"]]


async def test_many_guesses_at_once_take_no_more_queries_than_one_after_the_other(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a burst on one account keeps the database busy for everyone."""
    body = {"email": "nobody@example.com", "password": "not the right one"}
    with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
        caplog.clear()
        answers = await asyncio.gather(*(client.post("/auth/login", json=body) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {401}
    assert len([line for line in caplog.messages if STATEMENT.match(line)]) == 3 * 40


async def test_several_dependencies_of_a_route_ask_once(
    app: FastAPI, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/note", dependencies=[Depends(get_current_user)])
    async def note(user: RecentUser, authentication: CurrentAuthentication) -> bool:
        return user is authentication.user

    with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
        caplog.clear()
        answer = await account.client.get("/note", headers=account.headers)
    assert (answer.status_code, answer.json()) == (200, True)
    assert len([line for line in caplog.messages if STATEMENT.match(line)]) == 1


async def test_the_user_who_asks_is_as_tortoise_reads_it(app: FastAPI, account: Account) -> None:
    users: list[User] = []

    @app.get("/note")
    async def note(user: CurrentUser) -> None:
        users.append(user)

    await User.filter(email=account.email).update(roles={"editor"}, totp_secret=pyotp.random_base32())
    for _ in range(3):
        answer = await account.client.get("/note", headers=account.headers)
        assert answer.status_code == 200
    read = await User.get(email=account.email)
    assert [vars(user) for user in users] == [vars(read)] * 3
    first, second, third = users
    assert first._await_when_save is not second._await_when_save is not third._await_when_save

    third.display_name = "Ada"
    await third.save()
    assert (await User.get(email=account.email)).display_name == "Ada"


LOOKUPS = {
    ("user", "email"),
    ("user", "created_at"),
    ("refreshtoken", "token"),
    ("refreshtoken", "jti"),
    ("refreshtoken", "user_id"),
    ("refreshtoken", "session_id"),
    ("refreshtoken", "expires_at"),
    ("auth_session", "user_id"),
    ("auth_session", "expires_at"),
    ("auth_session", "impersonated_by"),
    ("auth_recovery_code", "user_id"),
    ("auth_personal_token", "user_id"),
    ("auth_personal_token", "digest"),
    ("auth_personal_token", "expires_at"),
    ("auth_recovery_code", "digest"),
    ("auth_session", "begun_in"),
    ("auth_device", "user_id"),
    ("auth_device", "digest"),
    ("auth_device", "session_id"),
    ("auth_device", "expires_at"),
    ("auth_pending", "user_id"),
    ("auth_pending", "expires_at"),
    ("auth_mail", "next_attempt_at"),
    ("auth_mail", "user_id"),
    ("auth_audit_event", "user_id"),
    ("auth_audit_event", "actor_id"),
}
INDEXED_COLUMNS = {
    "sqlite": """
        SELECT m.tbl_name AS t, i.name AS c FROM sqlite_master m, pragma_index_info(m.name) i
        WHERE m.type = 'index' AND i.seqno = 0""",
    "postgres": """
        SELECT c.relname AS t, a.attname AS c FROM pg_index x
        JOIN pg_class c ON c.oid = x.indrelid
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0]""",
    "mysql": """
        SELECT table_name AS t, column_name AS c FROM information_schema.statistics
        WHERE seq_in_index = 1 AND table_schema = database()""",
}


async def test_every_lookup_has_an_index(tortoise: TortoiseContext, database: Database) -> None:
    rows = await tortoise.connections.get(database.dialect).execute_query_dict(
        INDEXED_COLUMNS[database.dialect]
    )
    assert {(row["t"], row["c"]) for row in rows} >= LOOKUPS


async def test_a_device_takes_a_login_two_queries_more(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """To store it and to count those of the account; later to look it up and to extend it."""
    body: dict[str, object] = {"email": account.email, "password": account.password, "device": None}
    for _ in range(2):
        with caplog.at_level(logging.DEBUG, "tortoise.db_client"):
            caplog.clear()
            answer = await account.client.post("/auth/login", json=body)
        statements = [line for line in caplog.messages if STATEMENT.match(line)]
        assert 0 < len(statements) <= 4 + 3 + 2, statements
        body["device"] = answer.json()["device"]
