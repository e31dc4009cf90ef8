"""What the tests run on: pip install pytest pytest-asyncio, then pytest, where PostgreSQL answers."""

import pytest
from app import app
from fastapi import FastAPI
from settings import DATABASE_URL

pytest_plugins = ["fastapi_pluggable_auth.testing"]


@pytest.fixture
def auth_app() -> FastAPI:
    return app


@pytest.fixture
def auth_models() -> dict[str, list[str]]:
    return {"app": ["models"]}


@pytest.fixture
def auth_database_url() -> str:
    return DATABASE_URL + "_test_{}"
