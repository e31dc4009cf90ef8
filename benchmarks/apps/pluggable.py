"""This library, as its README plugs it in."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import include_auth


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    models = {"models": ["fastapi_pluggable_auth.models"]}
    async with RegisterTortoise(app, db_url=os.environ["DATABASE_URL"], modules=models):
        yield


app = FastAPI(lifespan=lifespan)
include_auth(app)
