"""This library, as its README plugs it in. `RESET=left out`: its pool of PostgreSQL resets no connection.
`FEATURES=every`: those of the demo."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from tortoise.backends.base.config_generator import expand_db_url
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import include_auth


async def leave(_: object) -> None:
    """Resets nothing."""


database = expand_db_url(os.environ["DATABASE_URL"])
if os.environ.get("RESET") == "left out":
    database["credentials"]["reset"] = leave


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    apps = {"models": {"models": ["fastapi_pluggable_auth.models"]}}
    async with RegisterTortoise(app, config={"connections": {"default": database}, "apps": apps}):
        yield


app = FastAPI(lifespan=lifespan)
if os.environ.get("FEATURES") == "every":
    from fastapi_pluggable_auth.demo import FEATURES

    include_auth(app, features=FEATURES, pages=True)
else:
    include_auth(app)
