"""A process of an app that uses its database as fast as it can: `python -m tests.pooled URL NAME ROUNDS`.

It prints what it saw. It does not look for a pooler, and refuses none.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter

import httpx
from fastapi import FastAPI
from tortoise import Tortoise
from tortoise.connection import get_connections

from fastapi_pluggable_auth import AuthSettings, include_auth

from . import databases
from .conftest import PASSWORD, SECRET

AT_ONCE = 8


class Visits:
    """What visitors of this process did, and what was answered to them."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self._client = client
        self._name = name
        self.statuses: Counter[str] = Counter()
        self.foreign: list[str] = []
        self.mixed_up = 0

    async def visit(self, number: int) -> None:
        """Signs up, in, looks, changes, refreshes and looks again."""
        email, signed = f"{self._name}-{number}@example.com", {"email": "", "password": PASSWORD}
        signed["email"] = email
        await self._mix(number)
        await self._send("post", "/auth/signup", email, json=signed)
        login = await self._send("post", "/auth/login", email, json=signed)
        if login.status_code != 200:
            return
        tokens = login.json()
        for _ in range(2):
            headers = {"Authorization": f"Bearer {tokens['access_token']}"}
            for _ in range(2):
                await self._send("get", "/auth/me", email, headers=headers)
                await self._mix(number)
            await self._send("patch", "/account", email, headers=headers, json={"display_name": email})
            await self._send("get", "/account/sessions", email, headers=headers)
            fresh = await self._send("post", "/auth/refresh", email, json={"token": tokens["refresh_token"]})
            if fresh.status_code != 200:
                return
            tokens = fresh.json()

    async def _send(self, verb: str, path: str, email: str, **options: object) -> httpx.Response:
        answer = await self._client.request(verb, path, **options)  # type: ignore[arg-type]
        self.statuses[f"{path} {answer.status_code}"] += 1
        told = answer.json() if answer.status_code < 500 else {}
        if isinstance(told, dict) and told.get("email", email) != email:
            self.foreign.append(f"{path}: {told['email']} instead of {email}")
        return answer

    async def _mix(self, number: int) -> None:
        """A query of the host's: whether rows of other processes come back at all, to which ours listen."""
        for each in range(number % 3 + (self._name == "b")):
            text = f"{self._name} {number} {each}"
            try:
                rows = await get_connections().get("postgres").execute_query_dict(f"SELECT '{text}' AS text")
                self.mixed_up += rows != [{"text": text}]
            except Exception:
                self.statuses["host 500"] += 1


async def main(url: str, name: str, rounds: int) -> None:
    logged: Counter[str] = Counter()

    class Count(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            cause = record.exc_info[1] if record.exc_info else None
            advised = "statement_cache_size=0" in f"{record.getMessage()} {cause}"
            logged["advice" if advised else "other"] += 1

    logging.getLogger("fastapi_pluggable_auth").addHandler(Count())
    logging.getLogger("fastapi_pluggable_auth").propagate = False
    settings = AuthSettings(
        _env_file=None,
        jwt_secret=SECRET,
        bcrypt_rounds=4,
        email_provider="memory",
        require_verified_email=False,
        deliver_mail=False,
        throttle_free_attempts=1000,
        mail_limit=100_000,
        database_timeout=60,
        hashing_queue_size=1000,
    )
    app = FastAPI()
    auth = include_auth(app, settings=settings)
    auth.pooler.settled = True
    await Tortoise.init(databases.config(url, "postgres"))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        visits = Visits(client, name)
        places = asyncio.Semaphore(AT_ONCE)

        async def visit(number: int) -> None:
            async with places:
                await visits.visit(number)

        await asyncio.gather(*map(visit, range(rounds)))
    await auth.close()
    await Tortoise.close_connections()
    saw = {"statuses": visits.statuses, "foreign": visits.foreign, "mixed_up": visits.mixed_up}
    sys.stdout.write(json.dumps(saw | {"logged": logged}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
