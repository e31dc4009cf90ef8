"""An app whose accounts sign users in to other apps, as tests serve it by uvicorn."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import include_auth
from fastapi_pluggable_auth.authorization import require
from fastapi_pluggable_auth.features import OAuthServer
from fastapi_pluggable_auth.models import User


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    modules = {"models": ["fastapi_pluggable_auth.models"]}
    async with RegisterTortoise(
        app, db_url=os.environ["DATABASE_URL"], modules=modules, generate_schemas=True
    ):
        yield


app = FastAPI(lifespan=lifespan)
server = OAuthServer(resources=["/api", "https://billing.example"], scopes={"notes": "Read your notes"})
include_auth(app, pages=True, features=[server])


@app.get("/api/notes")
async def notes(user: Annotated[User, Depends(require(scope="notes"))]) -> dict[str, str]:
    return {"of": user.email}
