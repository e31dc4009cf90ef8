"""`python -m benchmarks.administration`: how long the lists of accounts take that administrators see, among a
million users. `--users`, `--dialect sqlite` or `mysql` (MariaDB, at `BENCHMARK_MYSQL_URL`), and `--explain`
for how the database goes about each."""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import asyncpg
from tortoise import Tortoise
from tortoise.context import TortoiseContext
from tortoise.migrations.api import migrate

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.features import Administration
from fastapi_pluggable_auth.features.administration.users import Cursor, list_users, wanted_users

from .databases import DIALECTS, SECRET, create, on_mysql

ROUNDS: Final = 12
"""More than after which PostgreSQL plans a statement once for all."""

COLUMNS: Final = (
    "id, email, hashed_password, is_active, is_verified, is_superuser, roles, permissions, totp_confirmed, "
    "second_factors, access_epoch, password_reset_required, created_at"
)
ROWS: Final = {
    "postgres": """
        INSERT INTO "user" ({columns})
        SELECT gen_random_uuid(), substr(md5(n::text), 1, 10) || '.' || n || '@example.'
                 || (ARRAY['com', 'org', 'net'])[1 + n % 3], '$2b$12$' || repeat('x', 53), n % 1000 <> 0,
               n % 500 <> 0, false, CASE WHEN n % 10000 = 0 THEN ' editor ' ELSE ' ' END, ' ', false, ' ', 0,
               false, now() - n * interval '1 second'
        FROM generate_series(1, {users}) n
    """,
    "sqlite": """
        INSERT INTO "user" ({columns})
        WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {users})
        SELECT lower(hex(randomblob(16))), lower(hex(randomblob(5))) || '.' || n || '@example.'
                 || CASE n % 3 WHEN 0 THEN 'com' WHEN 1 THEN 'org' ELSE 'net' END,
               '$2b$12$' || hex(zeroblob(26)), n % 1000 <> 0, n % 500 <> 0, 0,
               CASE WHEN n % 10000 = 0 THEN ' editor ' ELSE ' ' END, ' ', 0,
               ' ', 0, 0, strftime('%Y-%m-%d %H:%M:%S', 'now', -n || ' seconds') || '.000000+00:00'
        FROM numbers
    """,
    "mysql": """
        INSERT INTO `user` ({columns})
        SELECT uuid(),
               concat(substr(md5(seq), 1, 10), '.', seq, '@example.', elt(1 + seq % 3, 'com', 'org', 'net')),
               concat('$2b$12$', repeat('x', 53)), seq % 1000 <> 0, seq % 500 <> 0, false,
               if(seq % 10000 = 0, ' editor ', ' '), ' ', false, ' ', 0, false, now(6) - interval seq second
        FROM seq_1_to_{users}
    """,
}
CASES: Final[dict[str, dict[str, Any]]] = {
    "all": {},
    "all, from the middle": {"after": True},
    "inactive": {"active": False},
    "inactive, from the middle": {"active": False, "after": True},
    "active": {"active": True},
    "not verified": {"verified": False},
    "active, not verified": {"active": True, "verified": False},
    "inactive, verified (none)": {"active": False, "verified": True},
    "search: one user": {"search": ".500000@"},
    "search: an address": {"search": ".500000@example.net"},
    "search: a part of many addresses": {"search": "000@example.com"},
    "search: nobody": {"search": "qqqzzz"},
    "search: a third": {"search": "@example.com"},
    "search: a third, inactive": {"search": "@example.com", "active": False},
    "search: two letters": {"search": "ab"},
    "search: two letters, nobody": {"search": "qz"},
    "search: two letters that all have elsewhere": {"search": "ex"},
    "role: one in 10,000": {"role": "editor"},
    "role: nobody": {"role": "auditor"},
    "role, inactive": {"role": "editor", "active": False},
}


async def measure(dialect: str, users: int, folder: Path, explain: bool) -> None:
    """Fills a database and prints a table."""
    url = await create(dialect, "administration", folder)
    models = "fastapi_pluggable_auth.models"
    app = {"models": [models], "migrations": "fastapi_pluggable_auth.migrations"}
    config = {"connections": {"default": url}, "apps": {"models": app}}
    async with TortoiseContext():
        await migrate(config=config)
    await _fill(dialect, url, ROWS[dialect].format(columns=COLUMNS, users=users))
    settings = AuthSettings(_env_file=None, jwt_secret=SECRET)
    auth = Auth(settings, features=[Administration()])
    async with TortoiseContext():
        await Tortoise.init(config=config)
        middle = await auth.tables.user.all().order_by("created_at").offset(users // 2).first()
        assert middle is not None
        print(
            f"| {dialect}, {users:,} users | found | ms, median | ms, slowest |",
            "|---|---|---|---|",
            sep="\n",
        )
        for name, case in CASES.items():
            asked = {**case, "after": Cursor(middle.created_at, middle.id)} if "after" in case else case
            found, times = 0, []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                found = len((await list_users(auth, **asked)).users)
                times.append(1000 * (time.perf_counter() - began))
            print(f"| {name} | {found} | {statistics.median(times):.1f} | {max(times):.1f} |")
            if explain:
                print(await wanted_users(auth, **asked).limit(51).explain())
        await auth.close()


async def _fill(dialect: str, url: str, rows: str) -> None:
    if dialect == "sqlite":
        database = sqlite3.connect(url.removeprefix("sqlite://"))
        database.execute(rows)
        database.commit()
        database.execute("ANALYZE")
        database.close()
        return
    if dialect == "mysql":
        await on_mysql(url, rows, "ANALYZE TABLE `user`")
        return
    connection = await asyncpg.connect(url, command_timeout=3600)
    await connection.execute(rows)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.administration", description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--dialect", choices=[*ROWS], action="append")
    parser.add_argument("--explain", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("AUTH_JWT_SECRET", SECRET)
    with TemporaryDirectory() as folder:
        for dialect in options.dialect or DIALECTS:
            asyncio.run(measure(dialect, options.users, Path(folder), options.explain))


if __name__ == "__main__":
    main()
