"""Several workers on PostgreSQL, that count requests in Redis; all settings come from the environment."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from settings import TORTOISE_ORM
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import CurrentUser, include_auth
from fastapi_pluggable_auth.models import User


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(app, config=TORTOISE_ORM):
        yield


app = FastAPI(lifespan=lifespan)
include_auth(app)


@app.get("/hello")
async def hello(user: CurrentUser) -> dict[str, str]:
    return {"message": f"Hello {user.display_name or user.email}!"}


@app.get("/health", include_in_schema=False)
async def health() -> dict[str, str]:
    """For the load balancer: this worker reaches the database, and the tables are there."""
    await User.first()
    return {"status": "ok"}
