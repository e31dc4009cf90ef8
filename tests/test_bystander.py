"""Whatever Ada does, or fails to do, changes no row of anybody else.

Bob has a row of every kind. Ada goes through every route, form, flow and command; after each step Bob's rows
are what they were. A table or column without a row, and a route, form, flow or command without a step, fails.
On SQLite all of this is under a router of the host that reads from a copy of the database that lags behind:
each step knows the answers that it wants, and the copy is not even opened.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import hashlib
import io
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urljoin, urlsplit
from uuid import UUID, uuid4

import httpx
import pyotp
import pytest
from fastapi import Depends, FastAPI
from passlib.hash import django_pbkdf2_sha256
from starlette.types import Receive, Scope, Send
from tortoise import Model
from tortoise.backends.base.executor import EXECUTOR_CACHE
from tortoise.connection import get_connections
from tortoise.context import TortoiseContext
from tortoise.router import router

from fastapi_pluggable_auth import (
    Auth,
    AuthError,
    AuthSettings,
    Challenge,
    PageUser,
    include_auth,
    open_session,
    require,
)
from fastapi_pluggable_auth.cli import COMMANDS, main
from fastapi_pluggable_auth.email.kinds import MailKind
from fastapi_pluggable_auth.features import (
    Administration,
    AuditLog,
    EmailSignIn,
    OAuthServer,
    Oidc,
    Passkeys,
    PersonalTokens,
    SocialLogin,
)
from fastapi_pluggable_auth.features.administration import users
from fastapi_pluggable_auth.features.email_sign_in.flows import mail_link
from fastapi_pluggable_auth.features.oauth_server import clients, end_session, testing, verifying
from fastapi_pluggable_auth.features.oauth_server.models import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEVICE_CODE,
)
from fastapi_pluggable_auth.features.oauth_server.settings import OAuthSettings
from fastapi_pluggable_auth.features.passkeys import keeping
from fastapi_pluggable_auth.features.passkeys.testing import SoftwareAuthenticator
from fastapi_pluggable_auth.features.social_login.app_providers import providers_of
from fastapi_pluggable_auth.features.social_login.probing import look_at
from fastapi_pluggable_auth.features.social_login.states import s256
from fastapi_pluggable_auth.features.social_login.testing import CLIENT_ID, CLIENT_SECRET, IdentityProvider
from fastapi_pluggable_auth.features.two_factor import sealing
from fastapi_pluggable_auth.flows import counters, devices, guesses, purge, sessions, throttle
from fastapi_pluggable_auth.flows.login import answer_challenge
from fastapi_pluggable_auth.flows.session_tokens import TokenSet
from fastapi_pluggable_auth.flows.spent_tokens import DROPPED_EVERY
from fastapi_pluggable_auth.models import Identity, OAuthClient, OAuthDevice, Passkey, PersonalToken, User
from fastapi_pluggable_auth.security.hashing import unusable_hash
from fastapi_pluggable_auth.security.jwt import REFRESH
from fastapi_pluggable_auth.security.throttle import Counter

from .bystander import BOB, DORA, Called, Rows, lacking, settle
from .conftest import PASSWORD, SECRET, SQLITE_UNLESS_FULL, Clock, Database
from .form_browser import BROWSER, FormBrowser, Page, PageForm
from .oauth_program import REDIRECT, Program, answer_in
from .test_host_transactions import wrap_by_dispatch

DIALECTS = SQLITE_UNLESS_FULL
BASE = "http://localhost:8000"
COPY = "copy"
NEW = "a new horse battery"
OTHER = "one more horse battery"

NO_ROWS = {
    ("demo",): "serves an app of its own",
    ("check",): "reads",
    ("mail", "run"): "is what the app does in the background",
    ("mail", "test"): "knows no database",
    ("mail", "preview"): "knows no database",
    ("keys", "rotate"): "knows no database",
    ("keys", "list"): "knows no database",
    ("providers", "check"): "knows no database",
    ("oauth", "check"): "knows no database",
    ("words",): "knows no database",
}
"""Commands that are left out, and why."""

Step = Callable[["World"], Awaitable[None]]
STEPS: list[Step] = []


def step(function: Step) -> Step:
    """Something that Ada does."""
    STEPS.append(function)
    return function


class Forms(FormBrowser):
    """A visitor who notes which forms there were, and which were sent."""

    def __init__(self, client: httpx.AsyncClient, world: World) -> None:
        super().__init__(client)
        self.world = world

    async def open(self, path: str, **headers: str) -> Page:
        page = await super().open(path, **headers)
        self._note(page)
        return page

    async def submit(self, name: str, /, **typed: str) -> Page:
        self.world.sent.add(_named(self.page.form(name)))
        page = await super().submit(name, **typed)
        self._note(page)
        return page

    async def press(
        self, name: str, authenticator: SoftwareAuthenticator, field: str = "credential", **typed: str
    ) -> Page:
        """What the script of passkeys does for a form that an authenticator fills in."""
        form = self.page.form(name)
        forms = [attributes for tag, attributes in self.page.tags if tag == "form"]
        data = next(attributes for attributes in forms if attributes["action"] == form.action)
        origin = {"Origin": BASE, "Sec-Fetch-Site": "same-origin"}
        options = urljoin(str(self.page.answer.url), data["data-options"])
        asked = await self.client.post(options, data=form.hidden | typed, headers=origin)
        assert asked.status_code == 200, asked.text
        makes = data.get("data-passkey", "create") == "create"
        act = authenticator.create if makes else authenticator.get
        return await self.submit(name, **typed, **{field: json.dumps(act(asked.json()))})

    def _note(self, page: Page) -> None:
        assert page.status < 500, page.text
        self.world.shown |= {_named(form) for form in page.forms}


def _named(form: PageForm) -> tuple[str, str]:
    action = form.action.partition("?")[0]
    return re.sub(r"[^/]{40,}", "{token}", action), form.hidden.get("form", "")


@dataclass
class Ada:
    """An account, and the tokens of its last login."""

    world: World
    id: UUID
    email: str
    access: str = ""
    refresh: str = ""
    device: str | None = None
    totp: pyotp.TOTP | None = None

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        """A request with the access token, and what is in its answer."""
        return await self.world.ask(
            method, path, body, status, **{"Authorization": f"Bearer {self.access}", **headers}
        )

    async def login(self, password: str = PASSWORD, status: int = 200, **body: Any) -> Any:
        """Signs in, from another browser where one is named."""
        agent = body.pop("agent", "Ada's browser")
        given = {"email": self.email, "password": password, **body}
        answer = await self.world.ask("POST", "/auth/login", given, status, **{"User-Agent": agent})
        if status == 200:
            self.access, self.refresh = answer["access_token"], answer["refresh_token"]
            self.device = answer.get("device", self.device)
        return answer

    async def rotate(self, token: str | None = None, status: int = 200) -> Any:
        """Spends a refresh token."""
        answer = await self.world.ask("POST", "/auth/refresh", {"token": token or self.refresh}, status)
        if status == 200:
            self.access, self.refresh = answer["access_token"], answer["refresh_token"]
        return answer

    async def with_two_factor(self) -> list[str]:
        """Turns it on; the recovery codes."""
        begun = await self.ask("POST", "/auth/2fa/enable")
        self.totp = pyotp.parse_uri(begun["otpauth_uri"])  # type: ignore[assignment]
        await self.ask("POST", "/auth/2fa/verify", {"code": self.code()})
        codes: list[str] = (await self.ask("POST", "/auth/2fa/recovery-codes"))["codes"]
        return codes

    def code(self) -> str:
        """The code of the moment."""
        assert self.totp is not None
        return self.totp.at(self.world.clock())

    async def wait_for_code(self) -> str:
        """One that was not used yet."""
        self.world.clock.advance(seconds=31)
        return self.code()


@dataclass
class World:
    """The app, its database, and what has happened."""

    app: FastAPI
    auth: Auth
    settings: AuthSettings
    clock: Clock
    client: httpx.AsyncClient
    url: str
    folder: Path
    routes: set[tuple[str, str]]
    identities: IdentityProvider
    called: Called = field(default_factory=Called)
    commands: set[tuple[str, ...]] = field(default_factory=set)
    shown: set[tuple[str, str]] = field(default_factory=set)
    sent: set[tuple[str, str]] = field(default_factory=set)
    number: int = 0
    opened: list[httpx.AsyncClient] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        """A request, and what is in its answer."""
        answer = await self.client.request(method, path, json=body, headers=headers)
        assert answer.status_code == status, (method, path, answer.text)
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        return answer.json() if is_json and answer.content else answer

    def address(self) -> str:
        """One that nobody has."""
        self.number += 1
        return f"ada{self.number}@example.com"

    async def ada(self, **columns: Any) -> Ada:
        """A verified account that is signed in."""
        hashed = await self.auth.hasher.hash(PASSWORD)
        user = await User.create(email=self.address(), hashed_password=hashed, is_verified=True, **columns)
        ada = Ada(self, user.id, user.email)
        if user.is_active:
            await ada.login()
        return ada

    async def visitor(self) -> Forms:
        """A browser without cookies."""
        client = httpx.AsyncClient(transport=self.client._transport, base_url=BASE, headers=BROWSER)
        self.opened.append(client)
        return Forms(client, self)

    async def visiting(self, **columns: Any) -> tuple[Forms, Ada]:
        """A browser that is signed in on the pages."""
        ada, visitor = await self.ada(**columns), await self.visitor()
        await visitor.open("/account/sign-in")
        await visitor.submit("password", email=ada.email, password=PASSWORD)
        return visitor, ada

    def link(self, email: str, of: str = "/") -> str:
        """The path of the newest link in a mail to this address."""
        found = self._mailed(email, r"http\S+")
        return str([link for link in found if of in link][-1]).removeprefix(BASE)

    def code(self, email: str) -> str:
        """The newest code in a mail to this address."""
        return self._mailed(email, r"(?m)^[0-9]{6}$")[-1]

    def wrong_code(self, email: str) -> str:
        """Another one."""
        return f"{(int(self.code(email)) + 1) % 1_000_000:06}"

    def _mailed(self, email: str, pattern: str) -> list[str]:
        mails: Any = self.auth.mailer.provider
        return [found for mail in mails.mails if mail.to == email for found in re.findall(pattern, mail.body)]

    async def run(self, *arguments: str, status: int = 0, typed: str = "") -> None:
        """A command, on this database, with what it reads from stdin."""
        self.commands |= {names for names in leaves() if arguments[: len(names)] == names}

        def command() -> int:
            with self.called.noticing(), pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "stdin", io.StringIO(typed))
                return main(arguments)

        assert await asyncio.to_thread(command) == status, arguments

    def copied(self) -> bytes:
        """What is in the copy for reading, which changes when Tortoise opens it."""
        copy = self.folder / COPY
        return copy.read_bytes() if copy.exists() else b""

    @asynccontextmanager
    async def setting(self, **values: Any) -> AsyncIterator[None]:
        """Other settings for a while."""
        before = {name: getattr(self.settings, name) for name in values}
        for name, value in values.items():
            setattr(self.settings, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self.settings, name, value)


# Signing up, and the links of mails


@step
async def signs_up_and_verifies_as_a_program(world: World) -> None:
    email = world.address()
    await world.ask("POST", "/auth/signup", {"email": email, "password": "password1"}, 422)
    await world.ask("POST", "/auth/signup", {"email": email, "password": PASSWORD}, 201)
    await world.ask("POST", "/auth/signup", {"email": email, "password": PASSWORD}, 400)
    await world.ask("POST", "/auth/signup", {"email": BOB, "password": PASSWORD}, 400)
    link = world.link(email)
    await world.ask("HEAD", link)
    await world.ask("HEAD", "/auth/verify/nothing", status=404)
    await world.ask("GET", link, **{"Sec-Fetch-Mode": "navigate"})
    await world.ask("POST", "/auth/verify/resend", {"email": email})
    await world.ask("POST", "/auth/verify/resend", {"email": "nobody@example.com"})
    await world.ask("GET", world.link(email))
    await world.ask("GET", world.link(email), status=400)
    await world.ask("POST", "/auth/login", {"email": email, "password": PASSWORD})


@step
async def signs_up_and_verifies_by_the_password_or_claims(world: World) -> None:
    first, second = world.address(), world.address()
    for email in (first, second):
        await world.ask("POST", "/auth/signup", {"email": email, "password": PASSWORD}, 201)
    path = world.link(first)
    await world.ask("POST", path, {}, 403, Origin=BASE)
    await world.ask("POST", path, {"password": "wrong"}, 403)
    await world.ask("POST", path, {"password": PASSWORD})
    await world.ask("POST", world.link(second), {"new_password": NEW})
    await world.ask("POST", "/auth/login", {"email": second, "password": NEW})


@step
async def signs_up_and_verifies_by_code(world: World) -> None:
    first, second = world.address(), world.address()
    body = {"password": PASSWORD, "mailed_code": True}
    for email in (first, second):
        signup = await world.ask("POST", "/auth/signup", {"email": email, **body}, 201)
    shown = {"challenge": signup["challenge"]}
    wrong = {**shown, "code": world.wrong_code(second)}
    await world.ask("POST", "/auth/verify/code", wrong, 400)
    await world.ask("POST", "/auth/verify/code", {**shown, "code": world.code(second)})
    asked = await world.ask("POST", "/auth/verify/resend", {"email": first, "mailed_code": True})
    shown = {"challenge": asked["challenge"], "code": world.code(first)}
    await world.ask("POST", "/auth/verify/code", shown, 403)
    await world.ask("POST", "/auth/verify/code", shown | {"new_password": NEW})
    await world.ask("POST", "/auth/verify/resend", {"email": "nobody@example.com", "mailed_code": True})


@step
async def signs_up_and_enters_the_code_on_the_page(world: World) -> None:
    visitor, email = await world.visitor(), world.address()
    await visitor.open("/account/sign-up")
    await visitor.submit("new_password", email=email, new_password=PASSWORD)
    await visitor.submit("check-mail/code", code=world.wrong_code(email))
    await visitor.open("/account/check-mail/code")
    assert (await visitor.submit("check-mail/code", code=world.code(email))).path == "/account/profile"


@step
async def verifies_by_the_link_alone(world: World) -> None:
    email = world.address()
    await world.ask("POST", "/auth/signup", {"email": email, "password": PASSWORD}, 201)
    await world.ask("POST", "/auth/login", {"email": email, "password": PASSWORD})
    await world.ask("POST", world.link(email))


@step
async def follows_links_of_earlier_releases(world: World) -> None:
    for of in ("verify", "reset-password"):
        await world.client.get(f"{BASE}//auth/{of}/nothing", follow_redirects=True)


@step
async def signs_up_where_nobody_is_told_whether_there_is_an_account(world: World) -> None:
    ada = await world.ada()
    async with world.setting(prevent_enumeration=True, require_verified_email=True):
        await world.ask("POST", "/auth/signup", {"email": ada.email, "password": NEW}, 201)
        email = world.address()
        await world.ask("POST", "/auth/signup", {"email": email, "password": PASSWORD}, 201)
        await world.ask("POST", "/auth/login", {"email": email, "password": PASSWORD}, 401)
        await ada.ask("PATCH", "/account", {"email": email})


@step
async def signs_up_on_the_pages(world: World) -> None:
    visitor, other = await world.visitor(), await world.visitor()
    for email, browser in ((world.address(), visitor), (world.address(), other)):
        await visitor.open("/account/sign-up")
        strength = {"password": PASSWORD, "email": BOB}
        page = {"Sec-Fetch-Site": "same-origin"}
        await visitor.client.post("/account/password-strength", json=strength, headers=page)
        await visitor.submit("new_password", email=email, new_password="short")
        await visitor.submit("new_password", email=email, new_password=PASSWORD)
        await visitor.submit("check-mail")
        await visitor.open("/account/verify-email")
        await visitor.submit("email", email="no address")
        await visitor.submit("email", email=email)
        await browser.open(world.link(email))
        if browser is other:
            await browser.submit("form", password="wrong")
            assert (await browser.submit("form", password=PASSWORD)).status == 200
        else:
            assert (await browser.submit("form")).status == 200


# Signing in and out


@step
async def fails_to_sign_in(world: World) -> None:
    ada, disabled = await world.ada(), await world.ada(is_active=False)
    await ada.login("wrong", 401)
    await disabled.login(status=401)
    await world.ask("POST", "/auth/login", {"email": "nobody@example.com", "password": PASSWORD}, 401)
    async with world.setting(require_verified_email=True):
        await User.filter(id=ada.id).update(is_verified=False)
        await ada.login(status=401)
    await User.filter(id=ada.id).update(password_reset_required=True)
    await ada.login(status=401)


@step
async def is_slowed_down_and_locked_out(world: World) -> None:
    ada, nobody, minute = await world.ada(), world.address(), timedelta(minutes=1)
    await ada.login(device=None)
    async with world.setting(
        throttle_free_attempts=2, throttle_first_pause=minute, throttle_longest_pause=minute
    ):
        for status in (401, 401, 429, 429):
            await ada.login("wrong", status)
            await world.ask("POST", "/auth/login", {"email": nobody, "password": "wrong"}, status)
        for _ in range(20):
            world.clock.advance(minutes=2)
            await ada.login("wrong", 401, device=ada.device)
        assert not await world.auth.tables.device.filter(user_id=ada.id).exists()
    async with world.setting(throttle_daily_limit=1):
        await ada.login("wrong", 429)


@step
async def is_known_by_more_devices_than_an_account_knows(world: World) -> None:
    ada = await world.ada()
    for _ in range(12):
        await ada.login(device=None)
    await ada.login(device=ada.device)


@step
async def brings_a_hash_from_elsewhere(world: World) -> None:
    ada = await world.ada()
    await User.filter(id=ada.id).update(
        hashed_password=django_pbkdf2_sha256.using(rounds=1000).hash(PASSWORD)
    )
    await ada.login()
    assert (await User.get(id=ada.id)).hashed_password.startswith("$2b$")


@step
async def has_too_many_sessions_and_new_browsers(world: World) -> None:
    ada = await world.ada()
    async with world.setting(max_sessions=2, notify_new_device=True):
        for number in range(4):
            await ada.login(agent=f"Browser {number}")
    assert len(await ada.ask("GET", "/account/sessions")) == 2


@step
async def ends_sessions(world: World) -> None:
    ada = await world.ada()
    await ada.login()
    listed = await ada.ask("GET", "/account/sessions")
    for session in listed:
        if not session["current"]:
            await ada.ask("DELETE", f"/account/sessions/{session['id']}", status=204)
    await ada.ask("DELETE", f"/account/sessions/{uuid4()}", status=404)
    others = await world.auth.tables.session.filter(user__email=BOB)
    for session in others:
        await ada.ask("DELETE", f"/account/sessions/{session.id}", status=404)
    await ada.login()
    await ada.ask("POST", "/account/logout-others", status=204)
    await ada.ask("POST", "/auth/logout", {"everywhere": False})
    await ada.login()
    await ada.ask("POST", "/auth/logout")
    await ada.ask("POST", "/auth/logout")
    await ada.ask("GET", "/auth/me", status=401)


@step
async def trusts_devices_and_forgets_them(world: World) -> None:
    ada = await world.ada()
    async with world.setting(trusted_device_ttl=timedelta(days=1)):
        await ada.ask("POST", "/auth/login", {"email": ada.email, "password": PASSWORD, "device": None})
        for device in await ada.ask("GET", "/account/devices"):
            await ada.ask("DELETE", f"/account/devices/{device['id']}", status=204)
        for device in await world.auth.tables.device.filter(user__email=BOB):
            await ada.ask("DELETE", f"/account/devices/{device.id}", status=404)
        visitor, ada = await world.visiting()
        (mine,) = await world.auth.tables.device.filter(user__email=ada.email)
        await world.auth.tables.device.filter(id=mine.id).update(trusted_at=world.clock())
        await visitor.open("/account/security")
        await visitor.submit("device", device=str(mine.id))
        await visitor.open("/account/security/device")


@step
async def signs_in_and_out_on_the_pages(world: World) -> None:
    visitor, ada = await world.visiting()
    await visitor.open("/account/sign-in")
    await visitor.submit("sign-out")
    await visitor.submit("password", email=ada.email, password="wrong")
    await visitor.submit("password", email=ada.email, password=PASSWORD)
    world.clock.advance(hours=1)
    await visitor.open("/reports")
    await visitor.open("/account/confirm-password")
    await visitor.submit("password", password="wrong")
    await visitor.submit("password", password=PASSWORD)
    other = await world.visitor()
    await other.open("/reports")
    await other.submit("password", email=ada.email, password=PASSWORD)


@step
async def signs_in_with_cookies(world: World) -> None:
    ada, visitor = await world.ada(), await world.visitor()
    headers = {"Origin": BASE, "Sec-Fetch-Site": "same-origin", "X-Requested-With": "fetch"}
    body = {"email": ada.email, "password": PASSWORD}
    assert (await visitor.client.post("/auth/login", json=body, headers=headers)).status_code == 200
    assert (await visitor.client.post("/auth/refresh", headers=headers)).status_code == 200
    world.clock.advance(minutes=20)
    assert (await visitor.client.get("/auth/me", headers=headers)).status_code == 200
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert (await visitor.client.post("/auth/logout", headers=foreign)).status_code == 403
    assert (await visitor.client.post("/auth/logout", headers=headers)).status_code == 200


@step
async def keeps_a_session_in_use_until_a_token_comes_back_that_was_dropped(world: World) -> None:
    ada = await world.ada()
    spent = ada.refresh
    for _ in range(2 * DROPPED_EVERY):
        world.clock.advance(hours=1)
        await ada.rotate()
    await ada.rotate(spent, 401)


@step
async def signs_in_again_for_what_needs_it(world: World) -> None:
    ada = await world.ada()
    world.clock.advance(minutes=11)
    async with world.setting(reauth_ttl=timedelta(minutes=10)):
        await ada.ask("POST", "/auth/2fa/enable", status=403)
        await ada.ask("POST", "/auth/reauthenticate", {"password": "wrong"}, 403)
        await ada.ask("POST", "/auth/reauthenticate", {"password": PASSWORD})
        await ada.ask("POST", "/auth/2fa/enable")
    for _ in range(20):
        await ada.ask("POST", "/auth/reauthenticate", {"password": "wrong"}, 403)
    await ada.ask("GET", "/auth/me", status=401)


@step
async def sets_a_first_password(world: World) -> None:
    ada = await world.ada()
    await ada.ask("POST", "/account/set-password", {"new_password": NEW}, 409)
    await User.filter(id=ada.id).update(hashed_password=unusable_hash())
    await ada.ask("POST", "/account/set-password", {"new_password": "password1"}, 422)
    await ada.ask("POST", "/account/set-password", {"new_password": NEW}, 204)
    await ada.login(NEW)


@step
async def confirms_by_mail(world: World) -> None:
    path, ada = "/auth/reauthenticate/mail", await world.ada()
    await ada.ask("POST", path, status=409)
    await User.filter(id=ada.id).update(hashed_password=unusable_hash())
    body = {"challenge": (await ada.ask("POST", path, status=202))["challenge"]}
    await ada.ask("POST", f"{path}/code", body | {"code": world.wrong_code(ada.email)}, 400)
    await ada.ask("POST", f"{path}/code", body | {"code": world.code(ada.email)})
    visitor, ada = await world.visiting()
    await User.filter(id=ada.id).update(hashed_password=unusable_hash())
    await visitor.open("/account/confirm-password")
    await visitor.submit("confirm-password/mail")
    await visitor.submit("mail/code", code=world.wrong_code(ada.email))
    await visitor.submit("mail/code", code=world.code(ada.email))
    for form in ("mail", "mail/code"):
        await visitor.open(f"/account/confirm-password/{form}")


@step
async def sets_a_first_password_on_the_pages(world: World) -> None:
    visitor, ada = await world.visiting()
    await User.filter(id=ada.id).update(hashed_password=unusable_hash())
    await visitor.open("/account/profile")
    await visitor.submit("set-password", new_password="short")
    await visitor.submit("set-password", new_password=NEW)
    await ada.login(NEW)


@step
async def opens_the_addresses_that_forms_post_to(world: World) -> None:
    visitor, _ = await world.visiting()
    for form in ("name", "email", "email/code", "keep-email", "password", "set-password"):
        await visitor.open(f"/account/profile/{form}")
    two_factor = [f"two-factor/{form}" for form in ("enable", "code", "recovery-codes", "disable")]
    for form in ("session", "others", *two_factor):
        await visitor.open(f"/account/security/{form}")
    for form in ("code", "passkey", "mail/code", "social/address", "social/code"):
        await visitor.open(f"/account/sign-in/{form}")
    for form in ("add", "rename", "keep", "remove"):
        await visitor.open(f"/account/security/passkeys/{form}")
    for form in ("keep", "disconnect"):
        await visitor.open(f"/account/security/identities/{form}")
    await visitor.open("/account/confirm-password/passkey")
    await visitor.open("/account/sign-up/passkey")


@step
async def is_signed_in_by_the_app(world: World) -> None:
    ada = await world.ada()
    assert isinstance(await open_session(world.auth, await User.get(id=ada.id), factors="sso"), TokenSet)
    await ada.with_two_factor()
    begun = await open_session(world.auth, await User.get(id=ada.id))
    assert isinstance(begun, Challenge)
    await answer_challenge(world.auth, begun.token, await ada.wait_for_code())
    stale = await User.get(id=ada.id)
    stale.hashed_password = unusable_hash()
    with pytest.raises(AuthError):
        await open_session(world.auth, stale, strong=True)


# Rotation


@step
async def rotates(world: World) -> None:
    ada = await world.ada()
    await ada.login()
    async with world.setting(single_session=True):
        await ada.rotate()
    await ada.ask("GET", "/auth/me")
    async with world.setting(refresh_idempotent=True):
        spent = ada.refresh
        assert (await ada.rotate(spent))["refresh_token"] == (await ada.rotate(spent))["refresh_token"]
    await ada.rotate(spent, 401)


@step
async def loses_an_answer(world: World) -> None:
    ada = await world.ada()
    spent = ada.refresh
    await ada.rotate()
    lost = ada.access
    world.clock.advance(seconds=30)
    await ada.rotate(spent, 401)
    await ada.ask("GET", "/auth/me", status=401, Authorization=f"Bearer {lost}")
    again = await world.ada()
    spent = again.refresh
    await again.rotate()
    async with world.setting(refresh_idempotent=True):
        world.clock.advance(seconds=30)
        await again.rotate(spent)
    await again.ask("GET", "/auth/me")


@step
async def is_stolen_from(world: World) -> None:
    ada = await world.ada()
    spent = ada.refresh
    await ada.rotate()
    await ada.ask("GET", "/auth/me")
    await ada.rotate()
    world.clock.advance(seconds=30)
    await ada.rotate(spent, 401)
    await ada.ask("GET", "/auth/me", status=401)


@step
async def comes_back_too_late(world: World) -> None:
    ada = await world.ada()
    world.clock.advance(hours=1)
    await ada.ask("GET", "/auth/me", status=401)
    world.clock.advance(days=8)
    await ada.rotate(status=401)
    await world.auth.hasher.hash(PASSWORD)


@step
async def has_tokens_of_the_host(world: World) -> None:
    ada, signer = await world.ada(), world.auth.signer
    ada.access = signer.access_token(ada.id)
    await ada.ask("GET", "/auth/me")
    now = world.clock()
    token = signer.sign(REFRESH, ada.id, issued_at=now, expires_at=now + timedelta(days=1), jti=str(uuid4()))
    await world.auth.tables.refresh_token.create_for(ada.id, token, timedelta(days=1))
    await ada.rotate(token)
    await ada.ask("GET", "/auth/me")


# The account


@step
async def changes_the_profile_and_the_address(world: World) -> None:
    ada = await world.ada()
    await ada.ask("GET", "/account")
    await ada.ask("GET", "/account/export")
    await ada.ask("PATCH", "/account", {"display_name": "Ada"})
    await ada.ask("PATCH", "/account", {"email": BOB}, 400)
    new = world.address()
    await ada.ask("PATCH", "/account", {"email": new})
    stop = world.link(ada.email, "/stop-email-change/")
    await world.ask("HEAD", stop)
    await world.ask("GET", stop)
    await world.ask("POST", stop)
    await world.ask("POST", stop, status=400)
    await ada.ask("PATCH", "/account", {"email": new})
    await ada.ask("PATCH", "/account", {"email": ada.email})
    await ada.ask("PATCH", "/account", {"email": new})
    confirm = world.link(new, "/email-change/")
    await world.ask("HEAD", confirm)
    await world.ask("GET", confirm)
    await ada.login()
    await world.ask("POST", confirm)
    await world.ask("POST", confirm, status=400)


@step
async def changes_the_address_by_code(world: World) -> None:
    ada, new = await world.ada(), world.address()
    await ada.ask("PATCH", "/account", {"email": new, "mailed_code": True})
    await ada.ask("POST", "/auth/email-change/code", {"code": world.wrong_code(new)}, 400)
    await ada.ask("POST", "/auth/email-change/code", {"code": world.code(new)})
    visitor, _ = await world.visiting()
    await visitor.open("/account/profile")
    new = world.address()
    await visitor.submit("email", email=new)
    await visitor.submit("email_code", code=world.wrong_code(new))
    await visitor.submit("email_code", code=world.code(new))


@step
async def changes_the_profile_on_the_pages(world: World) -> None:
    visitor, ada = await world.visiting()
    await visitor.open("/account/profile")
    await visitor.submit("name", display_name="Ada")
    await visitor.submit("export")
    await visitor.open("/account/profile")
    await visitor.submit("email", email="no address")
    new = world.address()
    await visitor.submit("email", email=new)
    await visitor.open("/account/profile")
    await visitor.submit("keep-email")
    await visitor.submit("email", email=new)
    await visitor.open(world.link(ada.email, "/stop-email-change/"))
    await visitor.submit("stop-email-change/" + visitor.page.path.rpartition("/")[2])
    await visitor.open("/account/profile")
    await visitor.submit("email", email=new)
    await visitor.open(world.link(new, "/email-change/"))
    await visitor.submit("email-change/" + visitor.page.path.rpartition("/")[2])
    await visitor.open("/account/profile")
    await visitor.submit("password", password="wrong", new_password=NEW)
    await visitor.submit("password", password=PASSWORD, new_password=NEW)


@step
async def changes_the_password(world: World) -> None:
    ada = await world.ada()
    body = {"old_password": PASSWORD, "new_password": NEW}
    await ada.ask("POST", "/account/change-password", body | {"old_password": "wrong"}, 403)
    await ada.ask("POST", "/account/change-password", body | {"new_password": "password1"}, 422)
    await ada.ask("POST", "/account/change-password", body, 204)
    await ada.login(status=401)
    await ada.login(NEW)


@step
async def forgets_the_password(world: World) -> None:
    ada = await world.ada()
    await ada.login("wrong", 401)
    for email in (ada.email, "nobody@example.com"):
        await world.ask("POST", "/auth/forgot-password", {"email": email})
    link = world.link(ada.email, "/reset-password/")
    await world.ask("HEAD", link)
    await world.ask("GET", link)
    await world.ask("POST", link, {"new_password": "password1"}, 422)
    await world.ask("POST", link, {"new_password": NEW, "device": None})
    await world.ask("POST", link, {"new_password": OTHER}, 400)
    await ada.login(NEW)


@step
async def forgets_the_password_and_enters_the_code(world: World) -> None:
    ada = await world.ada()
    for email in ("nobody@example.com", ada.email):
        asked = await world.ask("POST", "/auth/forgot-password", {"email": email, "mailed_code": True})
    body = {"challenge": asked["challenge"], "new_password": NEW}
    await world.ask("POST", "/auth/reset-password/code", body | {"code": world.wrong_code(ada.email)}, 400)
    await world.ask("POST", "/auth/reset-password/code", body | {"code": world.code(ada.email)})
    await ada.login(NEW)


@step
async def forgets_the_password_on_the_pages(world: World) -> None:
    visitor, ada = await world.visiting()
    await visitor.open("/account/forgot-password")
    await visitor.submit("email", email="no address")
    await visitor.submit("email", email=ada.email)
    await visitor.open(world.link(ada.email, "/reset-password/"))
    await visitor.submit("new_password", new_password="short")
    await visitor.submit("new_password", new_password=NEW)


@step
async def deletes_the_account(world: World) -> None:
    ada = await world.ada()
    codes = await ada.with_two_factor()
    await ada.login(code=codes[0], device=None)
    await ada.login("wrong", 401, device=ada.device)
    await ada.ask("POST", "/account/tokens", {"name": "build", "scopes": ["notes:read"]}, 201)
    await ada.ask("DELETE", "/account", status=204)
    await ada.ask("GET", "/auth/me", status=401)
    await ada.rotate(status=401)


@step
async def deletes_the_account_on_the_pages(world: World) -> None:
    visitor, _ = await world.visiting()
    await visitor.open("/account/delete")
    await visitor.submit("sure")
    await visitor.submit("sure", sure="yes")


# Two-factor


@step
async def uses_two_factor(world: World) -> None:
    ada = await world.ada()
    await ada.login()
    await ada.ask("POST", "/auth/2fa/verify", {"code": "123456"}, 400)
    await ada.ask("POST", "/auth/2fa/recovery-codes", status=409)
    await ada.ask("POST", "/auth/2fa/enable")
    await ada.ask("POST", "/auth/2fa/verify", {"code": "000000"}, 400)
    codes = await ada.with_two_factor()
    await ada.ask("POST", "/auth/2fa/enable", status=409)
    assert (await ada.ask("GET", "/auth/2fa/recovery-codes"))["remaining"] == 10
    await ada.login(status=401)
    await ada.login(code="000000", status=401)
    await ada.login(code="aaaa-bbbb-cccc-dddd-eeee-ffff", status=401)
    await ada.login(code=codes[0])
    await ada.login(code=codes[0], status=401)
    await ada.login(code=await ada.wait_for_code())
    await ada.ask("POST", "/auth/reauthenticate", {"password": PASSWORD}, 401)
    body = {"password": PASSWORD, "code": await ada.wait_for_code()}
    await ada.ask("POST", "/auth/reauthenticate", body)
    await ada.ask("POST", "/auth/2fa/verify", {"code": await ada.wait_for_code()})
    await ada.ask("POST", "/account/2fa/disable", status=204)
    await ada.login()


@step
async def guesses_codes(world: World) -> None:
    ada = await world.ada()
    codes = await ada.with_two_factor()
    for _ in range(6):
        await ada.login(code="000000", status=401)
    async with world.setting(totp_encryption_key="another key that opens nothing at all, of no use"):
        world.clock.advance(seconds=31)
    await ada.login(code=codes[1])


@step
async def uses_two_factor_on_the_pages(world: World) -> None:
    visitor, ada = await world.visiting()
    await visitor.open("/account/security")
    await visitor.submit("enable")
    await visitor.submit("disable")
    page = await visitor.submit("enable")
    (secret,) = re.findall(r"otpauth://[^\"]+[?&;]secret=([A-Z2-7]+)", page.text)
    totp = pyotp.TOTP(secret)
    await visitor.submit("code", code="000000")
    page = await visitor.submit("code", code=totp.at(world.clock()))
    codes = re.findall(r"<code>([a-z2-7-]+)</code>", page.text)
    await visitor.open("/account/security")
    await visitor.submit("recovery_codes")
    other = await world.visitor()
    await other.open("/account/sign-in")
    await other.submit("password", email=ada.email, password=PASSWORD)
    await other.submit("code", code=codes[0])
    world.clock.advance(seconds=31)
    await other.submit("code", code=totp.at(world.clock()))
    await visitor.open("/account/security")
    others = [button["value"] for form in visitor.page.forms for button in form.buttons if "value" in button]
    await visitor.submit("session", session=others[0])
    third = await world.visitor()
    await third.open("/account/sign-in")
    await third.submit("password", email=ada.email, password=PASSWORD)
    world.clock.advance(seconds=31)
    await third.submit("code", code=totp.at(world.clock()))
    await visitor.open("/account/security")
    await visitor.submit("others")
    await visitor.submit("disable")


# Passkeys


@step
async def uses_passkeys(world: World) -> None:
    ada, phone, key = await world.ada(), SoftwareAuthenticator(BASE), SoftwareAuthenticator(BASE)
    own = "/account/passkeys"

    async def adds(authenticator: SoftwareAuthenticator, status: int = 201, **asked: Any) -> Any:
        options = await ada.ask("POST", f"{own}/options", asked)
        return await ada.ask("POST", own, {"credential": authenticator.create(options)}, status)

    async def shows(path: str, status: int = 200, by: SoftwareAuthenticator = phone) -> Any:
        options = await ada.ask("POST", f"{path.removesuffix('/login')}/options")
        answer = await ada.ask("POST", path, {"credential": by.get(options)}, status)
        if "access_token" in answer:
            ada.access, ada.refresh = answer["access_token"], answer["refresh_token"]
        return answer

    added = await adds(phone)
    await ada.ask("GET", own)
    await ada.ask("GET", f"{own}/{added['id']}")
    await ada.ask("PATCH", f"{own}/{added['id']}", {"name": "Phone"})
    for passkey in await Passkey.filter(user__email=BOB):
        for method, body in (("GET", None), ("PATCH", {"name": "Mine", "keep": True}), ("DELETE", None)):
            await ada.ask(method, f"{own}/{passkey.id}", body, 404)
    stolen = await Passkey.filter(user__email=BOB).first()
    assert stolen is not None
    options = await ada.ask("POST", f"{own}/options")
    known, made = {*key.credentials}, key.create(options)
    (made_id,) = key.credentials.keys() - known
    key.credentials.pop(made_id)
    await ada.ask("POST", own, {"credential": made | {"id": stolen.credential_id}}, 400)
    await shows("/auth/passkey/login")
    await shows("/auth/passkey/reauthenticate")
    await adds(key, second_factor=True)
    password = {"email": ada.email, "password": PASSWORD}
    needed = await world.ask("POST", "/auth/login", password, 401)
    await world.ask("POST", "/auth/login", {**password, "passkey": key.get(needed["options"]["passkey"])})
    phone.credentials[next(iter(phone.credentials))].counter = 2
    await shows("/auth/passkey/login")
    phone.credentials[next(iter(phone.credentials))].counter = 1
    await shows("/auth/passkey/login", 400)
    await world.ask("POST", "/auth/forgot-password", {"email": ada.email})
    await world.ask("POST", world.link(ada.email, "/reset-password/"), {"new_password": NEW})
    needed = await world.ask("POST", "/auth/login", password | {"password": NEW}, 401)
    await ada.login(NEW, passkey=key.get(needed["options"]["passkey"]))
    await ada.ask("PATCH", f"{own}/{added['id']}", {"keep": True})
    for passkey in await ada.ask("GET", own):
        await ada.ask("DELETE", f"{own}/{passkey['id']}", status=204)
    await world.ask("GET", "/.well-known/webauthn", status=404)


@step
async def signs_up_with_a_passkey(world: World) -> None:
    for email, elsewhere in ((world.address(), True), (world.address(), False), (BOB, False)):
        phone = SoftwareAuthenticator(BASE)
        options = await world.ask("POST", "/auth/passkey/sign-up/options", {"email": email})
        body = {"email": email, "credential": phone.create(options)}
        await world.ask("POST", "/auth/signup", body, 400 if email == BOB else 201)
        if email == BOB:
            continue
        link = world.link(email)
        if elsewhere:
            token = {"token": link.rpartition("/")[2]}
            options = await world.ask("POST", "/auth/passkey/verify/options", token)
            await world.ask("POST", "/auth/passkey/verify", {**token, "credential": phone.get(options)})
        else:
            await world.ask("POST", link, {"new_password": NEW})
        options = await world.ask("POST", "/auth/passkey/options")
        status = 200 if elsewhere else 401
        await world.ask("POST", "/auth/passkey/login", {"credential": phone.get(options)}, status)


@step
async def loses_all_passkeys(world: World) -> None:
    ada, phone = await world.ada(), SoftwareAuthenticator(BASE)
    options = await ada.ask("POST", "/account/passkeys/options")
    await ada.ask("POST", "/account/passkeys", {"credential": phone.create(options)}, 201)
    assert len(await keeping.remove_for(world.auth, await User.get(id=ada.id))) == 1


@step
async def uses_passkeys_on_the_pages(world: World) -> None:
    visitor, ada = await world.visiting()
    phone, laptop, key = (SoftwareAuthenticator(BASE) for _ in range(3))
    bobs = [str(passkey.id) for passkey in await Passkey.filter(user__email=BOB)]
    section = "/account/security"
    await visitor.open(section)
    await visitor.submit("passkeys/add", credential="nonsense")
    await visitor.press("passkeys/add", phone)
    assert (await visitor.press("passkeys/upgrade", laptop)).status == 204
    await visitor.open(section)
    await visitor.press("passkeys/add", key, second_factor="yes")
    own = Passkey.filter(user_id=ada.id)
    assert await own.count() == 3
    await visitor.submit("passkeys/rename", name="")
    assert (await visitor.submit("passkeys/rename", name="Phone")).status == 200
    await own.update(held_since=world.clock())
    await visitor.open(section)
    for passkey in bobs:
        for what, typed in (("rename", {"name": "Mine"}), ("keep", {}), ("remove", {})):
            page = await visitor.submit(f"passkeys/{what}", passkey=passkey, **typed)
            assert page.status == 404, page.text
    for _ in range(3):
        assert (await visitor.submit("passkeys/keep")).status == 200
    assert not await own.filter(held_since__not_isnull=True).exists()
    world.clock.advance(hours=1)
    await visitor.open(f"/account/confirm-password?next={section}")
    await visitor.submit("confirm-password/passkey", credential="nonsense")
    assert (await visitor.press("confirm-password/passkey", phone)).path == section
    other = await world.visitor()
    await other.open("/account/sign-in")
    await other.submit("sign-in/passkey", credential="nonsense")
    assert (await other.press("sign-in/passkey", laptop, remember="yes")).path == "/account/profile"
    third = await world.visitor()
    await third.open("/account/sign-in")
    await third.submit("password", email=ada.email, password=PASSWORD)
    await third.submit("sign-in/code", answer="nonsense")
    assert (await third.press("sign-in/code", key, field="answer")).path == "/account/profile"
    for _ in range(3):
        await visitor.open(section)
        assert (await visitor.submit("passkeys/remove")).status == 200
    assert not await own.exists()


@step
async def signs_up_with_a_passkey_on_the_pages(world: World) -> None:
    visitor, other, phone = await world.visitor(), await world.visitor(), SoftwareAuthenticator(BASE)
    email = world.address()
    await visitor.open("/account/sign-up")
    await visitor.submit("sign-up/passkey", email=email, credential="nonsense")
    page = await visitor.press("sign-up/passkey", SoftwareAuthenticator(BASE), email=BOB)
    assert page.path == "/account/sign-up/passkey"
    await visitor.press("sign-up/passkey", phone, email=email)
    await other.open(world.link(email))
    await other.submit("passkey", credential="nonsense")
    assert (await other.press("passkey", phone)).status == 200
    assert (await User.get(email=email)).is_verified


@step
async def has_the_passkeys_looked_after(world: World) -> None:
    root, ada, phone = await world.ada(is_superuser=True), await world.ada(), SoftwareAuthenticator(BASE)
    options = await ada.ask("POST", "/account/passkeys/options")
    await ada.ask("POST", "/account/passkeys", {"credential": phone.create(options)}, 201)
    path = f"/admin/users/{ada.id}/passkeys"
    (passkey,) = await root.ask("GET", path)
    for stolen in await Passkey.filter(user__email=BOB):
        await root.ask("DELETE", f"{path}/{stolen.id}", status=404)
        theirs = f"/admin/users/{stolen.user_id}/passkeys"
        await ada.ask("GET", theirs, status=403)
        await ada.ask("DELETE", f"{theirs}/{stolen.id}", status=403)
    for status in (204, 404):
        await root.ask("DELETE", f"{path}/{passkey['id']}", status=status)


# Signing in by mail


@step
async def signs_in_by_mail(world: World) -> None:
    ada, nobody = await world.ada(), {"email": "nobody@example.com"}
    path = "/auth/email-sign-in"
    begun = await world.ask("POST", path, {"email": ada.email}, 202)
    wrong = {"challenge": begun["challenge"], "code": world.wrong_code(ada.email)}
    await world.ask("POST", f"{path}/code", wrong, 400)
    right = wrong | {"code": world.code(ada.email)}
    for status in (200, 400):
        await world.ask("POST", f"{path}/code", right, status)
    begun = await world.ask("POST", path, nobody, 202)
    await world.ask("POST", f"{path}/code", right | {"challenge": begun["challenge"]}, 400)
    await ada.with_two_factor()
    begun = await world.ask("POST", path, {"email": ada.email}, 202)
    right = {"challenge": begun["challenge"], "code": world.code(ada.email)}
    await world.ask("POST", f"{path}/code", right | {"second_code": "000000"}, 401)
    await world.ask("POST", f"{path}/code", right | {"second_code": await ada.wait_for_code()})
    await world.ask("POST", path, {"email": ada.email}, 202)
    link = world.link(ada.email, f"{path}/")
    await world.ask("HEAD", link)
    await world.ask("GET", link)
    await world.ask("POST", link, status=401)
    await world.ask("POST", link, {"code": await ada.wait_for_code()})
    await world.ask("POST", link, status=400)
    await world.ask("GET", link, status=400)
    await world.ask("HEAD", link, status=404)


@step
async def signs_in_by_mail_on_the_pages(world: World) -> None:
    visitor, other, ada = await world.visitor(), await world.visitor(), await world.ada()
    page = "/account/sign-in/mail"
    await visitor.open(page)
    await visitor.submit("sign-in/mail", email="no address")
    await visitor.submit("sign-in/mail", email=ada.email)
    await visitor.submit("mail/code", code=world.wrong_code(ada.email))
    assert (await visitor.submit("mail/code", code=world.code(ada.email))).path == "/account/profile"
    await visitor.open(page)
    await visitor.submit("sign-in/mail", email=ada.email, remember="yes")
    link = world.link(ada.email, "/email-sign-in/")
    await other.open(link)
    assert (await other.submit("form")).path == "/account/profile"
    await other.open(link)


# Identities at others


@step
async def signs_in_at_others(world: World) -> None:
    acme, verifier = world.identities, "v" * 43

    async def comes_back(browser: httpx.AsyncClient, url: str, status: int = 303) -> str:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        answer = await browser.get(acme.authorize(asked))
        assert answer.status_code == status, answer.text
        return str(answer.headers.get("location"))

    async def signs_in(email: str | None, status: int = 303, **asked: Any) -> tuple[httpx.AsyncClient, str]:
        subject = hashlib.sha256(str(email).encode()).hexdigest()  # which names nobody
        acme.user(email, email_verified=status == 303, sub=subject)
        browser = (await world.visitor()).client
        begun = await browser.get("/auth/social/acme/start", params=asked)
        return browser, await comes_back(browser, begun.headers["location"], status)

    await world.ask("GET", "/auth/providers")
    assert (await look_at(world.auth, providers_of(world.auth)["acme"])).looks
    await world.ask("POST", "/auth/social/acme/start", {})
    email, known = world.address(), await world.ada()
    browser, _ = await signs_in(email, next="/notes")
    own = "/account/identities"
    for again, status in ((email, 303), (known.email, 303), (BOB, 200), (None, 200)):
        await signs_in(again, status)
    acme.claims["sub"] = "bob"
    acme.user(world.address())
    _, back = await signs_in(world.address(), code_challenge=s256(verifier))
    code = parse_qs(urlsplit(back).query)["social_code"][0]
    for status in (200, 400):
        body = {"social_code": code, "code_verifier": verifier}
        await world.ask("POST", "/auth/social/exchange", body, status)
    nonce = (await world.ask("POST", "/auth/social/acme/nonce"))["nonce"]
    body = {"id_token": acme.id_token(nonce), "nonce": nonce}
    await world.ask("POST", "/auth/social/acme/token", body)
    posted = await browser.post("/auth/social/acme/callback", data={"code": "c", "state": "s"})
    assert posted.status_code == 303
    acme.user(email)
    page = {"Origin": BASE, "Sec-Fetch-Site": "same-origin", "Accept": "application/json"}
    page["X-Requested-With"] = "fetch"
    for path in (f"{own}/acme/reauthenticate", f"{own}/acme"):
        if path == f"{own}/acme":
            acme.user(world.address())
        begun = await browser.post(path, json={}, headers=page)
        assert begun.status_code == 200, begun.text
        await comes_back(browser, begun.json()["url"])
    for identity in await Identity.filter(user__email=BOB):
        for method in ("PATCH", "DELETE"):
            body = {"keep": True} if method == "PATCH" else None
            answer = await browser.request(method, f"{own}/{identity.id}", json=body, headers=page)
            assert answer.status_code == 404, answer.text
    first, second = (await browser.get(own, headers=page)).json()
    for method, identity, status in (
        ("PATCH", first, 200),
        ("DELETE", first, 204),
        ("DELETE", second, 204),  # the mailbox is a way in
    ):
        body = {"keep": True} if method == "PATCH" else None
        answer = await browser.request(method, f"{own}/{identity['id']}", json=body, headers=page)
        assert answer.status_code == status, answer.text


@step
async def has_the_identities_looked_after(world: World) -> None:
    root, ada, acme = await world.ada(is_superuser=True), await world.ada(), world.identities
    acme.user(ada.email)
    nonce = (await world.ask("POST", "/auth/social/acme/nonce"))["nonce"]
    await world.ask("POST", "/auth/social/acme/token", {"id_token": acme.id_token(nonce), "nonce": nonce})
    path = f"/admin/users/{ada.id}/identities"
    (identity,) = await root.ask("GET", path)
    for stolen in await Identity.filter(user__email=BOB):
        await root.ask("DELETE", f"{path}/{stolen.id}", status=404)
        theirs = f"/admin/users/{stolen.user_id}/identities"
        await ada.ask("GET", theirs, status=403)
        await ada.ask("DELETE", f"{theirs}/{stolen.id}", status=403)
    for status in (204, 404):
        await root.ask("DELETE", f"{path}/{identity['id']}", status=status)


async def there_and_back(world: World, visitor: Forms, link: str) -> Page:
    """Follows a link to the provider, from which the browser comes back."""
    begun = await visitor.client.get(link)
    location = begun.headers["location"]
    assert location.startswith(world.identities.issuer), location
    asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    return await visitor.open(world.identities.authorize(asked))


@step
async def connects_others_on_the_pages(world: World) -> None:
    visitor, ada = await world.visiting()
    acme, section = world.identities, "/account/security"
    acme.expires_in = 30  # so that it is renewed

    async def follow(of: str) -> Page:
        (link,) = [link for link in visitor.page.links if f"/acme/{of}?" in link]
        return await there_and_back(world, visitor, link)

    await visitor.open(f"{section}/identities/acme/connect?token=nonsense")
    await visitor.open(section)
    acme.fail()
    page = await follow("connect")
    assert page.path == f"{section}/identities"
    acme.user(world.address())
    assert "identity_linked" in str((await follow("connect")).answer.url)
    await visitor.open("/account/confirm-password")
    acme.fail()
    page = await follow("confirm")
    assert page.path == f"{section}/identities/unconfirmed"
    acme.user(str((await Identity.get(user_id=ada.id)).email))
    await follow("confirm")
    assert await world.auth.provider_token(await world.auth.tables.user.get(id=ada.id), "acme")
    await Identity.filter(user_id=ada.id).update(held_since=world.clock())
    await visitor.open(section)
    for identity in await Identity.filter(user__email=BOB):
        for what in ("keep", "disconnect"):
            page = await visitor.submit(f"identities/{what}", identity=str(identity.id))
            assert page.status == 404, page.text
    assert (await visitor.submit("identities/keep")).status == 200
    assert (await visitor.submit("identities/disconnect")).status == 200
    assert not await Identity.filter(user_id=ada.id).exists()


@step
async def shows_an_address_that_others_do_not_vouch_for(world: World) -> None:
    acme, known = world.identities, await world.ada()
    for email, sub in ((world.address(), "somebody new"), (known.email, "somebody known")):
        acme.user(BOB, email_verified=False, sub=sub)
        visitor = await world.visitor()
        await there_and_back(world, visitor, "/auth/social/acme/start")
        await visitor.submit("social/address", email="no address")
        await visitor.submit("social/address", email=email)
        await visitor.submit("social/address")
        await visitor.submit("social/code", code=world.wrong_code(email))
        assert (await visitor.submit("social/code", code=world.code(email))).path == "/account/profile"
    verifier, email = "v" * 43, world.address()
    acme.user(None, sub="somebody with an app")
    browser = (await world.visitor()).client
    begun = await browser.get("/auth/social/acme/start", params={"code_challenge": s256(verifier)})
    asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.headers["location"]).query).items()}
    back = await browser.get(acme.authorize(asked))
    (token,) = parse_qs(urlsplit(back.headers["location"]).query)["social_address"]
    path = "/auth/social/address"
    await world.ask("POST", path, {"social_address": "nonsense", "email": email}, 400)
    sent = await world.ask("POST", path, {"social_address": token, "email": email}, 202)
    body = {"challenge": sent["challenge"], "code_verifier": verifier}
    for code, status in ((world.wrong_code(email), 400), (world.code(email), 200), (world.code(email), 400)):
        await world.ask("POST", f"{path}/code", body | {"code": code}, status)


# Personal tokens, and what has happened


@step
async def uses_personal_tokens(world: World) -> None:
    ada = await world.ada(permissions=["notes:read"])
    body = {"name": "build", "scopes": ["notes:read"]}
    await ada.ask("POST", "/account/tokens", body | {"scopes": ["notes:write"]}, 400)
    made = await ada.ask("POST", "/account/tokens", body, 201)
    await world.ask("GET", "/notes", Authorization=f"Bearer {made['token']}")
    await world.ask("GET", "/notes", status=401, Authorization=f"Bearer {made['token'][:-1]}x")
    async with world.setting(max_personal_tokens=1):
        await ada.ask("POST", "/account/tokens", body, 409)
    assert len(await ada.ask("GET", "/account/tokens")) == 1
    for token in await world.auth.tables.of(PersonalToken).filter(user__email=BOB):
        await ada.ask("DELETE", f"/account/tokens/{token.id}", status=404)
    await ada.ask("DELETE", f"/account/tokens/{made['id']}", status=204)
    await ada.ask("DELETE", f"/account/tokens/{made['id']}", status=404)


@step
async def lets_a_device_in_and_refuses_another(world: World) -> None:
    visitor, _ = await world.visiting(permissions=["notes:read"])
    kinds = [AUTHORIZATION_CODE, DEVICE_CODE]
    made = await clients.create_client(world.auth, "CLI", [REDIRECT], grant_types=kinds)
    device = Program(world.client, made.client.client_id)
    for decision in ("deny", "allow"):
        codes = (await device.begin(resource=f"{BASE}/notes")).json()
        await device.poll(codes["device_code"])
        await visitor.open("/account/device")
        await visitor.submit("user_code", user_code="BCDF-GHJK")
        await visitor.submit("user_code", user_code=codes["user_code"])
        page = visitor.page
        for id in await OAuthDevice.filter(client__name="Bob's tool").values_list("id", flat=True):
            visitor.page = page
            await visitor.submit("decide", device=str(id), decision=decision)
        visitor.page = page
        await visitor.submit("decide", decision=decision)
        await device.poll(codes["device_code"])
    assert (await device.get("/notes")).status_code == 200
    await device.poll("odc_" + "x" * 43)
    await visitor.open("/account/device/decide")


@step
async def connects_an_application_and_removes_it(world: World) -> None:
    visitor, ada = await world.visiting(permissions=["notes:read"])
    root = await world.ada(is_superuser=True)
    made = await clients.create_client(world.auth, "Desk", [REDIRECT])
    program = Program(world.client, made.client.client_id)
    asked = {"resource": f"{BASE}/notes", "prompt": "consent"}
    stolen = [*await OAuthClient.filter(name="Bob's tool").values_list("id", "client_id")]
    for _, client_id in stolen:  # a code, access token or secret of which Ada has not
        page = await visitor.open(Program(world.client, client_id).address(**asked))
        assert page.status in (200, 400)
    answer = answer_in(await program.authorize(visitor, "deny", **asked))
    assert answer["error"] == "access_denied"
    await program.exchange("oac_" + "x" * 43)
    await program.connect(visitor, **asked)
    assert (await program.get("/notes")).status_code == 200
    assert (await program.refresh()).status_code == 200
    assert (await program.revoke(program.tokens["access_token"])).status_code == 200
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource/notes"):
        await world.ask("GET", path)
        await world.ask("OPTIONS", path, status=204)
    await world.ask("OPTIONS", "/oauth/token", status=204)

    own, theirs = "/account/applications", f"/admin/users/{ada.id}/applications"
    (application,) = await ada.ask("GET", own)
    assert len(await root.ask("GET", theirs)) == 1
    given = await testing.give_token(world.auth, await User.get(id=ada.id), ["notes:read"], "/notes")
    assert await verifying.verify_oauth_token(world.auth, given, "/notes")
    asked_out = [("client_id", made.client.client_id)]
    assert (await end_session.read_logout(world.auth, asked_out, None)).client is not None
    for each, _ in stolen:
        await ada.ask("DELETE", f"{own}/{each}", status=404)
        await root.ask("DELETE", f"{theirs}/{each}", status=404)
        await visitor.open("/account/security/applications")
        await visitor.submit("applications/remove", application=str(each))
    await ada.ask("DELETE", f"{own}/{application['id']}", status=204)
    await program.connect(visitor, **asked)
    await root.ask("DELETE", f"{theirs}/{application['id']}", status=204)
    await program.connect(visitor, **asked)
    await visitor.open("/account/security/applications/remove")
    await visitor.open("/account/security/applications")
    await visitor.submit("applications/remove", application=str(made.client.id))
    assert (await program.get("/notes")).status_code == 401
    page = await visitor.open(program.address(**asked))
    await visitor.submit("sign-out")  # to use another account


@step
async def acts_as_a_client_for_itself(world: World) -> None:
    made = await clients.create_client(
        world.auth, "Nightly", [], confidential=True, grant_types=[CLIENT_CREDENTIALS]
    )
    machine = Program(world.client, made.client.client_id, made.secret)
    asked = {"grant_type": "client_credentials", "resource": f"{BASE}/notes"}
    given = await machine.post("/oauth/token", **asked)
    token = given.json()["access_token"]
    assert (await machine.post("/oauth/token", **asked, scope="nothing")).status_code == 400
    assert (await machine.post("/oauth/introspect", token=token)).json()["active"]
    assert (await machine.get("/notes", token)).status_code == 401
    assert (await machine.revoke(token)).status_code == 200
    assert not (await machine.post("/oauth/introspect", token=token)).json()["active"]
    await clients.delete_client(world.auth, machine.client_id)


@step
async def registers_clients(world: World) -> None:
    auth, root = world.auth, await world.ada(is_superuser=True)
    body = {"name": "Desk", "redirect_uris": [REDIRECT], "confidential": True}
    made = await root.ask("POST", "/admin/oauth/clients", body, 201)
    assert await root.ask("GET", "/admin/oauth/clients")
    path = f"/admin/oauth/clients/{made['id']}"
    client_id = made["client_id"]
    await root.ask("POST", f"{path}/rotate-secret")
    for change in ("disable", "enable"):
        await root.ask("POST", f"{path}/{change}")
    client = await clients.client_named(auth, client_id)
    assert await clients.count_grants(auth, client) == 0
    await world.run("oauth", "clients", "list")
    await world.run("oauth", "clients", "show", client_id)
    await world.run("oauth", "clients", "rotate", client_id)
    await world.run("oauth", "clients", "delete", "--yes", client_id)
    await root.ask("DELETE", path, status=404)
    await world.run("oauth", "clients", "create", "Desk", "--redirect-uri", REDIRECT)


@step
async def registers_a_client_without_an_account(world: World) -> None:
    said = {"client_name": "Bob's tool", "redirect_uris": [REDIRECT]}
    made = await world.ask("POST", "/oauth/register", said, 201)
    own = {"Authorization": f"Bearer {made['registration_access_token']}"}
    path = f"/oauth/register/{made['client_id']}"
    stolen = await OAuthClient.all().values_list("client_id", flat=True)
    for client_id in {*stolen} - {made["client_id"]}:  # the registration token of which it has not
        other = f"/oauth/register/{quote(str(client_id), safe='')}"
        body = {**said, "client_id": client_id}
        for method, sent in (("GET", None), ("PUT", body), ("DELETE", None)):
            answer = await world.client.request(method, other, json=sent, headers=own)
            assert answer.status_code in (401, 404)  # 404 for an address, which is no id of a path
    for address in ("/oauth/register", path):
        await world.ask("OPTIONS", address, status=204)
    for method, sent, status in (("GET", None, 200), ("PUT", {**said, "client_id": made["client_id"]}, 200)):
        answer = await world.client.request(method, path, json=sent, headers=own)
        assert answer.status_code == status
    assert (await world.client.delete(path, headers=own)).status_code == 204


@step
async def signs_in_on_the_docs_page(world: World) -> None:
    ada = await world.ada()
    for password, status in (("wrong", 400), (PASSWORD, 200)):
        form = {"grant_type": "password", "username": ada.email, "password": password}
        answer = await world.client.post("/auth/docs-login", data=form)
        assert answer.status_code == status, answer.text


@step
async def uses_personal_tokens_on_the_pages(world: World) -> None:
    visitor, _ = await world.visiting()
    await visitor.open("/account/security/tokens")
    await visitor.submit("scopes", name="build")
    page = await visitor.submit("scopes", name="build", scopes="notes:read", days="30")
    assert "pat_" in page.text
    for token in await world.auth.tables.of(PersonalToken).filter(user__email=BOB):
        await visitor.open("/account/security/tokens")
        await visitor.submit("revoke", token=str(token.id))
    await visitor.open("/account/security/tokens")
    (button,) = [each for form in visitor.page.forms for each in form.buttons if "value" in each]
    await visitor.submit("revoke", token=button["value"])
    await visitor.open("/account/security/activity")
    for form in ("security/tokens/create", "security/tokens/revoke", "profile/export"):
        await visitor.open(f"/account/{form}")


@step
async def looks_around(world: World) -> None:
    ada = await world.ada()
    assert (await ada.ask("GET", "/account/activity"))["events"]
    await world.ask("GET", "/.well-known/jwks.json")
    await world.ask("GET", "/.well-known/passkey-endpoints")
    await world.ask("GET", "/auth/passkey/passkeys.js")
    await world.ask("GET", "/.well-known/change-password", status=303)
    for path in ("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"):
        await world.ask("GET", path)
        await world.ask("HEAD", path)
    for path in ("", "/1", "/1/html"):
        await world.ask("GET", f"/dev/mailbox{path}")


# Administration


@step
async def is_administrated(world: World) -> None:
    root, ada = await world.ada(is_superuser=True), await world.ada()
    path = f"/admin/users/{ada.id}"
    await root.ask("GET", "/admin/users?search=ada&role=editor&active=true&verified=true")
    await root.ask("GET", path)
    await root.ask("GET", f"/admin/users/{uuid4()}", status=404)
    await root.ask("POST", f"{path}/grant", {"roles": ["editor"], "permissions": ["notes:read"]})
    await root.ask("POST", f"{path}/grant", {"roles": ["nothing"]}, 400)
    await root.ask("POST", f"{path}/revoke", {"roles": ["editor"]})
    await ada.login("wrong", 401)
    await root.ask("POST", f"{path}/unlock", status=204)
    await ada.with_two_factor()
    await root.ask("POST", f"{path}/reset-two-factor", status=204)
    await ada.login()
    await root.ask("POST", f"{path}/end-sessions", status=204)
    await ada.login()
    await root.ask("POST", f"{path}/require-password-reset", status=204)
    await root.ask("POST", f"{path}/disable", status=204)
    await root.ask("POST", f"{path}/enable", status=204)
    await root.ask("POST", f"/admin/users/{root.id}/disable", status=409)
    await ada.ask("GET", "/admin/users", status=401)
    await root.ask("GET", f"{path}/activity")
    await root.ask("GET", f"/admin/activity?actor={root.id}")
    await root.ask("DELETE", path, status=204)


@step
async def is_invited(world: World) -> None:
    root, email = await world.ada(is_superuser=True), world.address()
    for _ in range(2):
        await root.ask("POST", "/admin/invitations", {"email": email, "roles": ["editor"]}, 201)
    await root.ask("POST", "/admin/invitations", {"email": BOB}, 400)
    link = world.link(email)
    await world.ask("GET", link)
    await world.ask("HEAD", link)
    await world.ask("POST", link, {"new_password": "password1"}, 422)
    await world.ask("POST", link, {"new_password": NEW})
    await world.ask("POST", link, {"new_password": NEW}, 400)


@step
async def invites_on_the_page(world: World) -> None:
    visitor, ada = await world.visiting()
    await User.filter(id=ada.id).update(is_superuser=True)
    email = world.address()
    await visitor.open("/account/invite")
    await visitor.submit("invite", email=BOB)
    await visitor.submit("invite", email=email, roles="editor")
    invited = await world.visitor()
    await invited.open(world.link(email))
    await invited.submit("new_password", new_password="short")
    await invited.submit("new_password", new_password=NEW)


@step
async def may_not_administrate(world: World) -> None:
    helper = await world.ada(permissions=["accounts:read", "accounts:write", "accounts:impersonate"])
    for user in await User.filter(email__in=[BOB, DORA]):
        for what in ("disable", "end-sessions", "impersonate", "grant"):
            await User.filter(id=user.id).exists()
            if user.email == BOB:  # who may more
                await helper.ask("POST", f"/admin/users/{user.id}/{what}", {"roles": []}, 403)
    ada = await world.ada()
    await ada.ask("GET", "/admin/users", status=403)


@step
async def is_acted_for(world: World) -> None:
    root, ada = await world.ada(is_superuser=True), await world.ada()

    async def acting() -> Ada:
        tokens = await root.ask("POST", f"/admin/users/{ada.id}/impersonate")
        return Ada(world, ada.id, ada.email, tokens["access_token"], tokens["refresh_token"])

    acted = await acting()
    await acted.ask("PATCH", "/account", {"display_name": "A."})
    await acted.ask("POST", "/auth/2fa/enable", status=403)
    await acted.rotate()
    await acted.ask("POST", "/account/logout-others", status=204)
    await acted.ask("POST", "/auth/logout")
    await ada.login()
    for end in ("rights", "demoted", "session", "deleted"):
        acted = await acting()
        await acted.ask("GET", "/auth/me")
        if end == "rights":
            await root.ask("POST", f"/admin/users/{ada.id}/grant", {"superuser": True})
            await acted.ask("GET", "/auth/me", status=401)
            await root.ask("POST", f"/admin/users/{ada.id}/revoke", {"superuser": True})
        elif end == "demoted":
            await User.filter(id=root.id).update(is_superuser=False)
            await acted.rotate(status=401)
            await User.filter(id=root.id).update(is_superuser=True)
        elif end == "session":
            await root.ask("POST", "/auth/logout")
            await root.login()
        else:
            await root.ask("DELETE", "/account", status=204)
        await acted.ask("GET", "/auth/me", status=401)


# Commands and scripts


@step
async def is_managed_by_commands(world: World) -> None:
    email = world.address()
    await world.run("users", "create", email, "--no-password", "--verified", "--role", "editor")
    await world.run("users", "list", "--search", "ada", "--json")
    for command in (
        "show",
        "disable",
        "enable",
        "verify",
        "unlock",
        "reset-2fa",
        "reset-passkeys",
        "reset-identities",
        "logout",
    ):
        await world.run("users", command, email)
        await world.run("users", command, "nobody@example.com", status=1)
    await world.run("users", "mail-link", email, status=1)  # without the app
    for command in ("grant", "revoke"):
        await world.run("users", command, email, "--role", "editor", "--permission", "notes:read")
    await world.run("users", "set-password", email, "--password-stdin", typed=f"{PASSWORD}\n")
    await world.run("users", "delete", "--yes", email)
    for _ in range(2):
        await world.run("users", "invite", email, "--role", "editor")
    await world.run("users", "invite", BOB, status=1)


@step
async def is_imported(world: World) -> None:
    path, known = world.folder / "users.csv", await world.ada()
    hashed = django_pbkdf2_sha256.using(rounds=1000).hash(PASSWORD)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["email", "hashed_password", "display_name", "is_superuser"])
        for email in (BOB, known.email, world.address(), world.address(), "no address"):
            rows.writerow([email, hashed, "Imported", ""])
    await world.run("users", "import", str(path), status=1)
    await world.run("users", "import", str(path), status=1)


@step
async def has_the_secret_sealed(world: World) -> None:
    ada = await world.ada()
    await User.filter(id=ada.id).update(totp_secret="JBSWY3DPEHPK3PXP", totp_confirmed=True)
    await world.run("keys", "seal")
    assert (await User.filter(id=ada.id).values_list("totp_secret", flat=True)) != ["JBSWY3DPEHPK3PXP"]


@step
async def gets_mails(world: World) -> None:
    ada, outbox, kind = await world.ada(), world.auth.outbox, MailKind.PASSWORD_CHANGED
    async with world.setting(email_max_age=timedelta(days=1)):
        await outbox.add(kind, ada.email, user_id=ada.id, when="now")
        await outbox.add(kind, ada.email, user_id=ada.id, when="now")
        first, second = [mail for mail in await outbox.claim(9) if mail.recipient == ada.email]
        await outbox.mark_failed(first, "no", permanent=True)
        await outbox.mark_failed(second, "no", permanent=False)
        await world.run("mail", "list")
        await world.run("mail", "retry", str(first.id))
        world.clock.advance(seconds=60)
        for mail in await outbox.hand_over(5):
            (claimed,) = await outbox.claim(1, [mail.id])
            await outbox.drop(claimed)
        await outbox.add(kind, ada.email, user_id=ada.id, when="now")
        world.clock.advance(days=2)
        await outbox.claim(5)
    assert await world.auth.dispatcher.deliver_due() == 0


@step
async def expires_and_is_purged(world: World) -> None:
    ada = await world.ada()
    await ada.login(device=None)
    await ada.ask("POST", "/account/tokens", {"name": "build", "scopes": ["notes:read"]}, 201)
    await ada.login("wrong", 401)
    await world.run("status", "--json")
    body = {"email": world.address(), "password": PASSWORD}
    await world.ask("POST", "/auth/signup", body, 201)
    world.clock.advance(days=800)
    await world.run("purge")
    async with world.setting(unverified_account_ttl=timedelta(days=7)):
        assert (await purge.purge(world.auth))["user"] > 0


@step
async def is_served_by_scripts(world: World) -> None:
    """What no route calls."""
    auth, ada = world.auth, await world.ada()
    assert (await users.find_user(auth, ada.email)).id == ada.id
    assert await sessions.count_sessions(auth, ada.id) == 1
    assert sum(await sealing.count_secrets(auth)) > 0
    await guesses.forget_codes(auth, ada.id)
    assert await mail_link(auth, await User.get(id=ada.id))
    await ada.login(device=None)
    device = devices.Device(ada.device)
    known = await devices.known_device(auth, await User.get(id=ada.id), device)
    assert known is not None
    await devices.forget_device(auth, known)
    now = world.clock()
    counted = await counters.store(auth, "7" * 64, None, Counter(1, now, now))
    assert counted is not None
    assert await counters.delete(auth, counted)
    await throttle.forget(auth, throttle.Key.of("passwords", ada.id))
    world.clock.advance(days=800)
    assert sum((await purge.purge(auth)).values()) > 0


# The tests


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    """All that an app can have."""
    values = {
        "cookies": True,
        "totp_encryption_key": SECRET,
        "email_provider": "memory",
        "public_base_url": BASE,
        "dev_mailbox": True,
        "prevent_enumeration": False,
        "require_verified_email": False,
    }
    for name, value in values.items():
        setattr(settings, name, value)
    return settings


@pytest.fixture
def identities() -> Iterator[IdentityProvider]:
    """Where Ada signs in as well."""
    with IdentityProvider().serving() as provider:
        yield provider


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.full)], ids=["", "transactions"])
def app(
    request: pytest.FixtureRequest, settings: AuthSettings, clock: Clock, identities: IdentityProvider
) -> FastAPI:
    """A host app with all that can be turned on, and routes of its own. It may wrap each request in a
    transaction that a refusal rolls back."""
    app = FastAPI()
    include_auth(
        app,
        settings=settings,
        clock=clock,
        pages=True,
        roles={"editor": ["notes:write"]},
        features=[
            Administration(),
            PersonalTokens(scopes={"notes:read": "Read notes"}),
            AuditLog(),
            EmailSignIn(),
            OAuthServer(
                resources=["/notes"],
                settings=OAuthSettings(_env_file=None, oauth_registration=True),  # type: ignore[call-arg]
            ),
            Passkeys(),
            SocialLogin(
                Oidc(
                    "acme",
                    issuer=identities.issuer,
                    client_id=CLIENT_ID,
                    client_secret=CLIENT_SECRET,
                    store_tokens=True,
                )
            ),
        ],
    )

    @app.get("/reports", include_in_schema=False)
    async def reports(user: PageUser) -> str:
        return user.email

    @app.get("/notes")
    async def notes(user: Annotated[User, Depends(require(scope="notes:read"))]) -> str:
        return user.email

    if request.param:
        wrap_by_dispatch(app, "default")
    return app


def walk(routes: list[Any]) -> Iterator[tuple[str, str]]:
    """Method and path of each route, also of routers in it."""
    for route in routes:
        for method in getattr(route, "methods", None) or ():
            yield method, route.path
        if (router := getattr(route, "original_router", None)) is not None:
            yield from walk(router.routes)


def leaves() -> set[tuple[str, ...]]:
    """Every command with its subcommand."""

    def below(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        chosen = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
        for choices in (each.choices for each in chosen):
            for name, deeper in choices.items():
                yield from below(deeper, (*names, name))
        if not chosen:
            yield names

    found: set[tuple[str, ...]] = set()
    for name, (_, add_to) in COMMANDS.items():
        parser = argparse.ArgumentParser()
        add_to(parser)
        found |= {*below(parser, (name,))}
    return found


class ReadsFromCopy:
    """A router of the host for all models, whose replica has fallen behind for good."""

    def db_for_read(self, model: type[Model]) -> str:
        return COPY


@pytest.fixture
async def world(
    app: FastAPI,
    identities: IdentityProvider,
    auth: Auth,
    settings: AuthSettings,
    clock: Clock,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    """The app on tables in which only the bystanders are, and the copy that the router reads from."""
    copy = tmp_path / COPY
    config: dict[str, Any] = {
        # As the commands name the connection: models know one name of it.
        "connections": {"default": database.url},
        "apps": {"models": {"models": ["fastapi_pluggable_auth.models"], "default_connection": "default"}},
    }
    routed = database.dialect == "sqlite"
    if routed:
        config["connections"][COPY] = f"sqlite://{copy}"
        config["routers"] = [f"{__name__}.{ReadsFromCopy.__name__}"]
        (tmp_path / "routed.py").write_text(f"TORTOISE_ORM = {config}")
        monkeypatch.delitem(sys.modules, "routed", raising=False)
    environment = {
        "DATABASE_URL": "routed.TORTOISE_ORM" if routed else database.url,
        "JWT_SECRET": SECRET,
        "AUTH_TOTP_ENCRYPTION_KEY": SECRET,
        "AUTH_BCRYPT_ROUNDS": "4",
        "EMAIL_PROVIDER": "memory",
        "PUBLIC_BASE_URL": BASE,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    routes: set[tuple[str, str]] = set()

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        routes.add((scope["method"], getattr(scope.get("route"), "path", scope["path"])))

    transport = httpx.ASGITransport(noting, client=("127.0.0.1", 4321))
    EXECUTOR_CACHE.clear()  # it has the SQL of other dialects for connections of this name
    async with TortoiseContext() as context, httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        await context.init(config)
        for model in reversed([*auth.tables]):
            await model.all().delete()
        await settle(auth, await auth.hasher.hash(PASSWORD))
        if routed:
            await context.connections.get("default").execute_script(f"VACUUM INTO '{copy}'")
        world = World(app, auth, settings, clock, client, database.url, tmp_path, routes, identities)
        yield world
        for opened in world.opened:
            await opened.aclose()
    EXECUTOR_CACHE.clear()
    router.init_routers([])  # it is the process's


async def test_whatever_one_user_does_no_row_of_another_changes_and_no_copy_is_read(
    world: World, database: Database
) -> None:
    rows, called = Rows(world.auth, database.dialect), world.called
    await rows.keep()
    copied = world.copied()
    lacks = [name for model in world.auth.tables for name in lacking(model, await model.all())]
    assert not lacks, "no row of a bystander has another value there"
    offset = world.clock.offset
    for step in STEPS:
        with called.noticing():
            await step(world)
        world.clock.offset = offset
        world.clock.advance()
        assert not await rows.changes(), step.__name__
    left = [
        *(f"route {route}" for route in {*walk(world.app.routes)} - world.routes),
        *(f"flow {flow}" for flow in called.missing),
        *(f"command {names}" for names in leaves() - world.commands - NO_ROWS.keys()),
        *(f"form {form}" for form in world.shown - world.sent),
    ]
    assert not left, "these have no step"
    assert world.copied() == copied
    if copied:
        await get_connections().get(COPY).execute_query("SELECT 1")
        assert world.copied() != copied, "opening it leaves no trace"
