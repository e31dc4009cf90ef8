"""The smallest app with accounts: a SQLite file, and one route for signed-in users."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import CurrentUser, include_auth


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(
        app,
        db_url="sqlite://app.sqlite3",
        modules={"models": ["fastapi_pluggable_auth.models"]},
        generate_schemas=True,
    ):
        yield


app = FastAPI(lifespan=lifespan)
include_auth(app)


@app.get("/hello")
async def hello(user: CurrentUser) -> dict[str, str]:
    return {"message": f"Hello {user.display_name or user.email}!"}
