"""The app that the tests of several workers serve; its settings come from the environment."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tortoise import Tortoise

from fastapi_pluggable_auth import include_auth
from fastapi_pluggable_auth.config import settings
from fastapi_pluggable_auth.features import AuditLog, EmailSignIn, Feature, OAuthServer, Oidc, SocialLogin
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET

from . import databases
from .oauth_program import RESOURCES, SCOPES, add_notes


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Opens Tortoise by hand; the tables are there already."""
    url = os.environ["TEST_DATABASE_URL"]  # or how it is connected to, in JSON
    connection = json.loads(url) if url.startswith("{") else url
    await Tortoise.init(databases.config(connection, os.environ["TEST_DIALECT"]))
    yield
    await Tortoise.close_connections()


class Patience:
    """Cancels a request after as many seconds as its header `x-patience` says, like a timeout of a host."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        patience = dict(scope.get("headers", ())).get(b"x-patience")
        if patience is None:
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        with anyio.move_on_after(float(patience)):
            await self._app(scope, receive, watched)
        if not started:
            await send({"type": "http.response.start", "status": 504, "headers": []})
            await send({"type": "http.response.body", "body": b""})


app = FastAPI(lifespan=lifespan)
features: list[Feature] = [AuditLog()] if "TEST_AUDIT_LOG" in os.environ else []
if "TEST_EMAIL_SIGN_IN" in os.environ:
    features.append(EmailSignIn())
if issuer := os.environ.get("TEST_ISSUER"):
    features.append(
        SocialLogin(Oidc("acme", issuer=issuer, client_id=CLIENT_ID, client_secret=CLIENT_SECRET))
    )
if with_oauth := "TEST_OAUTH" in os.environ:
    features.append(OAuthServer(resources=RESOURCES, scopes=SCOPES))
include_auth(app, features=features, pages=with_oauth)
if with_oauth:
    add_notes(app)
app.add_middleware(Patience)


@app.get("/worker")
async def worker() -> int:
    """Which process answers."""
    return os.getpid()


@app.get("/busy")
async def busy() -> tuple[int, int]:
    """Which process answers, and how many connections its pool has lent."""
    return os.getpid(), databases.lent(os.environ["TEST_DIALECT"])


@app.put("/database-timeout/{seconds}")
async def set_database_timeout(seconds: float) -> int:
    """Changes the setting of the process that answers."""
    settings.database_timeout = timedelta(seconds=seconds)
    return os.getpid()
