"""The accounts: signs access tokens with a private key that no other service has, and gives OAuth clients
tokens for billing."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI
from tortoise.contrib.fastapi import RegisterTortoise

from fastapi_pluggable_auth import include_auth
from fastapi_pluggable_auth.config import settings
from fastapi_pluggable_auth.features import OAuthServer

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite://accounts.sqlite3")
SIGNING_KEY = Path("signing-key.pem")


def make_signing_key() -> None:
    """At the first start; only its owner may read it."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with NamedTemporaryFile(dir=SIGNING_KEY.parent) as unfinished:
        unfinished.write(pem)
        unfinished.flush()
        with suppress(FileExistsError):  # another worker was first
            os.link(unfinished.name, SIGNING_KEY)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with RegisterTortoise(
        app,
        db_url=DATABASE_URL,
        modules={"models": ["fastapi_pluggable_auth.models"]},
        generate_schemas=True,
    ):
        yield


if not SIGNING_KEY.exists():
    make_signing_key()
settings.jwt_algorithm, settings.jwt_private_key = "ES256", str(SIGNING_KEY)

app = FastAPI(title="Accounts", lifespan=lifespan)
oauth = OAuthServer(
    resources=[os.environ.get("BILLING_URL", "http://localhost:8003")],
    scopes={"bills:read": "Read your bills"},
)
include_auth(app, pages=True, features=[oauth])
