"""Where the database is: for Tortoise, for SQLAlchemy, and for the migrations of both."""

import os

from sqlalchemy import make_url

DATABASE_URL = os.environ.get("DATABASE_URL", "postgres://postgres@localhost:5432/shop")

TORTOISE_ORM = {
    "connections": {"default": DATABASE_URL},
    "apps": {
        "auth": {
            "models": ["fastapi_pluggable_auth.models"],
            "migrations": "fastapi_pluggable_auth.migrations",
        },
    },
}
# Parameters such as `?maxsize=20` are for Tortoise's pool.
SQLALCHEMY_URL = make_url(DATABASE_URL).set(drivername="postgresql+asyncpg", query={})
