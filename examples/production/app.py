"""Several workers on PostgreSQL, that count requests in Redis; all settings come from the environment."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from settings import TORTOISE_ORM
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import CurrentUser, include_auth


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(app, config=TORTOISE_ORM):
        gc.freeze()  # what is there now stays: the collector need not look at it again
        yield


app = FastAPI(lifespan=lifespan)
auth = include_auth(app)


@app.get("/hello")
async def hello(user: CurrentUser) -> dict[str, str]:
    return {"message": f"Hello {user.display_name or user.email}!"}


@app.get("/health", include_in_schema=False)
async def health() -> JSONResponse:
    """For the load balancer: whether this worker can serve users, and why not."""
    ready = await auth.ready()
    return JSONResponse({"status": ready.reason or "ok"}, ready.status)
