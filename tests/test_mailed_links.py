"""A GET of a mailed link is safe: what opens links in mails spends none, and moves nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox
from .form_browser import BROWSER, Page
from .test_password import DEAD_LINK, NEW, forgot, login_status

DIALECTS = ("sqlite",)

NEW_EMAIL = "ada@example.org"
CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

SCANNERS = {
    "Microsoft Defender Safe Links": {"User-Agent": CHROME, "Accept": HTML},
    "Microsoft Defender, of every kind": {"User-Agent": "Mozilla/5.0", "Accept": "*/*"},
    "Outlook": {"User-Agent": "Mozilla/4.0 (compatible; ms-office; MSOffice 16)", "Accept": "*/*"},
    "Proofpoint": {"User-Agent": CHROME, "Accept": "*/*", "Accept-Encoding": "gzip"},
    "Mimecast": {"User-Agent": "Mozilla/5.0 (compatible; MSIE 10.0; Windows NT 6.2)", "Accept": ""},
    "Barracuda": {"User-Agent": "mozilla/5.0 (X11; Linux x86_64)", "Accept": "*/*"},
    "Google's image proxy": {"User-Agent": "Mozilla/5.0 (Windows NT 5.1) GoogleImageProxy"},
    "Slack": {"User-Agent": "Slackbot-LinkExpanding 1.0", "Accept": "text/html, */*"},
    "WhatsApp": {"User-Agent": "WhatsApp/2.23.20.0", "Accept": "text/html"},
    "Facebook": {"User-Agent": "facebookexternalhit/1.1", "Accept": "TEXT/HTML"},
    "Telegram": {"User-Agent": "Mozilla/5.0 (compatible; TelegramBot/1.0)", "Accept": "application/json"},
    "iMessage": {"User-Agent": "Mozilla/5.0 (Macintosh) facebookexternalhit/1.1 Facebot Twitterbot/1.0"},
    "a browser that prefetches": {"Sec-Purpose": "prefetch", "User-Agent": "x", "Accept": "*/*"},
    "Safari's preview": {"Purpose": "preview", "User-Agent": "x", "Accept": "*/*"},
    "an older Safari's preview": {"X-Purpose": "preview", "User-Agent": "x"},
    "a browser that hides itself": {"Sec-Fetch-Mode": "navigate", "User-Agent": "x", "Accept": "*/*"},
    "a script of a page": {"Sec-Fetch-Dest": "empty", "User-Agent": CHROME, "Accept": "*/*"},
}

KINDS = ("verify", "reset-password", "email-change", "stop-email-change")


async def mailed(kind: str, client: httpx.AsyncClient, mailbox: Mailbox, prefix: str = "") -> str:
    """The link of a mail of this kind, to whoever it is for."""
    credentials = {"email": EMAIL, "password": PASSWORD}
    assert (await client.post(f"{prefix}/auth/signup", json=credentials)).status_code == 201
    if kind == "verify":
        return mailbox.link()
    await User.all().update(is_verified=True)
    if kind == "reset-password":
        return await forgot(client, mailbox) if not prefix else await _reset(client, mailbox, prefix)
    token = (await client.post(f"{prefix}/auth/login", json=credentials)).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = await client.patch(f"{prefix}/account", json={"email": NEW_EMAIL}, headers=headers)
    assert answer.status_code == 200, answer.text
    return mailbox.link(NEW_EMAIL if kind == "email-change" else EMAIL)


async def _reset(client: httpx.AsyncClient, mailbox: Mailbox, prefix: str) -> str:
    await client.post(f"{prefix}/auth/forgot-password", json={"email": EMAIL})
    return mailbox.link()


def confirmation(kind: str) -> dict[str, str]:
    return {"new_password": NEW} if kind == "reset-password" else {}


async def confirm(client: httpx.AsyncClient, kind: str, path: str) -> httpx.Response:
    body = confirmation(kind)
    return await client.post(path, json=body) if body else await client.post(path)


async def rows() -> list[dict[str, object]]:
    return await User.all().values()


@pytest.fixture(params=["", "/api"], ids=["root", "prefix"])
async def prefix(
    request: pytest.FixtureRequest, settings: AuthSettings, clock: Clock
) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """A prefix, and a client of an app whose routes have it."""
    settings.route_prefix = request.param
    app = FastAPI()
    auth = include_auth(app, settings=settings, clock=clock)
    transport = httpx.ASGITransport(app, client=("192.0.2.7", 4321))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield request.param, client
    await auth.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scanner", SCANNERS)
async def test_what_looks_into_mails_spends_no_link(
    scanner: str, kind: str, tortoise: object, prefix: tuple[str, httpx.AsyncClient], mailbox: Mailbox
) -> None:
    """A-28: five times GET and HEAD, with the headers that they send; then the person confirms."""
    at, client = prefix
    link = await mailed(kind, client, mailbox, at)
    assert link.startswith(f"{at}/auth/{kind}/")
    before = await rows()
    for _ in range(5):
        answer = await client.get(link, headers=SCANNERS[scanner])
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        head = await client.head(link, headers=SCANNERS[scanner])
        assert (head.status_code, head.content) == (200, b"")
    assert await rows() == before
    assert (await confirm(client, kind, link)).status_code == 200
    assert await rows() != before


@pytest.mark.parametrize("kind", KINDS)
async def test_a_link_is_short_and_of_signs_that_no_mail_program_cuts(
    kind: str, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    path = await mailed(kind, client, mailbox)
    assert len("http://localhost:8000" + path) < 130
    assert re.fullmatch(rf"/auth/{kind}/[A-Za-z0-9_-]{{73}}[AQgw]", path)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_head_says_whether_the_link_works(
    kind: str, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    link = await mailed(kind, client, mailbox)
    assert (await client.head(link)).status_code == 200
    assert (await client.head(link + "x")).status_code == 404
    assert (await client.head(f"/auth/{kind}/x")).status_code == 404
    assert (await confirm(client, kind, link)).status_code == 200
    for headers in ({}, BROWSER):
        head = await client.head(link, headers=headers)
        assert (head.status_code, head.content) == (404, b"")


@pytest.mark.parametrize("kind", ["reset-password", "email-change", "stop-email-change"])
async def test_another_hash_of_the_password_kills_no_link_and_another_password_does(
    kind: str, client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings, auth: Auth
) -> None:
    """However often a sign-in replaces the hash, as after an import; and whatever writes the password."""
    link = await mailed(kind, client, mailbox)
    for cost in (5, 6):
        settings.bcrypt_rounds = cost
        assert await login_status(client, PASSWORD) == 200
        assert (await client.head(link)).status_code == 200
    replaced = (await User.get()).hashed_password
    assert replaced.startswith("$2b$06$")
    await User.all().update(hashed_password=await auth.hasher.hash(PASSWORD))
    assert (await client.head(link)).status_code == 404
    await User.all().update(hashed_password=replaced)
    assert (await confirm(client, kind, link)).status_code == 200
    assert (await client.head(link)).status_code == 404


async def test_a_head_changes_nothing_for_a_program_either(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    """Its GET would verify."""
    link = await mailed("verify", client, mailbox)
    before = await rows()
    assert (await client.head(link)).status_code == 200
    assert await rows() == before
    assert (await client.get(link)).status_code == 200
    assert await rows() != before


@pytest.mark.parametrize("kind", KINDS[1:])
async def test_no_get_of_a_program_but_that_to_verify_changes_anything(
    kind: str, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    link = await mailed(kind, client, mailbox)
    before = await rows()
    answer = await client.get(link)
    assert (answer.status_code, set(answer.json())) == (200, {"detail"})
    assert await rows() == before
    assert (await client.get(f"/auth/{kind}/x")).content == DEAD_LINK


async def test_a_setting_turns_verifying_by_get_off(
    client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    settings.verify_by_get = False
    link = await mailed("verify", client, mailbox)
    before = await rows()
    answer = await client.get(link)
    assert answer.status_code == 200
    assert answer.json() == {"detail": "The link is valid. Send a POST request to use it."}
    assert await rows() == before
    assert (await client.post(link)).status_code == 200
    assert (await client.get(link)).content == DEAD_LINK


async def test_a_header_that_is_sent_twice_counts_as_a_whole(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    link = await mailed("verify", client, mailbox)
    before = await rows()
    for name, value in (("Accept", "text/html"), ("User-Agent", CHROME)):
        assert (await client.get(link, headers=[(name, "x"), (name, value)])).status_code == 200
    assert await rows() == before


@pytest.mark.parametrize(
    ("headers", "page"),
    [
        (BROWSER, True),
        ({"User-Agent": CHROME, "Accept": HTML}, True),
        ({"User-Agent": CHROME, "Accept": "*/*"}, True),
        ({"User-Agent": CHROME, "Accept": "*/*", "Sec-Fetch-Dest": "empty"}, False),
        ({"User-Agent": CHROME, "Accept": "application/json"}, False),
    ],
)
async def test_a_person_gets_the_page_and_a_script_gets_json(
    headers: dict[str, str], page: bool, client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    link = await mailed("verify", client, mailbox)
    for path, status in ((link, 200), ("/auth/verify/x", 400)):
        answer = await client.get(path, headers=headers)
        kind = "text/html; charset=utf-8" if page else "application/json"
        assert (answer.status_code, answer.headers["content-type"]) == (status, kind)


async def test_a_link_to_a_front_end_is_confirmed_by_its_post(
    client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    """`VERIFY_URL`: the GETs of its page, and of scanners with the token of the mail, change nothing."""
    settings.verify_url = "https://front.example.com/verify?token={token}"
    browser = {"Origin": "https://front.example.com", "Sec-Fetch-Site": "same-site", "User-Agent": CHROME}
    credentials = {"email": EMAIL, "password": PASSWORD}
    assert (await client.post("/auth/signup", json=credentials, headers=browser)).status_code == 201
    path = f"/auth/verify/{mailbox.link().rpartition('token=')[2]}"
    before = await rows()
    for _ in range(5):
        for scanner in SCANNERS.values():
            assert (await client.get(path, headers=scanner)).status_code == 200
            assert (await client.head(path, headers=scanner)).status_code == 200
    assert await rows() == before
    assert (await client.post(path, headers=browser)).status_code == 200
    assert await rows() != before


async def test_the_page_of_a_new_address_changes_nothing_until_its_button(
    account: Account, mailbox: Mailbox, auth: Auth
) -> None:
    await account.client.patch("/account", json={"email": NEW_EMAIL}, headers=account.headers)
    link = mailbox.link(NEW_EMAIL)
    for scanner in SCANNERS.values():
        await account.client.get(link, headers=scanner)
    assert (await User.get()).email == EMAIL
    page = Page(await account.client.get(link, headers=BROWSER))
    assert (await account.client.post(page.forms[0].action, headers=BROWSER)).status_code == 200
    assert (await User.get()).email == NEW_EMAIL
