"""A page that its reader leaves, under a real server."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from fastapi_pluggable_auth import AuthSettings, CurrentUser, SecurityEvent, include_auth

from .conftest import EMAIL, PASSWORD, Clock, Mailbox
from .live import serving
from .test_cookies import OWN_PAGE
from .test_plugin import app_with_plain_init_in_lifespan


def test_a_reader_who_leaves_a_slow_page_is_not_signed_out(
    settings: AuthSettings, clock: Clock, mailbox: Mailbox, tmp_path: Path
) -> None:
    """R-05: its tokens were renewed, and the new ones never came."""
    app = app_with_plain_init_in_lifespan(f"sqlite://{tmp_path / 'slow.sqlite3'}")
    settings.cookies = True
    auth = include_auth(app, settings=settings, clock=clock)
    heard: list[str] = []
    auth.on(SecurityEvent)(lambda event: heard.append(event.kind))

    @app.get("/slow")
    async def slow(user: CurrentUser) -> str:
        await asyncio.sleep(2)
        return user.email

    with serving(app) as base, httpx.Client(base_url=base, timeout=30, headers=OWN_PAGE) as browser:
        account = {"email": EMAIL, "password": PASSWORD}
        browser.post("/auth/signup", json=account)
        mailbox.server.wait_for(1)
        with httpx.Client(base_url=base, timeout=30) as program:
            assert program.get(mailbox.link()).status_code == 200
        assert browser.post("/auth/login", json=account).status_code == 200
        clock.advance(minutes=16)
        with pytest.raises(httpx.ReadTimeout):
            browser.get("/slow", timeout=1)
        clock.advance(seconds=13)
        assert browser.get("/auth/me").json()["email"] == EMAIL
        time.sleep(2)  # the slow page is done as well
        assert browser.get("/auth/me").status_code == 200
        assert browser.post("/auth/refresh").status_code == 200
    assert heard.count("refresh_lost") == 1
    assert "refresh_reuse" not in heard
    assert len(mailbox.messages) == 1
