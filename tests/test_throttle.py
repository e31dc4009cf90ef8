"""Guessing is slowed down, and nobody is locked out by it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import pyotp
import pytest
from fastapi import FastAPI
from tortoise.context import TortoiseContext

from fastapi_pluggable_auth import Auth, AuthSettings, include_auth
from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox, on_one_database
from .test_password import NEW, forgot, reset


@pytest.fixture(autouse=True)
def strict(settings: AuthSettings) -> None:
    """The limits as they are by default."""
    defaults = AuthSettings.model_fields
    settings.throttle_free_attempts = defaults["throttle_free_attempts"].default
    settings.mail_limit = defaults["mail_limit"].default


async def guess(
    client: httpx.AsyncClient, email: str = EMAIL, password: str = "wrong password"
) -> httpx.Response:
    return await client.post("/auth/login", json={"email": email, "password": password})


async def lock(account: Account) -> int:
    """Guesses until it has to wait; gives the seconds."""
    while (answer := await guess(account.client)).status_code != 429:
        assert answer.status_code == 401
    return int(answer.headers["retry-after"])


async def test_guesses_have_to_wait_longer_and_longer_and_then_go_on(
    account: Account, auth: Auth, clock: Clock
) -> None:
    """A-13, A-14."""
    now = clock()
    auth.clock = lambda: now  # on a busy machine a second may pass between two guesses
    statuses = [(await guess(account.client)).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    refusal = await guess(account.client, password=PASSWORD)
    assert (refusal.status_code, refusal.json()["code"]) == (429, "throttled")
    assert refusal.headers["retry-after"] == "1"
    waits = []
    for _ in range(14):
        wait = await lock(account)
        waits.append(wait)
        now += timedelta(seconds=wait, milliseconds=1)
        assert (await guess(account.client)).status_code == 401
    assert waits == sorted(waits)
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == 15 * 60
    now += timedelta(minutes=15, seconds=1)
    assert (await guess(account.client, password=PASSWORD)).status_code == 200


async def test_a_right_password_starts_the_count_anew(account: Account) -> None:
    for _ in range(3):
        for _ in range(4):
            assert (await guess(account.client)).status_code == 401
        assert (await account.login()).status_code == 200


async def test_a_quiet_day_forgets_wrong_guesses(account: Account, clock: Clock) -> None:
    for _ in range(5):
        await guess(account.client)
    clock.advance(hours=24, seconds=2)
    assert [(await guess(account.client)).status_code for _ in range(5)] == [401] * 5


async def test_the_owner_goes_on_while_the_account_is_attacked(account: Account, mailbox: Mailbox) -> None:
    """A-14: sessions, refresh and reset work; a reset opens the door again."""
    await lock(account)
    assert (await account.me()).status_code == 200
    assert (await account.refresh()).status_code == 200
    assert (await reset(account.client, await forgot(account.client, mailbox))).status_code == 200
    assert (await guess(account.client, password=NEW)).status_code == 200


@on_one_database
async def test_the_throttle_tells_nothing_about_an_account(account: Account, clock: Clock) -> None:
    """A-20: known, unknown, disabled, in any spelling: one sequence."""
    await account.client.post("/auth/signup", json={"email": "off@example.com", "password": PASSWORD})
    await User.filter(email="off@example.com").update(is_active=False)
    sequences = set()
    for email in (EMAIL, "nobody@example.com", "off@example.com"):
        sequence = []
        for number in range(12):
            answer = await guess(account.client, email.upper() if number % 2 else email)
            sequence.append((answer.status_code, answer.content, answer.headers.get("retry-after")))
            clock.advance(seconds=2)
        sequences.add(tuple(sequence))
    assert len(sequences) == 1


async def test_of_many_guesses_at_once_no_more_are_made_than_allowed(
    account: Account, settings: AuthSettings
) -> None:
    """R-20: counted before the password is looked at."""
    settings.throttle_first_pause = timedelta(hours=1)  # longer than this takes
    answers = await asyncio.gather(*(guess(account.client) for _ in range(100)))
    assert Counter(answer.status_code for answer in answers) == {401: 5, 429: 95}
    right = [guess(account.client, password=PASSWORD) for _ in range(5)]
    assert {answer.status_code for answer in await asyncio.gather(*right)} == {429}


async def test_every_way_to_guess_in_a_session_counts_on_it_and_the_twentieth_ends_it(
    account: Account,
) -> None:
    """A-08: no pause holds the owner up, and a thief gets no further."""
    other = Account(account.client, account.mailbox, EMAIL, PASSWORD)
    await other.login()
    await account.client.post("/auth/2fa/enable", headers=account.headers)
    wrong = [
        ("/auth/2fa/verify", {"code": "000000"}, 400),
        ("/auth/reauthenticate", {"password": "wrong password"}, 403),
        ("/account/change-password", {"old_password": "wrong password", "new_password": NEW}, 403),
        ("/auth/2fa/verify", {"code": "000001"}, 400),
        ("/auth/2fa/verify", {"code": "000002"}, 400),
    ]
    for path, body, status in wrong * 4:
        assert (await account.me()).status_code == 200
        answer = await account.client.post(path, json=body, headers=account.headers)
        assert answer.status_code == status, path
    assert (await account.me()).status_code == 401
    assert (await account.refresh()).status_code == 401
    assert (await other.me()).status_code == 200
    assert (await account.login()).status_code == 200


async def two_factor(account: Account, clock: Clock) -> pyotp.TOTP:
    """Switches it on."""
    await account.client.post("/auth/2fa/enable", headers=account.headers)
    totp = pyotp.TOTP((await User.get()).totp_secret or "")
    body = {"code": totp.at(clock())}
    answer = await account.client.post("/auth/2fa/verify", json=body, headers=account.headers)
    assert answer.status_code == 200
    return totp


async def test_codes_are_guessed_as_slowly_as_passwords(account: Account, clock: Clock) -> None:
    """A-71: neither a missing code nor a new try sets the count back."""
    totp = await two_factor(account, clock)
    assert (await account.login(totp.at(clock()))).status_code == 200
    clock.advance(minutes=2)
    for number in range(5):
        assert (await account.login()).json()["code"] == "two_factor_required"
        assert (await account.login(f"00000{number}")).json()["code"] == "invalid_credentials"
    for pause in (2, 4, 8):  # up to one that the requests below do not outlast
        clock.advance(seconds=pause)
        assert (await account.login("000009")).json()["code"] == "invalid_credentials"
    for code in (None, "000000", totp.at(clock())):
        assert (await account.login(code)).status_code == 429
    clock.advance(seconds=10)
    assert (await account.login(totp.at(clock()))).status_code == 200


@on_one_database
async def test_asking_for_a_code_is_no_guess(account: Account, clock: Clock) -> None:
    totp = await two_factor(account, clock)
    await account.login(totp.at(clock()))
    for _ in range(20):
        assert (await account.login()).json()["code"] == "two_factor_required"


@on_one_database
async def test_a_right_password_of_an_unverified_account_is_no_guess(
    client: httpx.AsyncClient, settings: AuthSettings, tortoise: TortoiseContext
) -> None:
    settings.throttle_free_attempts = 2
    credentials = {"email": EMAIL, "password": PASSWORD}
    await client.post("/auth/signup", json=credentials)
    answers = [(await client.post("/auth/login", json=credentials)).json()["code"] for _ in range(6)]
    assert answers == ["email_not_verified"] * 6


@on_one_database
async def test_nobody_is_bombed_with_mail(account: Account, mailbox: Mailbox, clock: Clock) -> None:
    """A-32: at most three per hour arrive, all answers are alike."""
    await account.client.post("/auth/signup", json={"email": "new@example.com", "password": PASSWORD})
    for path, email in (("/auth/forgot-password", EMAIL), ("/auth/verify/resend", "new@example.com")):
        mailbox.clear()
        answers = await asyncio.gather(
            *(account.client.post(path, json={"email": email}) for _ in range(25)),
            *(account.client.post(path, json={"email": email.upper()}) for _ in range(25)),
        )
        assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
        assert len(mailbox.messages) == 3
    clock.advance(hours=1)
    mailbox.clear()
    await account.client.post("/auth/forgot-password", json={"email": EMAIL})
    assert len(mailbox.messages) == 1


@on_one_database
async def test_no_account_mails_to_strangers_again_and_again(account: Account, mailbox: Mailbox) -> None:
    """A-32."""
    mailbox.clear()
    for number in range(6):
        body = {"email": f"stranger{number}@example.com"}
        answer = await account.client.patch("/account", json=body, headers=account.headers)
        assert answer.status_code == 200
    assert len([message for message in mailbox.messages if message["To"] != EMAIL]) == 3


@on_one_database
async def test_a_taken_address_is_told_by_mail_three_times_at_most(
    account: Account, settings: AuthSettings, mailbox: Mailbox
) -> None:
    settings.prevent_enumeration = True
    mailbox.clear()
    for _ in range(6):
        answer = await account.client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
        assert answer.status_code == 201
    assert len(mailbox.messages) == 3


@pytest.mark.parametrize("microsecond", [0, 1, 400, 999, 999_999])
async def test_who_waits_exactly_as_long_as_was_told_is_let_in(
    settings: AuthSettings, tortoise: TortoiseContext, microsecond: int
) -> None:
    now = datetime(2030, 1, 1, microsecond=microsecond, tzinfo=UTC)
    app = FastAPI()
    settings.throttle_free_attempts = 1
    auth = include_auth(app, settings=settings, clock=lambda: now)
    body = {"email": EMAIL, "password": "wrong password"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        for _ in range(4):
            assert (await client.post("/auth/login", json=body)).status_code == 401
            refused = await client.post("/auth/login", json=body)
            assert refused.status_code == 429
            now += timedelta(seconds=int(refused.headers["retry-after"]))
    await auth.close()
