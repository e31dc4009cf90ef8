"""The API of a single-page app: accounts, notes, and the front end itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from models import Note
from pydantic import BaseModel, Field
from starlette.responses import Response
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import CurrentUser, include_auth
from fastapi_pluggable_auth.config import settings
from fastapi_pluggable_auth.schemas import Text

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # the QR code
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)


class FrontEnd(StaticFiles):
    """Files that browsers ask for again each time, under a strict policy."""

    def file_response(self, full_path: str | PathLike[str], *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(full_path, *args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


class NewNote(BaseModel):
    text: Annotated[Text, Field(min_length=1, max_length=200)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(
        app,
        db_url="sqlite://app.sqlite3",
        modules={"models": ["fastapi_pluggable_auth.models", "models"]},
        generate_schemas=True,
    ):
        yield


app = FastAPI(lifespan=lifespan)
include_auth(app)
if settings.trusted_origins:  # a front end that is served from elsewhere
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.trusted_origins,
        allow_credentials=True,
        allow_methods=["GET", "POST", "PATCH", "DELETE"],
        allow_headers=["Content-Type"],
        expose_headers=["Retry-After"],
    )


@app.get("/api/notes")
async def notes(user: CurrentUser) -> list[str]:
    return [note.text for note in await Note.filter(owner=user).order_by("id")]


@app.post("/api/notes", status_code=201)
async def add(note: NewNote, user: CurrentUser) -> str:
    return (await Note.create(owner=user, text=note.text)).text


app.mount("/", FrontEnd(directory=Path(__file__).parent / "static", html=True))
