"""Users with columns of the app's own, who log in by address or username."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from models import Note, User
from schemas import Me, NewUser, Profile
from settings import TORTOISE_ORM
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import CurrentUser, include_auth


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(app, config=TORTOISE_ORM):
        yield


app = FastAPI(lifespan=lifespan)
include_auth(app, user_model=User, user_out=Me, user_create=NewUser, profile_update=Profile)


@app.post("/notes", status_code=201)
async def add(text: str, user: CurrentUser[User]) -> dict[str, str]:
    note = await Note.create(owner=user, text=text)
    return {"text": note.text, "by": user.username, "from": user.city}
