"""Guesses at passwords and codes: where they are counted, what ends them, and whom they never hold up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import httpx
import pyotp
import pytest

from fastapi_pluggable_auth import Auth, AuthSettings
from fastapi_pluggable_auth.features.administration.users import unlock_user
from fastapi_pluggable_auth.flows import throttle
from fastapi_pluggable_auth.models import Device, Throttle, User

from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox, on_one_database
from .test_notices import enable_two_factor
from .test_password import NEW, forgot, reset

DEFAULTS = AuthSettings.model_fields
NOBODY = "nobody@example.com"

networks = count(1)


@pytest.fixture(autouse=True)
def strict(settings: AuthSettings) -> None:
    """The limits as they are by default, behind a proxy that names the client."""
    settings.throttle_free_attempts = DEFAULTS["throttle_free_attempts"].default
    settings.trusted_proxies = ["192.0.2.0/24"]  # type: ignore[list-item]  # validated


def elsewhere() -> dict[str, str]:
    """The headers of a client in a network that no other client is in."""
    number = next(networks)
    return {"X-Forwarded-For": f"10.{number // 256}.{number % 256}.9"}


async def login(
    client: httpx.AsyncClient, headers: dict[str, str] | None = None, **body: object
) -> httpx.Response:
    body = {"email": EMAIL, "password": PASSWORD} | body
    return await client.post("/auth/login", json=body, headers=headers)


async def wrong(client: httpx.AsyncClient, **body: object) -> httpx.Response:
    """A wrong password, from a new network."""
    return await login(client, elsewhere(), **{"password": "wrong password"} | body)


async def lock(client: httpx.AsyncClient, email: str = EMAIL) -> None:
    """As many wrong passwords as there may be in a day."""
    answers = [await wrong(client, email=email) for _ in range(100)]
    assert {answer.json()["code"] for answer in answers} == {"invalid_credentials"}


async def known(account: Account) -> str:
    """Signs in on a device; gives its value."""
    device: str = (await login(account.client, elsewhere(), device=None)).json()["device"]
    return device


def code(answer: httpx.Response) -> str:
    """What the answer says."""
    said: str = answer.json().get("code", str(answer.status_code))
    return said


# --- everywhere else --------------------------------------------------------------------------------------


async def test_a_hundred_wrong_passwords_a_day_are_all_whatever_network_they_come_from(
    account: Account, clock: Clock
) -> None:
    """A-13, ASVS 6.3.1: then not even the right one is looked at, and the answer says what helps."""
    await lock(account.client)
    refused = await login(account.client, elsewhere())
    assert (refused.status_code, code(refused)) == (429, "password_locked")
    assert "by mail" in refused.json()["detail"]
    assert 86000 < int(refused.headers["retry-after"]) <= 86400
    clock.advance(hours=23, minutes=59)
    assert code(await login(account.client, elsewhere())) == "password_locked"
    clock.advance(minutes=1, seconds=1)
    assert (await login(account.client, elsewhere())).status_code == 200


@on_one_database
async def test_the_hundred_are_those_of_any_24_hours(account: Account, clock: Clock) -> None:
    for _ in range(60):
        assert code(await wrong(account.client)) == "invalid_credentials"
    clock.advance(hours=23)
    for _ in range(40):
        assert code(await wrong(account.client)) == "invalid_credentials"
    assert code(await wrong(account.client)) == "password_locked"
    clock.advance(hours=1, seconds=1)
    for _ in range(60):
        assert code(await wrong(account.client)) == "invalid_credentials"
    assert code(await wrong(account.client)) == "password_locked"


@on_one_database
async def test_right_passwords_in_between_give_no_more_guesses(account: Account) -> None:
    for _ in range(25):
        for _ in range(4):
            assert code(await wrong(account.client)) == "invalid_credentials"
        assert (await login(account.client, elsewhere())).status_code in (200, 429)
    assert code(await wrong(account.client)) == "password_locked"


async def test_a_mail_opens_a_locked_account_and_the_client_that_reset_it_is_known(
    account: Account, mailbox: Mailbox
) -> None:
    """A-14: on a new device the mail always works."""
    await lock(account.client)
    token = (await forgot(account.client, mailbox)).rsplit("/", 1)[1]
    body = {"new_password": NEW, "device": None}
    answer = await account.client.post(f"/auth/reset-password/{token}", json=body)
    assert answer.status_code == 200
    await lock(account.client)
    assert code(await login(account.client, elsewhere(), password=NEW)) == "password_locked"
    device = answer.json()["device"]
    assert (await login(account.client, elsewhere(), password=NEW, device=device)).status_code == 200


@on_one_database
async def test_a_reset_without_a_device_opens_it_too(account: Account, mailbox: Mailbox) -> None:
    await lock(account.client)
    answer = await reset(account.client, await forgot(account.client, mailbox))
    assert answer.json().keys() == {"detail"}
    assert (await login(account.client, elsewhere(), password=NEW)).status_code == 200


@on_one_database
async def test_a_name_without_an_account_gets_the_same_answers(
    account: Account, settings: AuthSettings
) -> None:
    """A-20."""
    settings.throttle_first_pause = timedelta(minutes=1)
    sequences = set()
    for email in (EMAIL, NOBODY):
        sequence = []
        for number in range(103):
            # Some networks more often than they may.
            here = {"X-Forwarded-For": f"10.99.{number % 12}.{number}"}
            answer = await login(account.client, here, email=email, password="wrong password", device="x")
            sequence.append((answer.status_code, answer.content, "retry-after" in answer.headers))
        sequences.add(tuple(sequence))
        for _ in range(100):
            answer = await wrong(account.client, email=email)
        sequence.append((answer.status_code, answer.content))  # type: ignore[arg-type]
    assert len(sequences) == 1
    (sequence,) = sequences  # type: ignore[assignment]
    assert {status for status, *_ in sequence} == {401, 429}


async def test_one_network_does_not_delay_another(account: Account) -> None:
    here = elsewhere()
    neighbour = {"X-Forwarded-For": here["X-Forwarded-For"].replace(".9", ".200")}
    for _ in range(5):
        assert code(await login(account.client, here, password="wrong password")) == "invalid_credentials"
    assert code(await login(account.client, here)) == "throttled"
    assert code(await login(account.client, neighbour)) == "throttled"
    assert (await login(account.client, elsewhere())).status_code == 200


async def test_of_many_guesses_from_many_networks_at_once_no_more_are_made_than_allowed(
    account: Account, settings: AuthSettings
) -> None:
    """R-20."""
    settings.throttle_daily_limit = 10
    answers = await asyncio.gather(*(wrong(account.client) for _ in range(40)))
    codes = [code(answer) for answer in answers]
    assert codes.count("invalid_credentials") == 10
    assert set(codes) == {"invalid_credentials", "password_locked"}


async def test_names_that_anybody_makes_up_fill_no_table(
    account: Account, settings: AuthSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was tried often stays counted."""
    settings.throttle_first_pause = timedelta(minutes=1)
    monkeypatch.setattr(throttle, "SETS", 2)
    here = elsewhere()
    others = await Throttle.filter(holder=None).count()
    for _ in range(5):
        await login(account.client, here, email=NOBODY, password="wrong password")
    for number in range(60):
        await wrong(account.client, email=f"u{number}@example.com")
        await account.client.post("/auth/forgot-password", json={"email": f"m{number}@example.com"})
    assert await Throttle.filter(holder__not_isnull=True).count() <= 16
    assert await Throttle.filter(holder=None).count() == others
    assert code(await login(account.client, here, email=NOBODY)) == "throttled"


# --- on a known device ------------------------------------------------------------------------------------


@on_one_database
async def test_a_client_is_known_only_where_it_asks_for_it(account: Account) -> None:
    answer = await login(account.client)
    assert answer.json().keys() == {"access_token", "refresh_token", "token_type"}
    assert await Device.all().count() == 0
    answer = await login(account.client, device=None)
    assert answer.json().keys() == {"access_token", "refresh_token", "token_type", "device"}
    value = answer.json()["device"]
    assert len(value) == 43
    (device,) = await Device.all()
    assert value not in str(vars(device))
    assert (await login(account.client, device=value)).json()["device"] == value
    assert await Device.all().count() == 1


@on_one_database
async def test_nobody_without_it_delays_one_on_a_known_device_or_in_a_session(
    account: Account, clock: Clock
) -> None:
    """A-14: somebody asks again each time that `Retry-After` has passed, for a day."""
    device = await known(account)
    here = {"X-Forwarded-For": "10.200.0.1"}
    await lock(account.client)
    reauthentication = {"password": PASSWORD}
    for _ in range(24):
        refused = await login(account.client, here, password="wrong password")
        assert refused.status_code in (401, 429)
        # The owner, in the very same network.
        assert (await login(account.client, here, device=device)).status_code == 200
        url, headers = "/auth/reauthenticate", account.headers | here
        account.access_token = (await account.refresh()).json()["access_token"]
        headers = account.headers | here
        assert (await account.client.post(url, json=reauthentication, headers=headers)).status_code == 200
        account.refresh_token = (await login(account.client, here, device=device)).json()["refresh_token"]
        clock.advance(hours=1)


@on_one_database
async def test_on_a_known_device_guesses_have_to_wait_and_after_twenty_it_is_unknown(
    account: Account, clock: Clock
) -> None:
    device = await known(account)
    statuses = [(await wrong(account.client, device=device)).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    assert code(await login(account.client, elsewhere(), device=device)) == "throttled"
    assert (await login(account.client, elsewhere())).status_code == 200
    clock.advance(seconds=2)
    assert (await login(account.client, elsewhere(), device=device)).status_code == 200  # counts anew
    for _ in range(20):
        clock.advance(minutes=16)
        assert (await wrong(account.client, device=device)).status_code == 401
    assert await Device.all().count() == 0
    clock.advance(minutes=16)
    await lock(account.client)
    assert code(await login(account.client, elsewhere(), device=device)) == "password_locked"


async def test_a_quiet_day_gives_a_device_no_more_guesses(account: Account, auth: Auth, clock: Clock) -> None:
    from fastapi_pluggable_auth.flows.purge import purge

    device = await known(account)
    for _ in range(20):
        assert (await wrong(account.client, device=device)).status_code == 401
        clock.advance(hours=25)
        await purge(auth)
    assert await Device.all().count() == 0


@on_one_database
async def test_only_a_value_that_was_given_to_this_account_makes_known(
    account: Account, register: Callable[..., Any], clock: Clock
) -> None:
    """User-Agent and address make nobody known; nobody plants a value, and none is another account's."""
    other: Account = await register("eve@example.com")
    of_eve = (await login(other.client, email=other.email, device=None)).json()["device"]
    mine = await known(account)
    for value in (of_eve, "x", "A" * 43, mine[:-1], f" {mine}", mine.swapcase()):
        given = (await login(account.client, device=value)).json()["device"]
        assert given not in (of_eve, value, mine)
    await lock(account.client)
    for value in (of_eve, "x", None, mine[:-1], f"{mine} ", mine.swapcase()):
        assert code(await login(account.client, elsewhere(), device=value)) == "password_locked"
    clock.advance(days=91)
    await lock(account.client)
    assert code(await login(account.client, elsewhere(), device=mine)) == "password_locked"


async def test_an_account_knows_ten_devices_and_the_oldest_goes(account: Account, clock: Clock) -> None:
    devices = []
    for _ in range(12):
        devices.append(await known(account))
        clock.advance(minutes=1)
    assert await Device.all().count() == 10
    await lock(account.client)
    statuses = [(await login(account.client, elsewhere(), device=each)).status_code for each in devices]
    assert statuses == [429] * 2 + [200] * 10


async def test_a_device_is_known_after_all_factors_and_until_a_reset(
    account: Account, mailbox: Mailbox, clock: Clock
) -> None:
    assert (await enable_two_factor(account)).status_code == 200
    totp = pyotp.TOTP((await User.get()).totp_secret or "")
    for given in (None, "000000"):
        assert (await login(account.client, device=None, code=given)).status_code == 401
    assert await Device.all().count() == 0
    clock.advance(minutes=1)
    answer = await login(account.client, device=None, code=totp.at(clock()))
    assert (answer.status_code, await Device.all().count()) == (200, 1)
    assert (await reset(account.client, await forgot(account.client, mailbox))).status_code == 200
    assert await Device.all().count() == 0


# --- in a session -----------------------------------------------------------------------------------------


@on_one_database
async def test_a_right_code_of_ones_own_pending_secret_gives_no_more_guesses(
    account: Account, clock: Clock
) -> None:
    """Somebody in a stolen session can begin with a secret of his own."""
    url, headers = "/auth/reauthenticate", account.headers
    for number in range(20):
        await account.client.post("/auth/2fa/enable", headers=headers)
        if number == 10:
            totp = pyotp.TOTP((await User.get()).totp_secret or "")
            body = {"code": totp.at(clock())}
            assert (await account.client.post("/auth/2fa/verify", json=body, headers=headers)).is_success
        answer = await account.client.post(url, json={"password": "wrong password"}, headers=headers)
        assert answer.status_code == 403
    assert (await account.me()).status_code == 401


async def test_many_guesses_in_a_session_at_once_are_no_more_than_twenty(account: Account) -> None:
    url, body = "/auth/reauthenticate", {"password": "wrong password"}
    work = [account.client.post(url, json=body, headers=account.headers) for _ in range(40)]
    answers = await asyncio.gather(*work)
    assert sum(code(answer) == "reauthentication_failed" for answer in answers) <= 20
    assert (await account.me()).status_code == 401


# --- codes ------------------------------------------------------------------------------------------------


@pytest.fixture
async def totp(account: Account) -> pyotp.TOTP:
    """Of an account with two-factor, and a clock that is past its first code."""
    assert (await enable_two_factor(account)).status_code == 200
    return pyotp.TOTP((await User.get()).totp_secret or "")


async def wrong_codes(account: Account, number: int, password: str = PASSWORD) -> list[str]:
    """Wrong codes after the right password, each from a new network."""
    tries = range(number)
    return [code(await login(account.client, elsewhere(), password=password, code="000000")) for _ in tries]


async def test_the_owner_is_told_of_wrong_codes_after_the_right_password(
    totp: pyotp.TOTP, account: Account, mailbox: Mailbox, clock: Clock
) -> None:
    """A-71, ASVS 6.3.5."""
    mailbox.clear()
    await wrong_codes(account, 4)
    assert mailbox.messages == []
    await wrong_codes(account, 20)
    (mail,) = mailbox.messages
    assert mail["Subject"] == "Wrong two-factor codes for MyApp"
    assert "5 wrong" in str(mail.get_body(("plain",)))
    clock.advance(minutes=1)
    assert (await login(account.client, elsewhere(), code=totp.at(clock()))).status_code == 200
    await wrong_codes(account, 5)
    assert len(mailbox.messages) == 2


async def test_after_a_hundred_wrong_codes_none_is_looked_at_until_somebody_lifts_that(
    totp: pyotp.TOTP, account: Account, mailbox: Mailbox, clock: Clock, auth: Auth
) -> None:
    """A-71: neither time nor a reset, a device or another network does."""
    clock.advance(minutes=1)
    device = (await login(account.client, device=None, code=totp.at(clock()))).json()["device"]
    clock.advance(minutes=1)
    for number in range(100):
        assert await wrong_codes(account, 1) == ["invalid_credentials"], number
    for body in ({}, {"device": device}):
        refused = await login(account.client, elsewhere(), code=totp.at(clock()), **body)
        assert (refused.status_code, code(refused)) == (429, "codes_locked")
        assert "recovery code" in refused.json()["detail"]
    # Nothing of it shows without the password, and without a code nothing is guessed.
    assert code(await wrong(account.client, code="000000")) == "invalid_credentials"
    assert code(await login(account.client, elsewhere())) == "two_factor_required"
    clock.advance(days=60)
    assert code(await login(account.client, elsewhere(), code=totp.at(clock()))) == "codes_locked"
    assert (await reset(account.client, await forgot(account.client, mailbox))).status_code == 200
    body = {"password": NEW, "code": totp.at(clock())}
    assert code(await login(account.client, elsewhere(), **body)) == "codes_locked"
    await unlock_user(auth, (await User.get()).id)
    assert (await login(account.client, elsewhere(), **body)).status_code == 200


@on_one_database
async def test_a_recovery_code_passes_where_codes_are_locked_and_lifts_it(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    answer = await account.client.post("/auth/2fa/recovery-codes", headers=account.headers)
    recovery = answer.json()["codes"][0]
    for _ in range(100):
        await wrong_codes(account, 1)
    wrong_one = recovery.translate(str.maketrans("abcdefg", "bcdefga"))
    here = elsewhere()
    said = [code(await login(account.client, here, code=wrong_one)) for _ in range(6)]
    assert said == ["invalid_credentials"] * 5 + ["throttled"]
    assert code(await login(account.client, elsewhere(), code=totp.at(clock()))) == "codes_locked"
    assert (await login(account.client, elsewhere(), code=recovery)).status_code == 200
    assert (await login(account.client, elsewhere(), code=totp.at(clock()))).status_code == 200


@on_one_database
async def test_wrong_codes_are_no_wrong_passwords(totp: pyotp.TOTP, account: Account, clock: Clock) -> None:
    """Both have a hundred, and whoever knows the password does not lock it as well."""
    await wrong_codes(account, 99)
    await lock(account.client)
    assert code(await login(account.client, elsewhere())) == "password_locked"
    clock.advance(hours=24, seconds=1)
    assert code(await login(account.client, elsewhere())) == "two_factor_required"
    assert await wrong_codes(account, 2) == ["invalid_credentials", "codes_locked"]


async def test_a_reset_does_not_start_the_pauses_of_codes_anew(
    totp: pyotp.TOTP, account: Account, mailbox: Mailbox, clock: Clock
) -> None:
    here = elsewhere()
    for _ in range(5):
        assert code(await login(account.client, here, code="000000")) == "invalid_credentials"
    assert (await reset(account.client, await forgot(account.client, mailbox))).status_code == 200
    assert code(await login(account.client, here, password=NEW, code=totp.at(clock()))) == "throttled"
    assert code(await login(account.client, here, password=NEW)) == "two_factor_required"


@on_one_database
async def test_who_has_a_session_confirms_it_although_codes_are_locked(
    totp: pyotp.TOTP, account: Account, clock: Clock
) -> None:
    for _ in range(100):
        await wrong_codes(account, 1)
    account.access_token = (await account.refresh()).json()["access_token"]
    body = {"password": PASSWORD, "code": totp.at(clock())}
    answer = await account.client.post("/auth/reauthenticate", json=body, headers=account.headers)
    assert answer.status_code == 200
