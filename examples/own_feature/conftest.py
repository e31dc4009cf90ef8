"""What the tests run on: pip install pytest pytest-asyncio, then pytest."""

import pytest
from app import app
from fastapi import FastAPI

pytest_plugins = ["fastapi_pluggable_auth.testing"]


@pytest.fixture
def auth_app() -> FastAPI:
    return app


@pytest.fixture
def auth_models() -> dict[str, list[str]]:
    return {"models": ["fastapi_pluggable_auth.models"], "invitations": ["invitations.tables"]}
