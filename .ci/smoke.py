"""Migrates, signs up, verifies and logs in with the installed package, templates included."""

import asyncio
import io
import re
import secrets
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from fastapi import FastAPI
from tortoise.context import TortoiseContext, tortoise_test_context
from tortoise.migrations.api import migrate

import fastapi_pluggable_auth
from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.email.provider import ConsoleProvider
from fastapi_pluggable_auth.models import User


async def migrations(folder: str) -> None:
    auth = {"models": ["fastapi_pluggable_auth.models"], "migrations": "fastapi_pluggable_auth.migrations"}
    config = {"connections": {"default": f"sqlite://{folder}/smoke.sqlite3"}, "apps": {"models": auth}}
    async with TortoiseContext():
        await migrate(config=config)
    async with TortoiseContext() as context:
        await context.init(config)
        assert await User.all().count() == 0


async def main() -> None:
    printed, app = io.StringIO(), FastAPI()
    include_auth(
        app,
        settings=AuthSettings(jwt_secret=secrets.token_urlsafe(48)),
        email_provider=ConsoleProvider(printed),
    )
    account = {"email": "ada@example.com", "password": "correct horse battery"}
    async with (
        tortoise_test_context(["fastapi_pluggable_auth.models"]),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        await client.post("/auth/signup", json=account)
        (link,) = re.findall(r"http://localhost:8000(/auth/verify/\S+)", printed.getvalue())
        page = await client.get(link, headers={"Accept": "text/html"})
        assert "<button" in page.text
        assert (await client.get(link)).status_code == 200
        assert (await client.post("/auth/login", json=account)).status_code == 200
    print(f"The wheel works on Python {sys.version.split()[0]}")


package = Path(fastapi_pluggable_auth.__path__[0])
assert package.parent.name == "site-packages", package
assert (package / "py.typed").exists()
with TemporaryDirectory() as folder:
    asyncio.run(migrations(folder))
asyncio.run(main())
