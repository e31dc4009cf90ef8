"""Consent in a real browser, with and without JavaScript, up to a program that listens on the user's machine
(RFC 8252 section 7.3)."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
import pytest_asyncio

from fastapi_pluggable_auth.features import OAuthServer
from fastapi_pluggable_auth.features.oauth_server.models import DOCUMENT, OPERATOR, digest_of

from . import browsers
from .conftest import PASSWORD
from .test_browser import BEYOND_THE_CARD, DESK, SMALL_PHONE, Person, Site, registered, served

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(browsers.missing() is not None, reason=str(browsers.missing())),
]

SCOPES = {
    "notes:read": "Read your notes",
    "notes:write": "Write new notes, and change and delete those there are",
}
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
DOCUMENT_ID = "https://desk.example.com/client.json"
CONSENT = "Connect an app"


class Program:
    """A client on the user's machine, which waits for the browser at a port."""

    def __init__(self) -> None:
        self.answers: list[dict[str, str]] = []
        heard = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(dict(parse_qsl(urlsplit(self.path).query)))
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b'<link rel="icon" href="data:,"><h1>Close this window</h1>')

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/callback"

    @contextmanager
    def listening(self) -> Iterator[Program]:
        thread = Thread(target=self.server.serve_forever, daemon=True)
        thread.start()
        yield self
        self.server.shutdown()
        self.server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with served(tmp_path_factory.mktemp("oauth"), [OAuthServer(resources=["/api"], scopes=SCOPES)]) as site:
        yield site


@pytest.fixture
def program() -> Iterator[Program]:
    with Program().listening() as program:
        yield program


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await browsers.launch(playwright)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module", params=[True, False], ids=["javascript", "plain"])
async def person(request: pytest.FixtureRequest, site: Site, browser: Any) -> AsyncIterator[Person]:
    context = await browser.new_context(java_script_enabled=request.param, viewport=DESK)
    context.set_default_timeout(10_000)
    yield Person(site, await context.new_page(), request.param)
    await context.close()


def known(site: Site, client_id: str, name: str, *redirects: str, origin: str = OPERATOR) -> str:
    """A client, whose document was read just now where it has one; returns its id."""
    moment = f"{site.clock():%Y-%m-%d %H:%M:%S.%f}+00:00"
    later = moment.replace(moment[:4], "2999")
    columns = {
        "id": str(uuid.uuid4()),
        "client_id": client_id,
        "digest": digest_of(client_id),
        "name": name,
        "redirect_uris": " ".join(redirects),
        "origin": origin,
        "fetched_at": moment if origin == DOCUMENT else None,
        "fresh_until": later if origin == DOCUMENT else None,
        "created_at": moment,
    }
    statement = "INSERT OR REPLACE INTO auth_oauth_client ({}) VALUES ({})".format(
        ", ".join(columns), ", ".join("?" * len(columns))
    )
    with closing(sqlite3.connect(site.database, timeout=30)) as connection, connection:
        connection.execute(statement, [*columns.values()])
    return client_id


def asks(client_id: str, redirect_uri: str, **more: str) -> str:
    """The address to which a client sends the browser."""
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": "s&1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **more,
    }
    return f"/oauth/authorize?{urlencode(query)}"


async def answered(person: Person, program: Program) -> dict[str, str]:
    """What the program gets, while the browser goes nowhere else that is not the app's."""
    await person.page.wait_for_url(f"{program.address}**")
    for _ in range(100):
        if program.answers:
            break
        await asyncio.sleep(0.05)
    (answer,) = program.answers
    program.answers.clear()
    beyond = [each for each in person.problems if program.address not in each]
    assert beyond == []
    person.problems.clear()
    return answer


async def test_a_program_on_the_users_machine_is_let_in_by_the_keyboard_alone_and_sent_away_again(
    site: Site, person: Person, program: Program
) -> None:
    """After the sign-in page; with the warning that any program may take a port."""
    name = "Desk" if person.javascript else "Desk without script"
    client = known(site, f"{DOCUMENT_ID}?{name[-6:].strip()}", name, program.address, origin=DOCUMENT)
    email = await registered(person, person.address("ada"))
    await person.send("Sign out")
    await person.sees("Sign in")
    await person.open(asks(client, program.address))
    await person.sees("Sign in")
    await person.send("Sign in", email=email, password=PASSWORD)
    await person.sees(CONSENT, f"“{name}” wants to use Lumen in your name.")
    for text in ("An app of desk.example.com", "127.0.0.1", email, *SCOPES.values(), "only if you have just"):
        assert text in await person.page.inner_text("main"), text
    await person.look("oauth-consent")
    await person.press(name="Allow")
    answer = await answered(person, program)
    assert {*answer} == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == ("s&1", site.base)
    async with httpx.AsyncClient(base_url=site.base) as machine:
        form = {"grant_type": "authorization_code", "client_id": client, "redirect_uri": program.address}
        tokens = await machine.post(
            "/oauth/token", data={**form, "code": answer["code"], "code_verifier": VERIFIER}
        )
    assert tokens.status_code == 200, tokens.text

    await person.open(asks(client, program.address))  # which is not remembered, at any port
    await person.press(name="Do not allow")
    assert (await answered(person, program))["error"] == "access_denied"

    await person.open("/account/profile")
    await person.press(name="Apps")
    await person.sees("Connected apps", "Read your notes")
    await person.look("applications")
    await person.press(name=f"Remove: {name}")
    await person.sees("Connected apps", "The app is removed")
    await person.look("no-applications")


async def test_somebody_else_signs_in_on_the_page_and_is_asked_instead(
    site: Site, person: Person, program: Program
) -> None:
    client = known(site, "c_notes", "Notes", program.address)
    first = await registered(person, person.address("bea"))
    await person.send("Sign out")
    await person.sees("Sign in")
    second = await registered(person, person.address("cem"))
    await person.open(asks(client, program.address, scope="notes:read"))
    await person.sees(CONSENT, second)
    assert "Known to the people who run Lumen" in await person.page.inner_text("main")
    await person.send("Use another account")
    await person.sees("Sign in")
    await person.send("Sign in", email=first, password=PASSWORD)
    await person.sees(CONSENT, first)
    assert second not in await person.page.inner_text("body")
    await person.send("Allow")
    assert "code" in await answered(person, program)


async def test_a_request_that_is_not_valid_stays_here(site: Site, person: Person, program: Program) -> None:
    """RFC 6749 section 4.1.2.1: nobody is led to an address that the client has not registered."""
    client = known(site, "c_other", "Other", program.address)
    await registered(person, person.address("dov"))
    await person.open(asks(client, f"{program.address}/elsewhere"))
    await person.sees("The app cannot be connected", "redirect_uri")
    await person.look("oauth-refused")
    assert program.answers == []


async def test_nothing_is_cut_however_long_the_names_in_any_direction(site: Site, browser: Any) -> None:
    for locale in ("en", "ar"):
        context = await browser.new_context(locale=locale, viewport=DESK)
        person = Person(site, await context.new_page(), True)
        host = f"{'w' * 60}.example.com"
        redirect = f"https://{'v' * 60}.example.com/callback"
        client = known(site, f"https://{host}/{locale}.json", "w" * 64, redirect, origin=DOCUMENT)
        await person.open("/account/sign-up")
        email = f"{'l' * 50}-{locale}@example.com"
        await person.page.fill("#email", email)
        await person.page.fill("#new_password", PASSWORD)
        await person.page.click("main button[type=submit]")
        while not (mails := [mail for mail in site.mails.mails if mail.to == email]):
            await asyncio.sleep(0.05)
        await person.page.goto(mails[-1].link)
        await person.page.click("main button[type=submit]")
        await person.page.wait_for_url(lambda url: "/auth/verify/" not in url)
        await person.open(asks(client, redirect))
        for size in (DESK, SMALL_PHONE):
            await person.page.set_viewport_size(size)
            assert await person.page.evaluate("document.documentElement.scrollWidth") <= size["width"]
            assert await person.page.evaluate(BEYOND_THE_CARD) == []
        await person.look(f"oauth-consent-{locale}")
        assert person.problems == []
        await context.close()
