"""The development mailbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, InsecureSettingsError, include_auth
from fastapi_pluggable_auth.email.local import MAILS_KEPT
from fastapi_pluggable_auth.email.provider import MemoryProvider

from .conftest import EMAIL, PASSWORD
from .form_browser import BROWSER, Page

DIALECTS = ("sqlite",)
MAILBOX = "/dev/mailbox"


@pytest.fixture
def provider() -> MemoryProvider:
    return MemoryProvider()


@pytest.fixture
async def browser(
    settings: AuthSettings, provider: MemoryProvider, tortoise: TortoiseContext
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app with a mailbox."""
    app = FastAPI()
    settings.dev_mailbox = True
    auth = include_auth(app, settings=settings, email_provider=provider)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost:8000", headers=BROWSER
    ) as client:
        yield client
    await auth.close()


async def test_mails_are_read_and_their_links_clicked(browser: httpx.AsyncClient) -> None:
    assert "No mail yet" in (await browser.get(MAILBOX)).text
    for email in (EMAIL, "bob@example.com"):
        await browser.post("/auth/signup", json={"email": email, "password": PASSWORD})
    listed = Page(await browser.get(MAILBOX))
    assert [link for link in listed.links if link.startswith(f"{MAILBOX}/")] == [
        f"{MAILBOX}/2",
        f"{MAILBOX}/1",
    ]
    mail = Page(await browser.get(f"{MAILBOX}/1"))
    assert EMAIL in mail.answer.text
    assert mail.one("iframe")["src"] == f"{MAILBOX}/1/html"
    (link,) = [link for link in mail.links if "/auth/verify/" in link]
    assert "Verify your e-mail address" in (await browser.get(link)).text
    html = Page(await browser.get(f"{MAILBOX}/1/html"))
    assert html.one("base")["target"] == "_top"
    assert html.text.startswith("<!doctype html>")
    assert link in html.links


async def test_a_mail_is_text_and_its_html_is_caged(
    browser: httpx.AsyncClient, provider: MemoryProvider
) -> None:
    """A-79, A-80."""
    hostile = "<script>alert(1)</script>"
    await provider.send(EMAIL, hostile, hostile, hostile)
    for path in (MAILBOX, f"{MAILBOX}/1"):
        page = await browser.get(path)
        assert "<script>alert" not in page.text
        assert "&lt;script&gt;alert" in page.text
    html = await browser.get(f"{MAILBOX}/1/html")
    policy = html.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox allow-top-navigation-by-user-activation" in policy
    assert "script" not in policy
    assert html.headers["cache-control"] == "no-store"


async def test_there_is_no_other_mail(browser: httpx.AsyncClient) -> None:
    for path, status in ((f"{MAILBOX}/1", 404), (f"{MAILBOX}/1/html", 404), (f"{MAILBOX}/x", 422)):
        assert (await browser.get(path)).status_code == status


async def test_the_mailbox_answers_to_local_names_only(browser: httpx.AsyncClient) -> None:
    for host, status in (
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("localhost", 200),
        ("evil.example.com", 404),
        ("localhost.evil.example.com", 404),
        ("", 404),
        ("[", 404),
    ):
        assert (await browser.get(MAILBOX, headers={"Host": host})).status_code == status, host


async def test_the_mailbox_answers_to_this_machine_only(browser: httpx.AsyncClient) -> None:
    """The name that a request calls us by is the client's word."""
    app = browser._transport.app  # type: ignore[attr-defined]
    for peer, header, status in (
        ("127.0.0.1", "", 200),
        ("127.8.0.1", "", 200),
        ("::1", "", 200),
        ("::ffff:127.0.0.1", "", 200),
        ("192.0.2.7", "", 404),
        ("10.0.0.1", "", 404),
        ("::ffff:192.0.2.7", "", 404),
        ("2001:db8::1", "", 404),
        ("", "", 404),
        ("127.0.0.1", "X-Forwarded-For", 404),
        ("127.0.0.1", "Forwarded", 404),
        ("127.0.0.1", "X-Forwarded-Host", 404),
        ("127.0.0.1", "Via", 404),
        ("127.0.0.1", "X-Real-IP", 404),
    ):
        transport = httpx.ASGITransport(app, client=(peer, 4321))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            answer = await client.get(MAILBOX, headers={header: "127.0.0.1"} if header else {})
            assert answer.status_code == status, (peer, header)


async def test_no_page_of_another_site_reads_the_mails_whatever_the_cors_of_the_host_lets_it(
    browser: httpx.AsyncClient, provider: MemoryProvider
) -> None:
    """A script sends its origin along; a link from elsewhere, and a page of the app, send none."""
    app: FastAPI = browser._transport.app  # type: ignore[attr-defined]
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.middleware_stack = None
    for origin in ("https://evil.example", "null", "http://localhost:3000"):
        assert (await browser.get(MAILBOX, headers={"Origin": origin})).status_code == 404
    assert (await browser.get(MAILBOX, headers={"Sec-Fetch-Site": "cross-site"})).status_code == 200


async def test_old_mails_are_forgotten(browser: httpx.AsyncClient, provider: MemoryProvider) -> None:
    for _ in range(MAILS_KEPT + 1):
        await provider.send(EMAIL, "Hi", "text")
    assert (await browser.get(f"{MAILBOX}/1")).status_code == 404
    assert (await browser.get(f"{MAILBOX}/{MAILS_KEPT + 1}")).status_code == 200


def test_the_mailbox_is_refused_where_others_could_read_it(settings: AuthSettings) -> None:
    settings.dev_mailbox, settings.public_base_url = True, "https://app.example.com"
    with pytest.raises(InsecureSettingsError, match="DEV_MAILBOX"):
        include_auth(FastAPI(), settings=settings, email_provider=MemoryProvider())


def test_a_mailbox_without_mails_in_memory_is_refused(settings: AuthSettings) -> None:
    settings.dev_mailbox = True
    with pytest.raises(ValueError, match="EMAIL_PROVIDER=memory"):
        include_auth(FastAPI(), settings=settings)


async def test_no_mailbox_without_the_setting(client: httpx.AsyncClient) -> None:
    answer = await client.get(MAILBOX, headers=BROWSER | {"Host": "localhost"})
    assert answer.status_code == 404
