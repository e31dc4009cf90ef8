"""Nothing that an outsider does, in any order of requests, tells whether an address has an account."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

import httpx
import hypothesis
import pytest
from fastapi import FastAPI
from hypothesis import strategies as st
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings, include_auth
from fastapi_pluggable_auth.features import Administration, AuditLog
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.security.hashing import hash_password

from .conftest import PASSWORD, Clock, Mailbox
from .form_browser import BROWSER, FormBrowser, Page

# What is tested here is the same on every database.
DIALECTS = ("sqlite",)

OWNERS = "an owner's own passphrase"
KINDS = ("new", "taken", "unverified", "disabled", "reset")
_examples = count()


@pytest.fixture
def settings(settings: AuthSettings) -> AuthSettings:
    settings.prevent_enumeration = True
    settings.throttle_free_attempts, settings.mail_limit = 3, 2
    return settings


class Standing(Clock):
    """A busy machine must not let a pause pass for one kind of address alone."""

    def __call__(self) -> datetime:
        """A microsecond later each time."""
        self._last = max(self._last, datetime(2030, 1, 1, tzinfo=UTC)) + timedelta(microseconds=1)
        return self._last


@pytest.fixture
def clock() -> Clock:
    return Standing()


@pytest.fixture
def app(settings: AuthSettings, clock: Clock) -> FastAPI:
    app = FastAPI()
    include_auth(app, settings=settings, clock=clock, pages=True, features=[Administration(), AuditLog()])
    return app


@dataclass
class Outsider:
    """Somebody who tries things with an address, and what there was to see."""

    app: FastAPI
    email: str
    seen: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        transport = httpx.ASGITransport(self.app, client=("192.0.2.7", 4321))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://testserver")
        browser = httpx.ASGITransport(self.app, client=("192.0.2.7", 4321))
        self.browser = httpx.AsyncClient(transport=browser, base_url="http://testserver", headers=BROWSER)
        self.visitor = FormBrowser(self.browser)

    async def json(self, method: str, path: str, **body: object) -> None:
        answer = await self.client.request(method, path, json=body)
        self.note(answer)

    def note(self, answer: httpx.Response) -> None:
        text = answer.text.replace(self.email, "ADDRESS").replace(self.email.replace("@", "%40"), "ADDRESS")
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
        text = re.sub(r'name="csrf_token" value="[^"]*"', "TOKEN", text)
        text = re.sub(r'"challenge":"[\w-]{43}"', "CHALLENGE", text)
        kept = {name: answer.headers.get(name) for name in ("retry-after", "location", "content-language")}
        cookies = sorted(line.partition("=")[0] for line in answer.headers.get_list("set-cookie"))
        self.seen.append((answer.status_code, sorted(answer.headers), cookies, kept, text))

    def page(self, page: Page) -> None:
        self.note(page.answer)

    async def close(self) -> None:
        await self.client.aclose()
        await self.browser.aclose()


Step = Callable[[Outsider], Awaitable[None]]


def asks(method: str, path: str, **body: object) -> Step:
    async def step(who: Outsider) -> None:
        given = {name: who.email if value == "ADDRESS" else value for name, value in body.items()}
        await who.json(method, path, **given)

    step.__name__ = f"{method} {path} {body}"
    return step


async def sign_in_page(who: Outsider) -> None:
    await who.visitor.open("/account/sign-in")
    who.page(await who.visitor.submit("email", email=who.email, password=PASSWORD))


async def sign_up_page(who: Outsider) -> None:
    await who.visitor.open("/account/sign-up")
    who.page(await who.visitor.submit("email", email=who.email, new_password=PASSWORD))
    who.page(await who.visitor.submit("check-mail"))


async def forgot_page(who: Outsider) -> None:
    await who.visitor.open("/account/forgot-password")
    who.page(await who.visitor.submit("email", email=who.email))


async def wrong_code_page(who: Outsider) -> None:
    await forgot_page(who)
    for _ in range(6):
        who.page(await who.visitor.submit("code", code="000000"))


async def wrong_codes(who: Outsider) -> None:
    """By every way to get a challenge; the right code comes once in a million runs."""
    for path, code_path, more in (
        ("/auth/signup", "/auth/verify/code", {"password": PASSWORD}),
        ("/auth/verify/resend", "/auth/verify/code", {}),
        ("/auth/forgot-password", "/auth/reset-password/code", {}),
    ):
        answer = await who.client.post(path, json={"email": who.email, "mailed_code": True, **more})
        who.note(answer)
        body = {"challenge": answer.json().get("challenge", "none"), "code": "000000"}
        for _ in range(6):
            new = {"new_password": PASSWORD} if "reset" in code_path else {}
            await who.json("POST", code_path, **body, **new)


async def resend_page(who: Outsider) -> None:
    await who.visitor.open("/account/verify-email")
    who.page(await who.visitor.submit("email", email=who.email))


async def spelled_otherwise(who: Outsider) -> None:
    await who.json("POST", "/auth/signup", email=f" {who.email.upper()} ", password=PASSWORD)


async def in_german(who: Outsider) -> None:
    body = {"email": who.email, "password": PASSWORD}
    who.note(await who.client.post("/auth/signup", json=body, headers={"Accept-Language": "de"}))
    who.note(await who.client.get("/account/sign-in", headers=BROWSER))


STEPS: tuple[Step, ...] = (
    asks("POST", "/auth/signup", email="ADDRESS", password=PASSWORD),
    asks("POST", "/auth/signup", email="ADDRESS", password="password1"),
    asks("POST", "/auth/login", email="ADDRESS", password=PASSWORD),
    asks("POST", "/auth/login", email="ADDRESS", password=PASSWORD, code="123456"),
    asks("POST", "/auth/login", email="ADDRESS", password="not the password"),
    asks("POST", "/auth/forgot-password", email="ADDRESS"),
    asks("POST", "/auth/verify/resend", email="ADDRESS"),
    asks("POST", "/auth/reset-password/nonsense", new_password=PASSWORD),
    asks("GET", "/auth/verify/nonsense"),
    spelled_otherwise,
    in_german,
    sign_in_page,
    sign_up_page,
    forgot_page,
    resend_page,
    wrong_code_page,
    wrong_codes,
)


async def prepare(kind: str, email: str) -> None:
    if kind == "new":
        return
    own = hash_password(OWNERS, AuthSettings(_env_file=None, bcrypt_rounds=4))
    await User.create(
        email=email,
        hashed_password=own,
        is_verified=kind != "unverified",
        is_active=kind != "disabled",
        password_reset_required=kind == "reset",
    )


@hypothesis.settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
@hypothesis.example(steps=[STEPS[0], STEPS[2]])
@hypothesis.example(steps=[STEPS[0], *[STEPS[2]] * 6, STEPS[4]])
@hypothesis.example(steps=[STEPS[12], STEPS[11], STEPS[11], STEPS[2]])
@hypothesis.example(steps=[STEPS[-1], STEPS[-2], STEPS[-1], STEPS[-1]])
@hypothesis.example(steps=[*[STEPS[4]] * 4, STEPS[0], STEPS[2], STEPS[4]])
@hypothesis.example(steps=[*[STEPS[11]] * 4, STEPS[12], STEPS[2], STEPS[11]])
@hypothesis.given(steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=8))
async def test_no_sequence_of_requests_tells_whether_there_is_an_account(
    steps: list[Step], app: FastAPI, tortoise: TortoiseContext, mailbox: Mailbox
) -> None:
    """A-17, A-19, A-20, ASVS V6.3.8: status, body, names of headers and cookies are the same."""
    example = next(_examples)
    seen = {}
    for kind in KINDS:
        who = Outsider(app, f"{kind}{example}@example.com")
        await prepare(kind, who.email)
        for step in steps:
            await step(who)
        await who.close()
        seen[kind] = who.seen
    for kind in KINDS:
        assert seen[kind] == seen["new"], kind


async def test_the_owner_of_a_new_signup_gets_another_link_within_the_limit(
    client: httpx.AsyncClient, mailbox: Mailbox, settings: AuthSettings
) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD}
    await client.post("/auth/signup", json=body)
    mailbox.clear()
    settings.throttle_free_attempts = 100
    for _ in range(4):
        answer = await client.post("/auth/login", json=body)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    assert len(mailbox.messages) == settings.mail_limit
    assert (await client.get(mailbox.link())).status_code == 200
    assert (await client.post("/auth/login", json=body)).status_code == 200


async def test_a_wrong_password_of_an_unverified_account_mails_nothing(
    client: httpx.AsyncClient, mailbox: Mailbox
) -> None:
    await client.post("/auth/signup", json={"email": "ada@example.com", "password": PASSWORD})
    mailbox.clear()
    await client.post("/auth/login", json={"email": "ada@example.com", "password": "not the password"})
    assert mailbox.messages == []


async def test_another_address_of_an_account_tells_nothing_either(
    client: httpx.AsyncClient, mailbox: Mailbox, tortoise: TortoiseContext
) -> None:
    """A-30: whoever is signed in is an outsider to the accounts of others."""
    for name in ("eve", "mallory"):
        body = {"email": f"{name}@example.com", "password": PASSWORD}
        await client.post("/auth/signup", json=body)
        await client.get(mailbox.link(f"{name}@example.com"))
    await prepare("taken", "taken@example.com")
    seen = []
    for name, wanted in (("eve", "taken@example.com"), ("mallory", "new@example.com")):
        login = await client.post("/auth/login", json={"email": f"{name}@example.com", "password": PASSWORD})
        headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
        answers = [await client.patch("/account", json={"email": wanted}, headers=headers) for _ in range(4)]
        answers.append(await client.get("/account", headers=headers))
        answers.append(await client.post("/auth/verify/resend", json={"email": wanted}))
        texts = [
            re.sub(r'"id":"[^"]*"', "", each.text).replace(name, "").replace(wanted, "") for each in answers
        ]
        seen.append(
            [
                (each.status_code, sorted(each.headers), text)
                for each, text in zip(answers, texts, strict=True)
            ]
        )
    assert seen[0] == seen[1]


def test_a_setting_that_lets_signups_tell_is_named_at_the_start(
    settings: AuthSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.require_verified_email = False
    include_auth(FastAPI(), settings=settings)
    assert "AUTH_PREVENT_ENUMERATION needs AUTH_REQUIRE_VERIFIED_EMAIL" in caplog.text
