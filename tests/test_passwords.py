"""Which passwords are refused: words about the account, and what was published in breaches."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from fastapi_pluggable_auth import AuthSettings

from .conftest import EMAIL, PASSWORD, Account, Mailbox
from .test_password import NEW, forgot

# What is tested here is the same on every database.
DIALECTS = ("sqlite",)

PERSONAL = [
    EMAIL,
    "ADA@EXAMPLE.COM",
    "ada.example.com",
    "adaadaada",
    "adaadaad",
    "ada12345",
    "12345ada",
    "example1",
    "example.com",
    "myapp1234",
    "MyApp!!!",
    "my-app-my-app",
    "contoso99",
]


@pytest.mark.parametrize("password", PERSONAL)
async def test_words_about_the_account_are_no_password(
    password: str, client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    """A-07."""
    settings.password_context_words = ["Contoso", "---"]
    answer = await client.post("/auth/signup", json={"email": EMAIL, "password": password})
    assert (answer.status_code, answer.json()["code"]) == (422, "password_too_personal")
    assert password not in answer.text


@pytest.mark.parametrize(
    "password",
    ["ada likes tea", "my example of 1", "adabcdefgh", "1029384756ada!x", "----------", "🐘🐘🐘🐘🐘🐘🐘🐘"],
)
async def test_such_a_word_among_others_is_fine(password: str, client: httpx.AsyncClient) -> None:
    """A-07: only the whole password counts."""
    answer = await client.post("/auth/signup", json={"email": EMAIL, "password": password})
    assert answer.status_code == 201


async def test_the_display_name_is_no_password_either(account: Account, mailbox: Mailbox) -> None:
    """A-07, on a change and on a reset; the link is not spent."""
    name = {"display_name": "Grace Hopper"}
    await account.client.patch("/account", json=name, headers=account.headers)
    body = {"old_password": PASSWORD, "new_password": "gracehopper1"}
    refused = await account.client.post("/account/change-password", json=body, headers=account.headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "password_too_personal")
    link = await forgot(account.client, mailbox)
    page = await account.client.post(f"{link}/form", data={"new_password": "Grace-Hopper"})
    assert (page.status_code, "little more" in page.text) == (422, True)
    assert (await account.client.post(link, json={"new_password": NEW})).status_code == 200


class RangeService:
    """A stub of the range API, over real HTTP."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.behaviour = "answer"
        self.breached = "a password of the breach"

    @property
    def url(self) -> str:
        port: int = self.server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/range/"

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        digest = hashlib.sha1(self.breached.encode(), usedforsecurity=False).hexdigest()
        padding = hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).hexdigest()
        body = f"{'0' * 35}:7\r\n{digest[5:].upper()}:42\r\n{padding[5:].upper()}:0\r\n".encode()
        status = b"200 OK"
        if self.behaviour == "hang":
            await reader.read()
        elif self.behaviour == "error":
            status = b"500 Oops"
        elif self.behaviour == "endless":
            body *= 20_000
        elif self.behaviour == "nonsense":
            body = "é:1".encode()
        length = str(len(body)).encode()
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: " + length + b"\r\n\r\n" + body)
        writer.close()


@pytest.fixture
async def service(settings: AuthSettings) -> AsyncIterator[RangeService]:
    service = RangeService()
    await service.start()
    settings.check_breaches, settings.breach_url = True, service.url
    yield service
    service.server.close()


async def signup(client: httpx.AsyncClient, password: str) -> httpx.Response:
    return await client.post("/auth/signup", json={"email": EMAIL, "password": password})


async def test_a_breached_password_is_refused_and_does_not_leave_the_app(
    client: httpx.AsyncClient, service: RangeService
) -> None:
    """A-06: five hex digits at most, and padding is no hit."""
    refused = await signup(client, service.breached)
    assert (refused.status_code, refused.json()["code"]) == (422, "password_breached")
    assert (await signup(client, PASSWORD)).status_code == 201
    digests = [
        hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
        for password in (service.breached, PASSWORD)
    ]
    lines = [request.splitlines()[0] for request in service.requests]
    assert lines == [f"GET /range/{digest[:5]} HTTP/1.1" for digest in digests]
    assert all("add-padding: true" in request.lower() for request in service.requests)
    assert not any(digest[5:12] in "".join(service.requests).upper() for digest in digests)


async def test_breaches_are_looked_up_on_a_change_and_a_reset_too(
    account: Account, service: RangeService, mailbox: Mailbox
) -> None:
    body = {"old_password": PASSWORD, "new_password": service.breached}
    refused = await account.client.post("/account/change-password", json=body, headers=account.headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "password_breached")
    link = await forgot(account.client, mailbox)
    refused = await account.client.post(link, json={"new_password": service.breached})
    assert (refused.status_code, refused.json()["code"]) == (422, "password_breached")
    assert (await account.client.post(link, json={"new_password": NEW})).status_code == 200


@pytest.mark.parametrize("behaviour", ["hang", "error", "endless", "nonsense"])
async def test_a_breach_service_that_fails_stops_nobody(
    behaviour: str, client: httpx.AsyncClient, service: RangeService, caplog: pytest.LogCaptureFixture
) -> None:
    """A-06: an answer in under 3 s, and a line in the log."""
    service.behaviour = behaviour
    started = time.monotonic()
    assert (await signup(client, service.breached)).status_code == 201
    assert time.monotonic() - started < 3
    assert "breach service did not answer" in caplog.text


async def test_a_breach_service_that_is_not_there_stops_nobody(
    client: httpx.AsyncClient, settings: AuthSettings
) -> None:
    settings.check_breaches, settings.breach_url = True, "http://127.0.0.1:1/range"
    assert (await signup(client, PASSWORD)).status_code == 201


async def test_nobody_is_asked_unless_the_app_says_so(
    client: httpx.AsyncClient, service: RangeService, settings: AuthSettings
) -> None:
    settings.check_breaches = False
    assert (await signup(client, service.breached)).status_code == 201
    assert service.requests == []
