"""What administrators look for among many accounts, and operators among many mails, goes by an index."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.features import Administration
from fastapi_pluggable_auth.features.administration.users import Cursor, list_users
from fastapi_pluggable_auth.flows.purge import purge
from fastapi_pluggable_auth.models import User

from .conftest import SECRET
from .spare_database import SpareDatabase

on_postgres = pytest.mark.parametrize("spare", ["postgres"], indirect=True)

USERS = 20_000
FILLED = f"""
    INSERT INTO "user" (id, email, hashed_password, is_active, is_verified, is_superuser, roles, permissions,
        totp_confirmed, second_factors, access_epoch, password_reset_required, created_at)
    SELECT gen_random_uuid(), md5(n::text) || '.' || n || '@example.com', 'x', n % 1000 <> 0, true, false,
        CASE WHEN n % 5000 = 0 THEN ' editor ' ELSE ' ' END, ' ', false, ' ', 0, false,
        now() - n * interval '1 second'
    FROM generate_series(1, {USERS}) n
"""
MAILS = f"""
    INSERT INTO auth_mail (id, kind, recipient, context, state, attempts, give_up_at, last_error, created_at)
    SELECT gen_random_uuid(), 'verify', n || '@example.com', '{{}}', CASE WHEN n % 4000 = 0 THEN 'dead'
        ELSE 'sent' END, 1, now(), '', now() - n * interval '1 second'
    FROM generate_series(1, {USERS}) n
"""
ASKED: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("idx_user_parts", {"search": ".12345@"}, 1),
    ("idx_user_parts", {"search": ".12345@example.com"}, 1),
    ("idx_user_beginnings", {"search": "ex"}, 0),  # which is a part of all
    ("idx_user_is_acti", {"active": False}, 20),
    ("idx_user_created", {"after": True}, 50),
)
"""By index, what is asked and how many are found."""


@on_postgres
async def test_a_list_goes_by_an_index_however_often_it_is_asked_for(spare: SpareDatabase) -> None:
    """PostgreSQL plans a statement once for all that came five times, and would look at all accounts."""
    await spare.create()
    await spare.migrate()
    await spare.query(FILLED)
    await spare.query('VACUUM ANALYZE "user"')  # what was added waits beside an index of parts
    auth = Auth(AuthSettings(_env_file=None, jwt_secret=SECRET), features=[Administration()])
    for index, asked, found in ASKED:
        scans = (
            "SELECT sum(idx_scan)::int AS count, sum(idx_tup_read)::int AS read FROM pg_stat_user_indexes"
            f" WHERE indexrelname LIKE '{index}%'"
        )
        (before,) = await spare.query(scans)
        async with spare.opened():
            if "after" in asked:
                middle = await User.all().order_by("created_at").offset(USERS // 2).first()
                assert middle is not None
                asked = {"after": Cursor(middle.created_at, middle.id)}
                before["read"] += USERS
            for _ in range(10):
                assert len((await list_users(auth, **asked)).users) == found
        (after,) = await spare.query(scans)
        assert after["count"] - before["count"] >= 10, asked
        assert after["read"] - before["read"] < 10 * 500, asked
    await auth.close()


@on_postgres
async def test_dead_mails_are_counted_and_old_ones_found_among_many_that_went(spare: SpareDatabase) -> None:
    await spare.create()
    await spare.migrate()
    await spare.query(MAILS)
    await spare.query("VACUUM ANALYZE auth_mail")
    scans = (
        "SELECT sum(seq_tup_read)::int AS read, (SELECT sum(idx_scan)::int FROM pg_stat_user_indexes"
        " WHERE indexrelname LIKE 'idx_auth_mail_state%') AS count"
        " FROM pg_stat_user_tables WHERE relname = 'auth_mail'"
    )
    (before,) = await spare.query(scans)
    async with spare.opened():
        auth = Auth(AuthSettings(_env_file=None, jwt_secret=SECRET))
        for _ in range(10):
            assert (await auth.outbox.figures()).dead == 5
        await purge(auth)
        await auth.close()
    (after,) = await spare.query(scans)
    assert after["count"] - before["count"] >= 11
    assert after["read"] == before["read"]


@on_postgres
async def test_where_the_extension_may_not_be_had_a_warning_says_so_and_all_else_is_migrated(
    spare: SpareDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """As a role that owns its schema and no more."""
    await spare.create()
    role = f"poor_{uuid4().hex}"
    await spare.query(f"CREATE ROLE {role} LOGIN")
    await spare.query(f"GRANT USAGE, CREATE ON SCHEMA public TO {role}")
    try:
        address = urlsplit(spare.url)
        poor = address._replace(netloc=f"{role}@{address.hostname}:{address.port}").geturl()
        with caplog.at_level(logging.WARNING, "fastapi_pluggable_auth"):
            await SpareDatabase(spare.dialect, poor).migrate()
        assert "CREATE EXTENSION IF NOT EXISTS pg_trgm" in caplog.text
        assert "CREATE INDEX CONCURRENTLY" in caplog.text
        names = "SELECT indexname AS name FROM pg_indexes WHERE tablename = 'user'"
        indexes = {row["name"] for row in await spare.query(names)}
        assert "idx_user_parts" not in indexes
        assert "idx_user_beginnings" in indexes
        assert sum("is_active" in name or "is_acti" in name for name in indexes) == 1
        await spare.migrate()  # nothing is left to do
    finally:
        await spare.query(f"DROP OWNED BY {role}")
        await spare.query(f"DROP ROLE {role}")
