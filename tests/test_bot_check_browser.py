"""The bot check in a real browser: script and frame of the widget come from the server of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from fastapi_pluggable_auth.features import BotCheck, Passkeys

from . import browsers
from .conftest import PASSWORD
from .siteverify import Service
from .test_browser import DESK, Person, Site, served

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing())),
]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service().serving() as service:
        yield service


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, service: Service) -> Iterator[Site]:
    features = [Passkeys(), BotCheck(service.turnstile())]
    with served(tmp_path_factory.mktemp("bots"), features, host="localhost") as site:
        yield site


class Visitor(Person):
    """Somebody whose browser may load the widget."""

    service: Service

    def _check_request(self, url: str) -> None:
        if not url.startswith(self.service.origin):
            super()._check_request(url)


@pytest_asyncio.fixture(loop_scope="module", params=[True, False], ids=["javascript", "plain"])
async def person(request: pytest.FixtureRequest, site: Site, service: Service) -> AsyncIterator[Visitor]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright)
        context = await browser.new_context(java_script_enabled=request.param, viewport=DESK)
        context.set_default_timeout(10_000)
        visitor = Visitor(site, await context.new_page(), request.param)
        visitor.service = service
        yield visitor
        await browser.close()


async def test_somebody_signs_up_who_has_solved_the_widget(person: Visitor, service: Service) -> None:
    """Without a script the page says that it needs one, and keeps what was typed."""
    email = person.address("ada")
    await person.open("/account/sign-up")
    if person.javascript:
        await person.page.wait_for_selector("body[data-solved]")
    await person.look("sign-up-bot-check")
    await person.send("Create account", email=email, new_password=PASSWORD)
    if person.javascript:
        await person.sees("Check your mail", email)
        assert service.asked[-1]["response"].startswith("token.")
    else:
        await person.sees("Create an account", "turn on JavaScript, and load the page again")
        assert await person.page.input_value("#email") == email


async def test_somebody_signs_in_after_wrong_guesses(person: Visitor) -> None:
    email = person.address("nobody")
    await person.open("/account/sign-in")
    for _ in range(3):
        await person.send("Sign in", email=email, password="wrong password")
        await person.page.wait_for_selector("#problem")
    said: Any = await person.page.inner_text("body")
    assert "wrong" in said
    if person.javascript:
        await person.page.wait_for_selector("body[data-solved]")
    await person.send("Sign in", email=email, password="wrong password")
    await person.page.wait_for_selector("#problem")
    said = await person.page.inner_text("#problem")
    assert ("is wrong" in said) == person.javascript
    assert person.problems == []
