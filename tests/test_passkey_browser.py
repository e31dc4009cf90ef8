"""Passkeys on the pages, in a real browser with an authenticator of its own (WebAuthn Level 3 section 11)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from fastapi_pluggable_auth.features import Passkeys

from . import browsers
from .test_browser import DESK, Person, Site, registered, served

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing())),
]

SIGN_IN = "Sign in with a passkey"
ADD = "Add a passkey"
FAILED = "Nothing was done"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("passkeys"), [Passkeys()], host="localhost") as site:
        yield site


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright)
        yield browser
        await browser.close()


@dataclass
class Authenticator:
    """That of one page, which Chromium has in software."""

    session: Any
    id: str

    async def send(self, command: str, **values: Any) -> dict[str, Any]:
        sent = {"authenticatorId": self.id, **values}
        return dict(await self.session.send(f"WebAuthn.{command}", sent))

    async def credentials(self) -> list[dict[str, Any]]:
        return list((await self.send("getCredentials"))["credentials"])

    async def answers(self, yes: bool) -> None:
        """Whether somebody touches it."""
        await self.send("setAutomaticPresenceSimulation", enabled=yes)

    async def put(self, credential: dict[str, Any], **changed: Any) -> None:
        """Takes a passkey of another authenticator."""
        await self.send("addCredential", credential={**credential, **changed})


async def authenticator(page: Any, **options: Any) -> Authenticator:
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable", {"enableUI": False})
    chosen = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
        "defaultBackupEligibility": True,
        "defaultBackupState": True,
        **options,
    }
    made = await session.send("WebAuthn.addVirtualAuthenticator", {"options": chosen})
    return Authenticator(session, made["authenticatorId"])


@pytest_asyncio.fixture(loop_scope="module")
async def person(site: Site, browser: Any) -> AsyncIterator[Person]:
    context = await browser.new_context(viewport=DESK)
    context.set_default_timeout(10_000)
    yield Person(site, await context.new_page(), True)
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def phone(person: Person) -> Authenticator:
    return await authenticator(person.page)


async def with_passkey(person: Person, name: str) -> str:
    """Somebody who has a password and a passkey, on the security page."""
    email = await registered(person, person.address(name))
    await person.open("/account/security")
    await person.send(ADD)
    await person.sees("Security", "The passkey is added.")
    return email


async def test_a_passkey_is_registered_and_signs_in(person: Person, phone: Authenticator) -> None:
    email = await registered(person, person.address("ada"))
    await person.open("/account/security")
    await person.look("passkeys-none")
    await person.send(ADD)
    await person.sees("Security", "The passkey is added.")
    await person.look("passkeys")
    (made,) = await phone.credentials()
    assert made["isResidentCredential"]
    await phone.answers(False)
    await person.send("Sign out")
    await person.sees("Sign in", SIGN_IN)
    await person.look("sign-in-passkeys")
    await phone.answers(True)
    await person.send(SIGN_IN)
    await person.sees("Your account", email)
