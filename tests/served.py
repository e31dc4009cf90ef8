"""The app that the tests of several workers serve; its settings come from the environment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from tortoise import Tortoise

from fastapi_pluggable_auth import include_auth

from . import databases


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Opens Tortoise by hand; the tables are there already."""
    await Tortoise.init(databases.config(os.environ["TEST_DATABASE_URL"], os.environ["TEST_DIALECT"]))
    yield
    await Tortoise.close_connections()


app = FastAPI(lifespan=lifespan)
include_auth(app)


@app.get("/worker")
async def worker() -> int:
    """Which process answers."""
    return os.getpid()
