"""What opens every link of every mail, in a real browser, spends nothing."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from fastapi_pluggable_auth.features import EmailSignIn

from . import browsers
from .conftest import EMAIL, PASSWORD
from .test_browser import Site, served

pytestmark = pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing()))

KIM = "kim@example.com"
LEE = "lee@example.com"
NEW = "ada.new@example.com"

SENT = {
    EMAIL: ["reset", "stop-email-change", "email-sign-in"],
    NEW: ["email-change"],
    KIM: ["verify"],
    LEE: ["email-sign-in"],
}
"""The links that are looked at, by address, with the path of each."""


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("scanned")
    with served(folder, [EmailSignIn(signup=True)], host="localhost") as site:
        yield site


def links_of(site: Site, to: str) -> dict[str, str]:
    """The links in the mails to an address, by what they are for."""
    mails = [mail for mail in site.mails.mails if mail.to == to]
    found = {link for mail in mails for link in re.findall(r"http://[^\s<>\"]+", f"{mail.body} {mail.html}")}
    return {re.sub(r".*/auth/([\w-]+)/.*", r"\1", link): link for link in found if "/auth/" in link}


def code_for(site: Site, to: str) -> str:
    body = [mail for mail in site.mails.mails if mail.to == to][-1].body
    found = re.search(r"(?m)^(\d{6})$", body)
    assert found
    return found[1]


def rows(site: Site) -> dict[str, list[Any]]:
    """Everything that is stored."""
    with closing(sqlite3.connect(site.database)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(database.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}


async def mailed(site: Site, number: int) -> None:
    for _ in range(600):
        if len(site.mails.mails) >= number:
            return
        await asyncio.sleep(0.05)
    raise AssertionError([mail.subject for mail in site.mails.mails])


@pytest.mark.parametrize(
    "javascript",
    [pytest.param(True, id="javascript"), pytest.param(False, id="plain", marks=pytest.mark.full)],
)
async def test_a_scanner_that_opens_every_link_of_every_mail_spends_none(
    javascript: bool, site: Site
) -> None:
    from playwright.async_api import async_playwright

    async with httpx.AsyncClient(base_url=site.base, timeout=60) as http:
        for number, email in enumerate((EMAIL, KIM), 1):
            body = {"email": email, "password": PASSWORD}
            assert (await http.post("/auth/signup", json=body)).status_code == 201
            await mailed(site, number)
        assert (await http.get(links_of(site, EMAIL)["verify"])).status_code == 200
        tokens = (await http.post("/auth/login", json={"email": EMAIL, "password": PASSWORD})).json()
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        changed = await http.patch("/account", json={"email": NEW}, headers=bearer)
        assert changed.status_code == 200, changed.text
        await http.post("/auth/forgot-password", json={"email": EMAIL})
        challenges = {}
        for email in (EMAIL, LEE):
            asked = await http.post("/auth/email-sign-in", json={"email": email})
            challenges[email] = asked.json()["challenge"]
        await mailed(site, 2 + 2 + 1 + 2)
        await asyncio.sleep(0.5)  # the dispatcher notes that the last one has gone
        links = {(to, kind): link for to in SENT for kind, link in links_of(site, to).items()}
        links.pop((EMAIL, "verify"))
        assert set(links) == {
            (to, re.sub("^reset$", "reset-password", kind)) for to in SENT for kind in SENT[to]
        }

        before = rows(site)
        async with async_playwright() as playwright:
            browser = await browsers.launch(playwright)
            context = await browser.new_context(java_script_enabled=javascript)
            context.set_default_timeout(60_000)
            page = await context.new_page()
            for link in links.values():
                for _ in range(2):
                    answer = await page.goto(link, wait_until="networkidle")
                    assert answer.status == 200, link
            assert await context.cookies() == [] or all(
                "access" not in cookie["name"] for cookie in await context.cookies()
            )
            await browser.close()
        assert rows(site) == before

        for email, challenge in challenges.items():
            body = {"challenge": challenge, "code": code_for(site, email)}
            assert (await http.post("/auth/email-sign-in/code", json=body)).status_code == 200
        for to, kind in ((NEW, "email-change"), (KIM, "verify")):
            assert (await http.post(links[to, kind])).status_code == 200, kind
