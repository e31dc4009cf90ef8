"""Security events: each action is one line in the log and one call of each listener."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pyotp
import pytest
from tortoise.exceptions import OperationalError

from fastapi_pluggable_auth import Auth, AuthSettings, SecurityEvent
from fastapi_pluggable_auth.events import EventKind, Observation, Outcome
from fastapi_pluggable_auth.models import User

from .conftest import EMAIL, PASSWORD, Account, Clock, Mailbox
from .test_notices import change_password, disable_two_factor, enable_two_factor, reset_password
from .test_recovery import renew

# What is tested here is the same on every database.
DIALECTS = ("sqlite",)

FIELDS = ["time", "event", "outcome", "reason", "user", "actor", "session", "factors", "address", "agent"]
LOGGER = "fastapi_pluggable_auth.security"


class Watch:
    """What was told since the last look."""

    def __init__(self, auth: Auth, caplog: pytest.LogCaptureFixture) -> None:
        self.heard: list[SecurityEvent] = []
        self.caplog = caplog
        auth.on(SecurityEvent)(self.heard.append)
        caplog.set_level(logging.INFO, LOGGER)

    def names(self) -> list[str]:
        """`kind outcome reason` of each event, the oldest first; log and listener have to agree."""
        lines = [json.loads(record.getMessage()) for record in self.caplog.records if record.name == LOGGER]
        assert [line["event"] for line in lines] == [event.kind for event in self.heard]
        for line in lines:
            assert list(line) == FIELDS
            assert datetime.fromisoformat(line["time"]).tzinfo == UTC
        told = [f"{line['event']} {line['outcome']} {line['reason'] or ''}".strip() for line in lines]
        self.heard.clear()
        self.caplog.clear()
        return told


@pytest.fixture
def watch(account: Account, auth: Auth, caplog: pytest.LogCaptureFixture) -> Watch:
    """Looks from after the sign-up on."""
    caplog.clear()
    return Watch(auth, caplog)


async def totp(clock: Clock) -> str:
    return pyotp.TOTP((await User.get()).totp_secret or "").at(clock())


async def test_signing_up_and_in_is_told(account: Account, watch: Watch) -> None:
    """A-90."""
    await account.client.post("/auth/signup", json={"email": "eve@example.com", "password": PASSWORD})
    await account.client.post(account.mailbox.link("eve@example.com"))
    await account.client.post("/auth/signup", json={"email": EMAIL, "password": PASSWORD})
    await account.client.get("/auth/verify/nonsense")
    assert watch.names() == [
        "signup success",
        "email_verification success",
        "signup failure email_taken",
        "email_verification failure invalid_link",
    ]
    await account.login()
    event = watch.heard[-1]
    user = await User.get(email=EMAIL)
    assert (event.kind, event.user_id, event.factors) == (EventKind.LOGIN, user.id, ("pwd",))
    assert event.session_id is not None
    assert event.origin.address == "192.0.2.7"
    assert event.origin.user_agent.startswith("python-httpx/")
    watch.names()
    wrong = Account(account.client, account.mailbox, EMAIL, "wrong password")
    await wrong.login()
    unknown = Account(account.client, account.mailbox, "nobody@example.com", PASSWORD)
    await unknown.login()
    assert [event.user_id for event in watch.heard] == [user.id, None]
    assert watch.names() == ["login failure invalid_credentials"] * 2


async def test_two_factor_is_told(account: Account, watch: Watch, clock: Clock) -> None:
    """A-90, A-23: a right password with a wrong code can be told from a wrong password."""
    await enable_two_factor(account)
    assert watch.names() == [
        "two_factor_enrolment success",
        "two_factor_enabled success",
        "two_factor_verification success",
    ]
    await account.login("000000")
    assert watch.heard[-1].factors == ("pwd",)
    await account.login()
    await account.login(await totp(clock))
    assert watch.heard[-1].factors == ("pwd", "otp")
    codes = (await renew(account)).json()["codes"]
    await account.login(codes[0])
    assert watch.heard[-1].factors == ("pwd", "recovery")
    await account.client.post("/account/2fa/disable", headers=account.headers)
    assert watch.names() == [
        "login failure invalid_credentials",
        "login_begun success",
        "login success",
        "recovery_codes_renewed success",
        "recovery_code_used success",
        "login success",
        "two_factor_disabled success",
    ]


async def test_sessions_are_told(account: Account, watch: Watch, clock: Clock) -> None:
    """A-90, R-05."""
    spent = account.refresh_token
    tokens = (await account.refresh()).json()
    await account.refresh(spent)
    clock.advance(minutes=1)
    await account.refresh(spent)
    await account.refresh(spent)
    await account.refresh(tokens["refresh_token"])
    await account.me(tokens["access_token"])
    await account.client.get("/auth/me")
    assert watch.names() == [
        "token_refresh success",
        "token_refresh failure refresh_raced",
        "refresh_lost success",
        "token_refresh failure refresh_raced",
        "token_refresh failure refresh_raced",
        "refresh_reuse failure",
        "token_refresh failure invalid_token",
        "access failure invalid_token",
    ]
    await account.login()
    sessions = (await account.client.get("/account/sessions", headers=account.headers)).json()
    await account.client.post("/account/logout-others", headers=account.headers)
    await account.client.delete(f"/account/sessions/{sessions[0]['id']}", headers=account.headers)
    await account.client.post("/auth/logout", headers=account.headers)  # of the session that has just ended
    await account.login()
    await account.client.post("/auth/logout", headers=account.headers)
    assert watch.names() == [
        "login success",
        "other_sessions_end success",
        "session_end success",
        "login success",
        "logout success",
    ]


async def test_changes_of_the_account_are_told(account: Account, watch: Watch, mailbox: Mailbox) -> None:
    """A-90."""
    body = {"email": "new@example.com"}
    await account.client.patch("/account", json={"display_name": "Ada"}, headers=account.headers)
    await account.client.patch("/account", json=body, headers=account.headers)
    await account.client.post(mailbox.link("new@example.com"))
    account.email = "new@example.com"
    await change_password(account)
    account.password = "a wrong password"
    await account.login()
    await account.client.post("/auth/forgot-password", json=body)
    token = mailbox.token("new@example.com")
    url = f"/auth/reset-password/{token}"
    await account.client.post(url, json={"new_password": "12345678"})
    await account.client.post(url, json={"new_password": PASSWORD})
    account.password = PASSWORD
    await account.login()
    reauthentication = {"password": "no"}
    await account.client.post("/auth/reauthenticate", json=reauthentication, headers=account.headers)
    await account.client.delete("/account", headers=account.headers)
    assert watch.names() == [
        "email_change_request success",
        "email_change success",
        "password_change success",
        "login failure invalid_credentials",
        "password_reset_request success",
        "password_reset failure password_too_common",
        "password_reset success",
        "login success",
        "reauthentication failure reauthentication_failed",
        "account_deletion success",
    ]


async def test_a_throttled_guess_is_told(account: Account, watch: Watch, settings: AuthSettings) -> None:
    """A-90."""
    settings.throttle_free_attempts = 1
    for _ in range(2):
        await Account(account.client, account.mailbox, EMAIL, "wrong password").login()
    assert watch.names() == ["login failure invalid_credentials", "login failure throttled"]


async def test_no_secret_is_in_any_line_of_any_log(
    account: Account, caplog: pytest.LogCaptureFixture, mailbox: Mailbox, clock: Clock
) -> None:
    """A-91: at DEBUG level, over a run through the flows. Drivers and Tortoise log what they bind, so only
    what the library logs itself is looked at."""
    caplog.set_level(logging.DEBUG, "fastapi_pluggable_auth")
    secrets = [PASSWORD, account.access_token, account.refresh_token]
    await account.refresh("x" + account.refresh_token)
    await account.me("x" + account.access_token)
    await disable_two_factor(account)
    await enable_two_factor(account)
    secrets += [(await User.get()).totp_secret or "", await totp(clock)]
    secrets += (await renew(account)).json()["codes"]
    await account.login(secrets[-1])
    await account.login(await totp(clock))
    await reset_password(account)
    secrets.append(mailbox.token() if "/auth/" in str(mailbox.messages[-1]) else PASSWORD)
    ours = [record for record in caplog.records if record.name.startswith("fastapi_pluggable_auth")]
    text = "\n".join(record.getMessage() for record in ours)
    assert len(ours) > 8
    assert [secret for secret in secrets if secret in text] == []
    assert EMAIL not in text


@pytest.mark.parametrize("agent", [b"one\x1b[31mtwo", b"a\xe2\x80\xa8b", b"\x00\x07", b"x" * 4000])
async def test_what_a_client_sends_starts_no_line_in_the_log(
    agent: bytes, account: Account, watch: Watch
) -> None:
    """A-91."""
    headers: Any = [(b"User-Agent", agent), (b"X-Forwarded-For", b"10.0.0.1\x0b")]
    await account.client.get("/auth/me", headers=[*headers, (b"Authorization", b"Bearer nonsense")])
    (record,) = [record for record in watch.caplog.records if record.name == LOGGER]
    assert record.getMessage().isprintable()
    assert record.getMessage().isascii()
    assert len(record.getMessage()) < 1500


async def test_a_listener_may_be_async_and_may_fail(
    account: Account, auth: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    heard = []

    @auth.on(SecurityEvent)
    async def fails(event: SecurityEvent) -> None:
        raise RuntimeError("on purpose")

    @auth.on(SecurityEvent)
    async def listens(event: SecurityEvent) -> None:
        heard.append(event.kind)

    assert (await account.login()).status_code == 200
    assert heard == [EventKind.LOGIN]
    assert "fails failed on SecurityEvent" in caplog.text


async def test_an_event_in_the_log_carries_the_event_itself(
    auth: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    await auth.events.emit(EventKind.LOGOUT, Outcome.SUCCESS, Observation())
    (record,) = caplog.records
    assert isinstance(record.__dict__["security_event"], SecurityEvent)


async def test_what_failed_with_the_database_is_not_told_as_done(
    auth: Auth, caplog: pytest.LogCaptureFixture
) -> None:
    """A success is told after the commit, and a request that the database fails has none."""
    watch = Watch(auth, caplog)
    with pytest.raises(OperationalError):
        async with auth.events.observe(EventKind.LOGIN):
            raise OperationalError
    assert watch.names() == []
