"""One app for all examples of a state machine, on one database and one loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import Feature
from fastapi_pluggable_auth.security.hashing import hash_password
from fastapi_pluggable_auth.testing import FakeClock

from . import databases
from .conftest import PASSWORD, SECRET

T = TypeVar("T")


class World:
    """The app, with settings of its own beside these, its clock, and a client at `base`."""

    def __init__(
        self, base: str = "http://localhost:8000", *, features: Iterable[Feature] = (), **settings: Any
    ) -> None:
        self.base = base
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.settings = AuthSettings(
            _env_file=None,
            jwt_secret=SECRET,
            bcrypt_rounds=4,
            email_provider="memory",
            throttle_free_attempts=10**6,
            mail_limit=10**6,
            database_timeout=60,
            notify_new_device=False,
            **settings,
        )
        self.app = FastAPI()
        self.auth = include_auth(self.app, settings=self.settings, clock=self.clock, features=features)
        self.hashed = hash_password(PASSWORD, self.settings)
        self.users = 0
        self.run(self._open)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Begins work on the loop, where the database is known, and waits for it."""

        async def begin() -> T:
            return await work()

        return self.runner.run(begin())

    async def _open(self) -> None:
        self.tortoise = await TortoiseContext().__aenter__()
        await self.tortoise.init(databases.config("sqlite://:memory:", "sqlite"))
        await self.tortoise.generate_schemas()
        transport = httpx.ASGITransport(self.app, client=("192.0.2.7", 4321))
        self.client = httpx.AsyncClient(transport=transport, base_url=self.base)

    async def _close(self) -> None:
        await self.client.aclose()
        await self.auth.close()
        await self.tortoise.__aexit__(None, None, None)

    def close(self) -> None:
        self.run(self._close)
        self.runner.close()
