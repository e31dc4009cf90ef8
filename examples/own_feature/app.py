"""An app in which an account needs an invitation."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from invitations.feature import invitations
from schemas import NewUser
from settings import TORTOISE_ORM
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import include_auth


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(app, config=TORTOISE_ORM):
        yield


app = FastAPI(lifespan=lifespan)
include_auth(app, user_create=NewUser, pages=True, features=[invitations()])
