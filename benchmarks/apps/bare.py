"""FastAPI and Tortoise with one route, and no accounts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from tortoise import Model, fields
from tortoise.contrib.fastapi import RegisterTortoise


class Note(Model):
    """A table, as any app has one."""

    id = fields.IntField(primary_key=True)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(app, db_url=os.environ["DATABASE_URL"], modules={"models": [__name__]}):
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def hello() -> dict[str, str]:
    return {"detail": "Hello."}
