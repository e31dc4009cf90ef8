"""The demo: the whole product on a SQLite file, with a mailbox to read in the browser."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from tortoise.contrib.fastapi import RegisterTortoise

from .config import AuthSettings, is_local
from .dependencies import CurrentUser
from .plugin import include_auth


def demo_app(database: Path, base_url: str) -> FastAPI:
    """The app that `fastapi-pluggable-auth demo` serves. Its secret, and so each session, lasts one start.

    Where others reach it, mails are printed to the terminal instead of being shown in a mailbox.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with RegisterTortoise(
            app,
            db_url=f"sqlite://{database}",
            modules={"models": ["fastapi_pluggable_auth.models"]},
            generate_schemas=True,
        ):
            yield

    local = is_local(base_url)
    app = FastAPI(title="fastapi-pluggable-auth demo", lifespan=lifespan)
    include_auth(
        app,
        settings=AuthSettings(
            jwt_secret=secrets.token_urlsafe(48),
            public_base_url=base_url,
            allow_http=True,
            route_prefix="",
            email_provider="memory" if local else "console",
            dev_mailbox=local,
            app_name="Demo",
        ),
        pages=True,
    )

    @app.get("/", include_in_schema=False)
    async def index() -> RedirectResponse:
        return RedirectResponse("/account/profile")

    @app.get("/hello", tags=["example"])
    async def hello(user: CurrentUser) -> dict[str, str]:
        """A route of the host app that only signed-in users reach."""
        return {"message": f"Hello {user.display_name or user.email}!"}

    return app
