"""An MCP server for the users of the app, who let their agents read and write their notes."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from models import Note
from pydantic import AnyHttpUrl
from starlette.routing import Route
from tortoise.contrib.fastapi import RegisterTortoise
from verifier import Verifier

from fastapi_pluggable_auth import include_auth
from fastapi_pluggable_auth.features import OAuthServer


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with (
        RegisterTortoise(
            app,
            db_url=os.environ.get("DATABASE_URL", "sqlite://app.sqlite3"),
            modules={"models": ["fastapi_pluggable_auth.models", "models"]},
            generate_schemas=True,
        ),
        mcp.session_manager.run(),
    ):
        yield


app = FastAPI(lifespan=lifespan)
server = OAuthServer(resources=["/mcp"], scopes={"notes": "Read and write your notes"})
auth = include_auth(app, pages=True, features=[server])

url = auth.settings.public_base_url
protected = AuthSettings(
    issuer_url=AnyHttpUrl(url),
    resource_server_url=AnyHttpUrl(f"{url}/mcp"),
    required_scopes=["notes"],
    validate_token_resource=True,
)
mcp = MCPServer("Notes", token_verifier=Verifier(auth, "/mcp"), auth=protected)


def owner() -> str | None:
    """The id of the user who has let the agent in."""
    token = get_access_token()
    return token.subject if token else None


@mcp.tool()
async def notes() -> list[str]:
    """The notes of the user, the oldest first."""
    return [note.text for note in await Note.filter(owner_id=owner()).order_by("id")]


@mcp.tool()
async def add_note(text: str) -> str:
    """Keeps a note for the user."""
    return (await Note.create(owner_id=owner(), text=text)).text


# Unless these are named, the SDK answers at localhost only.
here = TransportSecuritySettings(allowed_hosts=[urlsplit(url).netloc], allowed_origins=[url])
app.routes.append(Route("/mcp", mcp.streamable_http_app(transport_security=here)))
