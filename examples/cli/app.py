"""An app with accounts, and with notes that programs may read for its users."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import include_auth, require
from fastapi_pluggable_auth.features import OAuthServer
from fastapi_pluggable_auth.models import User


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(
        app,
        db_url=os.environ.get("DATABASE_URL", "sqlite://app.sqlite3"),
        modules={"models": ["fastapi_pluggable_auth.models"]},
        generate_schemas=True,
    ):
        yield


app = FastAPI(lifespan=lifespan)
server = OAuthServer(resources=["/api"], scopes={"notes:read": "Read your notes"})
include_auth(app, pages=True, features=[server])

Reader = Annotated[User, Depends(require(scope="notes:read"))]


@app.get("/api/notes")
async def notes(user: Reader) -> list[str]:
    return [f"A note of {user.email}"]
