"""better-auth on Node's own HTTP server, with sessions in PostgreSQL. Left out where there is no Node."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from ..databases import ACTIVE, SECRET, Accounts, Table, fill

NAME = "better_auth"
FOLDER = Path(__file__).parent
COMMAND = ["node", str(FOLDER / "server.mjs")]


def missing() -> str | None:
    """What there is to install first."""
    return next((name for name in ("node", "npm") if shutil.which(name) is None), None)


async def with_sessions(url: str, users: int) -> Accounts:
    """Makes the tables, and fills them with users that have a session each."""
    if not (FOLDER / "node_modules").exists():
        subprocess.run(
            ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=FOLDER, check=True
        )
    subprocess.run(COMMAND, check=True, env=os.environ | {"DATABASE_URL": url, "JWT_SECRET": SECRET})
    now = datetime.now(UTC)
    accounts = Accounts([], [], [])
    tables = (
        Table("user", "id name email emailVerified createdAt updatedAt".split(), []),
        Table("session", "id token userId expiresAt createdAt updatedAt".split(), []),
    )
    for number in range(users):
        email, token = f"user{number}@example.com", secrets.token_urlsafe(24)
        if number < ACTIVE:
            accounts.emails.append(email)
            accounts.access_tokens.append(_signed(token))
        tables[0].rows.append((f"u{number}", "", email, True, now, now))
        tables[1].rows.append((f"s{number}", token, f"u{number}", now + timedelta(days=7), now, now))
    await fill(url, tables)
    return accounts


def _signed(token: str) -> str:
    """The value of the cookie."""
    signature = hmac.new(SECRET.encode(), token.encode(), hashlib.sha256).digest()
    return quote(f"{token}.{base64.b64encode(signature).decode()}", safe="")
