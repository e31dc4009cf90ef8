"""The owner of an account is told what was changed, and other sessions do not outlive the change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx
import pyotp
import pytest

from fastapi_pluggable_auth.models import Mail, User

from .conftest import EMAIL, PASSWORD, SQLITE_UNLESS_FULL, Account, Clock, Mailbox
from .test_password import NEW, forgot, reset

DIALECTS = SQLITE_UNLESS_FULL


async def change_password(account: Account) -> httpx.Response:
    body = {"old_password": PASSWORD, "new_password": NEW}
    return await account.client.post("/account/change-password", json=body, headers=account.headers)


async def reset_password(account: Account) -> httpx.Response:
    answer = await reset(account.client, await forgot(account.client, account.mailbox))
    account.mailbox.server.deliveries.pop(0)
    return answer


async def enable_two_factor(account: Account) -> httpx.Response:
    await account.client.post("/auth/2fa/enable", headers=account.headers)
    code = pyotp.TOTP((await User.get()).totp_secret or "").now()
    return await account.client.post("/auth/2fa/verify", json={"code": code}, headers=account.headers)


async def disable_two_factor(account: Account) -> httpx.Response:
    await enable_two_factor(account)
    account.mailbox.clear()
    return await account.client.post("/account/2fa/disable", headers=account.headers)


CHANGES = [
    (change_password, "password"),
    (reset_password, "password"),
    (enable_two_factor, "switched on"),
    (disable_two_factor, "switched off"),
]


@pytest.mark.parametrize(("change", "says"), CHANGES)
async def test_each_change_is_told_once_with_its_time_and_no_secret(
    change: Callable[[Account], AsyncIterator[httpx.Response]],
    says: str,
    account: Account,
    mailbox: Mailbox,
    clock: Clock,
) -> None:
    """A-23."""
    mailbox.clear()
    answer = await change(account)  # type: ignore[misc]
    assert answer.status_code in (200, 204), answer.text
    (notice,) = mailbox.messages
    text = notice.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert notice["To"] == EMAIL
    assert says in text
    assert f"{clock():%Y-%m-%d %H:}" in text
    for secret in (PASSWORD, NEW, (await User.get()).totp_secret or PASSWORD, "eyJ"):
        assert secret not in str(notice)


@pytest.mark.parametrize("change", [change for change, _ in CHANGES if change is not disable_two_factor])
async def test_other_sessions_end_with_each_change(
    change: Callable[[Account], AsyncIterator[httpx.Response]], account: Account
) -> None:
    """A-48."""
    other = Account(account.client, account.mailbox, EMAIL, PASSWORD)
    await other.login()
    await change(account)  # type: ignore[misc]
    assert (await other.me()).status_code == 401
    assert (await other.refresh()).status_code == 401


async def test_switching_off_ends_the_other_sessions_and_keeps_this_one(
    account: Account, clock: Clock
) -> None:
    """A-48."""
    await enable_two_factor(account)
    clock.advance(minutes=1)
    other = Account(account.client, account.mailbox, EMAIL, PASSWORD)
    code = pyotp.TOTP((await User.get()).totp_secret or "").at(clock())
    assert (await other.login(code)).status_code == 200
    disabled = await account.client.post("/account/2fa/disable", headers=account.headers)
    assert disabled.status_code == 204
    assert (await other.me()).status_code == 401
    assert (await account.me()).status_code == 200
    assert (await account.refresh()).status_code == 200


async def test_switching_off_what_is_off_is_no_change(account: Account, mailbox: Mailbox) -> None:
    mailbox.clear()
    await account.client.post("/auth/2fa/enable", headers=account.headers)
    for _ in range(2):
        answer = await account.client.post("/account/2fa/disable", headers=account.headers)
        assert answer.status_code == 204
    assert mailbox.messages == []
    assert (await User.get()).totp_secret is None


async def test_a_refused_change_is_not_told(account: Account, mailbox: Mailbox) -> None:
    before = await Mail.all().count()
    mailbox.clear()
    body = {"old_password": "wrong password", "new_password": NEW}
    await account.client.post("/account/change-password", json=body, headers=account.headers)
    await account.client.post("/auth/2fa/enable", headers=account.headers)
    await account.client.post("/auth/2fa/verify", json={"code": "000000"}, headers=account.headers)
    assert (mailbox.messages, await Mail.all().count()) == ([], before)
