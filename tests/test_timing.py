"""How long an answer takes tells nothing about an account."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from passlib.hash import bcrypt, pbkdf2_sha256
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.models import User
from fastapi_pluggable_auth.security.hashing import hash_password

from .conftest import PASSWORD, Database, Mailbox
from .test_workers import Server

SAMPLES = 150
"""Of each kind. The standard error of the probability is then 0.03."""

ROUNDS = 8
"""Slow enough to be seen where one answer has a hash and another has none."""

Ask = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]


async def login(http: httpx.AsyncClient, email: str) -> httpx.Response:
    return await http.post("/auth/login", json={"email": email, "password": "wrong password"})


async def forgot(http: httpx.AsyncClient, email: str) -> httpx.Response:
    return await http.post("/auth/forgot-password", json={"email": email})


async def resend(http: httpx.AsyncClient, email: str) -> httpx.Response:
    return await http.post("/auth/verify/resend", json={"email": email})


async def signup(http: httpx.AsyncClient, email: str) -> httpx.Response:
    return await http.post("/auth/signup", json={"email": email, "password": PASSWORD})


async def email_sign_in(http: httpx.AsyncClient, email: str) -> httpx.Response:
    return await http.post("/auth/email-sign-in", json={"email": email})


async def forgot_with_code(http: httpx.AsyncClient, email: str) -> httpx.Response:
    return await http.post("/auth/forgot-password", json={"email": email, "mailed_code": True})


async def signup_with_code(http: httpx.AsyncClient, email: str) -> httpx.Response:
    body = {"email": email, "password": PASSWORD, "mailed_code": True}
    return await http.post("/auth/signup", json=body)


@pytest.fixture
async def http(
    database: Database, tortoise: TortoiseContext, mailbox: Mailbox
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of two workers that close signup, too, and keep the audit log."""
    server = Server(
        database,
        mailbox.server.port,
        AUTH_PREVENT_ENUMERATION="true",
        AUTH_BCRYPT_ROUNDS=str(ROUNDS),
        TEST_AUDIT_LOG="on",
        TEST_EMAIL_SIGN_IN="on",
    )
    async with httpx.AsyncClient(base_url=server.base, timeout=30) as http:
        yield http
    server.stop()


async def right_or_wrong(http: httpx.AsyncClient, email: str) -> httpx.Response:
    return await http.post("/auth/login", json={"email": email, "password": PASSWORD})


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    "case",
    [
        pytest.param("an older hash", marks=pytest.mark.full),
        "an imported hash",
        pytest.param("a signup of one's own", marks=pytest.mark.full),
    ],
)
async def test_no_history_of_an_account_shows_in_the_time(case: str, http: httpx.AsyncClient) -> None:
    """A-18: its hash was cheaper, or whoever asks has signed up with the address, new or taken. The audit
    log is on, which keeps what happens to accounts only."""
    present = hash_password("an owner's own", AuthSettings(_env_file=None, bcrypt_rounds=ROUNDS))
    own = hash_password(PASSWORD, AuthSettings(_env_file=None, bcrypt_rounds=ROUNDS))
    older = bcrypt.using(rounds=ROUNDS - 3).hash("an owner's own")
    imported = pbkdf2_sha256.using(rounds=4000).hash("an owner's own")
    known = {"an older hash": older, "an imported hash": imported, "a signup of one's own": own}[case]
    for number in range(SAMPLES):
        verified = case != "a signup of one's own"
        await User.create(email=f"known{number}@example.com", hashed_password=known, is_verified=verified)
        if not verified:
            taken = f"other{number}@example.com"
            await User.create(email=taken, hashed_password=present, is_verified=True)
    slower = await how_often_slower(right_or_wrong, http)
    assert 0.35 < slower < 0.65, slower


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    "ask",
    [
        login,
        pytest.param(forgot, marks=pytest.mark.full),
        pytest.param(resend, marks=pytest.mark.full),
        pytest.param(signup, marks=pytest.mark.full),
        pytest.param(email_sign_in, marks=pytest.mark.full),
        pytest.param(forgot_with_code, marks=pytest.mark.full),
        pytest.param(signup_with_code, marks=pytest.mark.full),
    ],
)
async def test_the_time_of_an_answer_tells_nothing_about_an_account(
    ask: Ask, http: httpx.AsyncClient
) -> None:
    """A-18: the probability that an answer about an account is slower than one about none."""
    hashed = hash_password(PASSWORD, AuthSettings(_env_file=None, bcrypt_rounds=ROUNDS))
    await User.bulk_create(
        [User(email=f"known{number}@example.com", hashed_password=hashed) for number in range(SAMPLES)]
    )
    slower = await how_often_slower(ask, http)
    assert 0.35 < slower < 0.65, slower


async def how_often_slower(ask: Ask, http: httpx.AsyncClient) -> float:
    """The probability that an answer about a known account is slower than one about another, interleaved."""
    for kind in ("warm", "known", "other"):
        for number in range(5):
            await ask(http, f"{kind}{number}@example.com")
    order = [kind for kind in ("known", "other") for _ in range(SAMPLES)]
    random.Random(1).shuffle(order)  # noqa: S311
    taken: dict[str, list[float]] = {"known": [], "other": []}
    for kind in order:
        started = time.perf_counter()
        answer = await ask(http, f"{kind}{len(taken[kind])}@example.com")
        taken[kind].append(time.perf_counter() - started)
        assert answer.status_code < 402
    return sum(known > other for known in taken["known"] for other in taken["other"]) / SAMPLES**2
